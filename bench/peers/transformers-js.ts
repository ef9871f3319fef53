/** transformers.js (onnxruntime) beside our own decoding: the same weights as an ONNX file of bench/peers/onnx. */
import { saveOnnx } from './onnx/llama.js'
import type { TaskPeer } from './task-peer.js'

export const transformersJs: TaskPeer = {
  name: 'transformers.js',
  packageName: '@huggingface/transformers',
  program: 'transformers-js.mjs',
  // onnxruntime has no products of bf16 matrices for processors.
  dtypes: ['f32'],
  async save(model, directory) {
    await saveOnnx(model, directory)
    return directory
  },
}
