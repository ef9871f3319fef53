/** PyTorch beside our own passes on the CPU, where `python3` (or ALMA_PYTHON) can import it. */
import type { LlamaConfig } from '../../lib/model/index.js'
import type { Device } from '../../lib/runtime/index.js'
import { LinePeer, peerProgram } from './lines.js'

export type TorchRequest =
  | { op: 'train'; dtype: 'f32' | 'bf16'; sequences: number; length: number }
  | { op: 'prompt'; dtype: 'f32' | 'bf16'; length: number }

/** One pass, over and over: its model stays there until this is disposed. */
export class TorchLlama implements AsyncDisposable {
  readonly #peer: LinePeer
  readonly #request: Readonly<Record<string, unknown>>
  #name = 'PyTorch'
  #reason: string | undefined

  constructor(device: Device, config: LlamaConfig, request: TorchRequest) {
    const threads = String(device.threads)
    const environment = { OMP_NUM_THREADS: threads, MKL_NUM_THREADS: threads }
    const args = ['-u', peerProgram('torch_llama_peer.py'), threads]
    this.#peer = new LinePeer('PyTorch', process.env.ALMA_PYTHON ?? 'python3', args, { environment })
    const model = {
      layers: config.numHiddenLayers,
      vocabSize: config.vocabSize,
      hiddenSize: config.hiddenSize,
      intermediateSize: config.intermediateSize,
      heads: config.numAttentionHeads,
      kvHeads: config.numKeyValueHeads,
      tied: config.tieWordEmbeddings,
    }
    this.#request = { ...request, model }
  }

  /** With its version, once it has answered. */
  get name(): string {
    return this.#name
  }

  /** Why there are no figures; for people. */
  get reason(): string | undefined {
    if (this.#reason === undefined) return undefined
    return `PyTorch: no figures, ${this.#reason}; pip install torch; ALMA_PYTHON names the python that has it`
  }

  /** Never throws. `undefined`: there is a reason. */
  async run(): Promise<{ seconds: number } | undefined> {
    if (this.#reason !== undefined) return undefined
    const { name, seconds, reason } = await this.#peer.ask(this.#request)
    if (seconds === null) {
      this.#reason = reason ?? 'no reason given'
      return undefined
    }
    this.#name = name
    return { seconds }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#peer[Symbol.asyncDispose]()
  }
}
