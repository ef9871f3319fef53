/** node-llama-cpp beside our own decoding: the same weights through our GGUF export. */
import { join } from 'node:path'
import { type GgufValue, saveGguf } from '../../lib/model/index.js'
import type { TaskPeer } from './task-peer.js'

export const nodeLlamaCpp: TaskPeer = {
  name: 'node-llama-cpp',
  packageName: 'node-llama-cpp',
  program: 'node-llama-cpp.mjs',
  dtypes: ['f32', 'bf16'],
  async save(model, directory, dtype) {
    const path = join(directory, 'model.gguf')
    await saveGguf(model, path, { dtype, tokenizer: syntheticTokenizer(model.config.vocabSize) })
    return path
  },
}

/** llama.cpp loads no model without a vocabulary; nothing is tokenised here. */
function syntheticTokenizer(vocabSize: number): Map<string, GgufValue> {
  const special = ['<unk>', '<s>', '</s>']
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`)
  const known = [...special, ...bytes]
  const tokens = Array.from({ length: vocabSize }, (_, id) => known[id] ?? `\u2581t${id}`)
  return new Map<string, GgufValue>([
    ['tokenizer.ggml.model', { type: 'string', value: 'llama' }],
    ['tokenizer.ggml.tokens', { type: 'strings', value: tokens }],
    ['tokenizer.ggml.scores', { type: 'f32s', value: tokens.map((_, id) => -id) }],
    [
      'tokenizer.ggml.token_type',
      { type: 'i32s', value: tokens.map((_, id) => (id === 0 ? 2 : id < 3 ? 3 : id < 259 ? 6 : 1)) },
    ],
    ['tokenizer.ggml.bos_token_id', { type: 'u32', value: 1 }],
    ['tokenizer.ggml.eos_token_id', { type: 'u32', value: 2 }],
    ['tokenizer.ggml.unknown_token_id', { type: 'u32', value: 0 }],
  ])
}
