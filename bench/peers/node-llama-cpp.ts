/**
 * node-llama-cpp beside our own decoding: the same weights through our GGUF export, in a child process. It is not a dependency:
 * `npm install --prefix DIR node-llama-cpp`, and `ALMA_BENCH_PEERS=DIR` names the folder. Without it the figures have no peer.
 */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type GgufValue, type LlamaForCausalLM, saveGguf } from '../../lib/model/index.js'
import { peerProgram } from './lines.js'

export interface PeerTask {
  readonly prompts: readonly (readonly number[])[]
  /** Tokens of a short answer; 0: the time of the prompt and `many` tokens is wanted. */
  readonly few: number
  readonly many: number
  readonly repeats: number
}

export interface PeerResult {
  readonly name: string
  readonly seconds: number
  readonly tokens: readonly (readonly number[])[]
}

/** How to get what is missing. */
export const installNodeLlamaCpp =
  'node-llama-cpp: not found; npm install --prefix DIR node-llama-cpp, and ALMA_BENCH_PEERS=DIR names the folder'

export class NodeLlamaCpp {
  readonly #folder: string
  readonly #directory: string
  readonly #model: string

  private constructor(folder: string, directory: string) {
    this.#folder = folder
    this.#directory = directory
    this.#model = join(directory, 'model.gguf')
  }

  /** Undefined when it is not installed. */
  static async open(model: LlamaForCausalLM, dtype: 'f32' | 'bf16'): Promise<NodeLlamaCpp | undefined> {
    const folder = process.env.ALMA_BENCH_PEERS
    if (folder === undefined || !existsSync(join(folder, 'node_modules', 'node-llama-cpp'))) return undefined
    const peer = new NodeLlamaCpp(folder, await mkdtemp(join(tmpdir(), 'alma-bench-')))
    try {
      await saveGguf(model, peer.#model, { dtype, tokenizer: syntheticTokenizer(model.config.vocabSize) })
      return peer
    } catch (error) {
      await peer.close()
      throw error
    }
  }

  /** One process for all the tasks: it loads the model once. */
  async run(threads: number, tasks: readonly PeerTask[]): Promise<PeerResult[]> {
    const args = [peerProgram('node-llama-cpp.mjs'), this.#folder, this.#model, JSON.stringify({ threads, tasks })]
    const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 2 ** 26 })
    const { version, tasks: results } = JSON.parse(stdout.slice(stdout.lastIndexOf('{"version"'))) as {
      version: string
      tasks: Omit<PeerResult, 'name'>[]
    }
    return results.map((result) => ({ name: `node-llama-cpp ${version}`, ...result }))
  }

  close(): Promise<void> {
    return rm(this.#directory, { recursive: true, force: true })
  }
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
