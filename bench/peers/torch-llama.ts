/** PyTorch beside our own passes on the CPU, where `python3` (or ALMA_PYTHON) can import it. */
import type { LlamaConfig } from '../../lib/model/index.js'
import type { Device } from '../../lib/runtime/index.js'
import { LinePeer, type PeerAnswer, peerProgram } from './lines.js'

export type TorchRequest =
  | { op: 'train'; dtype: 'f32' | 'bf16'; sequences: number; length: number; repeats: number }
  | { op: 'prompt'; dtype: 'f32' | 'bf16'; length: number; repeats: number }

/** How to get what is missing. */
export const installTorch = 'pip install torch; ALMA_PYTHON names the python that has it'

/** A process for each request: what it took does not stand in the way of the next. Never throws. */
export async function askTorch(device: Device, config: LlamaConfig, request: TorchRequest): Promise<PeerAnswer> {
  const threads = String(device.threads)
  const environment = { OMP_NUM_THREADS: threads, MKL_NUM_THREADS: threads }
  const args = ['-u', peerProgram('torch_llama_peer.py'), threads]
  await using peer = new LinePeer('PyTorch', process.env.ALMA_PYTHON ?? 'python3', args, environment)
  const model = {
    layers: config.numHiddenLayers,
    vocabSize: config.vocabSize,
    hiddenSize: config.hiddenSize,
    intermediateSize: config.intermediateSize,
    heads: config.numAttentionHeads,
    kvHeads: config.numKeyValueHeads,
    tied: config.tieWordEmbeddings,
  }
  return await peer.ask({ ...request, model })
}
