/** PyTorch beside our own passes on the CPU, where `python3` (or ALMA_PYTHON) can import it. */
import type { LlamaConfig } from '../../lib/model/index.js'
import type { Device } from '../../lib/runtime/index.js'
import { LinePeer, peerProgram } from './lines.js'
import { type PeerRun, PeerRunner } from './runner.js'

export type TorchRequest =
  | { op: 'train'; dtype: 'f32' | 'bf16'; sequences: number; length: number }
  | { op: 'prompt'; dtype: 'f32' | 'bf16'; length: number }

/** One pass, over and over: its model stays there until this is disposed. */
export class TorchLlama extends PeerRunner {
  readonly #request: Readonly<Record<string, unknown>>

  constructor(device: Device, config: LlamaConfig, request: TorchRequest) {
    const threads = String(device.threads)
    const environment = { OMP_NUM_THREADS: threads, MKL_NUM_THREADS: threads }
    const args = ['-u', peerProgram('torch_llama_peer.py'), threads]
    const program = new LinePeer('PyTorch', process.env.ALMA_PYTHON ?? 'python3', args, { environment })
    super('PyTorch', program, '; pip install torch; ALMA_PYTHON names the python that has it')
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

  /** `undefined`: there is a reason. */
  run(): Promise<PeerRun | undefined> {
    return this.ask(this.#request)
  }
}
