/** A LLaMA model as the GGUF file that llama.cpp and what is built on it (node-llama-cpp, Ollama, …) load. */
import { setImmediate } from 'node:timers/promises'
import { ops, Tensor } from '../runtime/index.js'
import { type LlamaConfig, ropeInverseFrequencies } from './config.js'
import { type GgufTensor, type GgufTensorType, type GgufValue, writeGguf } from './gguf.js'
import type { LlamaForCausalLM } from './llama.js'
import { bytesOf } from './save.js'

export interface SaveGgufOptions {
  /** Of the matrices; norms are F32 always, as llama.cpp wants them. Default: as in memory. */
  readonly dtype?: 'f32' | 'f16' | 'bf16'
  /** `general.name`. */
  readonly name?: string
  /** Keys `tokenizer.ggml.…`. */
  readonly tokenizer?: ReadonlyMap<string, GgufValue>
  readonly signal?: AbortSignal
}

const NAMES: readonly (readonly [RegExp, string])[] = [
  [/^model\.embed_tokens\.weight$/, 'token_embd.weight'],
  [/^model\.norm\.weight$/, 'output_norm.weight'],
  [/^lm_head\.weight$/, 'output.weight'],
  [/^model\.layers\.(\d+)\.input_layernorm\.weight$/, 'blk.$1.attn_norm.weight'],
  [/^model\.layers\.(\d+)\.self_attn\.([qkv])_proj\.weight$/, 'blk.$1.attn_$2.weight'],
  [/^model\.layers\.(\d+)\.self_attn\.o_proj\.weight$/, 'blk.$1.attn_output.weight'],
  [/^model\.layers\.(\d+)\.post_attention_layernorm\.weight$/, 'blk.$1.ffn_norm.weight'],
  [/^model\.layers\.(\d+)\.mlp\.(gate|up|down)_proj\.weight$/, 'blk.$1.ffn_$2.weight'],
]

/** llama.cpp's numbers for "mostly of this type". */
const FILE_TYPES = { f32: 0, f16: 1, bf16: 32 } as const

/**
 * Writes the file; an older one stays whole until the new one is.
 *
 * @throws AlmaError ERR_ALMA_IO; the signal's reason
 */
export async function saveGguf(model: LlamaForCausalLM, path: string, options: SaveGgufOptions = {}): Promise<void> {
  const { config } = model
  const { name = 'model', tokenizer, signal } = options
  const [first] = model.namedParameters()
  const dtype = options.dtype ?? (first?.[1].dtype === 'bf16' ? 'bf16' : 'f32')
  const tensors: GgufTensor[] = []
  for (const [parameter, tensor] of model.namedParameters()) {
    const heads = /\.([qk])_proj\.weight$/.exec(parameter)?.[1]
    const type = tensor.shape.length === 1 ? 'f32' : dtype
    tensors.push({
      name: ggufName(parameter),
      type: type.toUpperCase() as GgufTensorType,
      shape: tensor.shape,
      data: async () => {
        signal?.throwIfAborted()
        const bytes = await elementsOf(tensor, type)
        if (heads === undefined) return bytes
        return interleaved(bytes, config.headDim, bytes.length / (tensor.shape[0] ?? 1))
      },
    })
  }
  const { ropeScaling } = config
  if (ropeScaling?.type === 'llama3') tensors.push(ropeFactors(config))
  await writeGguf(path, new Map([...modelMetadata(config, name, dtype), ...(tokenizer ?? [])]), tensors)
}

function ggufName(parameter: string): string {
  for (const [pattern, name] of NAMES) if (pattern.test(parameter)) return parameter.replace(pattern, name)
  return parameter
}

function modelMetadata(config: LlamaConfig, name: string, dtype: keyof typeof FILE_TYPES): Map<string, GgufValue> {
  const u32 = (value: number): GgufValue => ({ type: 'u32', value })
  const f32 = (value: number): GgufValue => ({ type: 'f32', value })
  const { ropeScaling } = config
  return new Map<string, GgufValue>([
    ['general.architecture', { type: 'string', value: 'llama' }],
    ['general.name', { type: 'string', value: name }],
    ['general.file_type', u32(FILE_TYPES[dtype])],
    ['llama.vocab_size', u32(config.vocabSize)],
    ['llama.context_length', u32(config.maxPositionEmbeddings)],
    ['llama.embedding_length', u32(config.hiddenSize)],
    ['llama.block_count', u32(config.numHiddenLayers)],
    ['llama.feed_forward_length', u32(config.intermediateSize)],
    ['llama.attention.head_count', u32(config.numAttentionHeads)],
    ['llama.attention.head_count_kv', u32(config.numKeyValueHeads)],
    ['llama.attention.key_length', u32(config.headDim)],
    ['llama.attention.value_length', u32(config.headDim)],
    ['llama.attention.layer_norm_rms_epsilon', f32(config.rmsNormEps)],
    ['llama.rope.dimension_count', u32(config.headDim)],
    ['llama.rope.freq_base', f32(config.ropeTheta)],
    ...(ropeScaling?.type === 'linear'
      ? ([
          ['llama.rope.scaling.type', { type: 'string', value: 'linear' }],
          ['llama.rope.scaling.factor', f32(ropeScaling.factor)],
        ] as const)
      : []),
  ])
}

/** LLaMA 3's scaling as llama.cpp has it: what each frequency is divided by. */
function ropeFactors(config: LlamaConfig): GgufTensor {
  const scaled = ropeInverseFrequencies(config)
  const plain = ropeInverseFrequencies({ ...config, ropeScaling: undefined })
  const factors = Float32Array.from(plain, (frequency, i) => frequency / (scaled[i] ?? 1))
  return {
    name: 'rope_freqs.weight',
    type: 'F32',
    shape: [factors.length],
    data: async () => new Uint8Array(factors.buffer),
  }
}

/**
 * Rows of a query or key projection in llama.cpp's order: it rotates neighbours (2i, 2i + 1) where Hugging Face's weights rotate
 * the two halves of a head (i, i + headDim / 2).
 */
function interleaved(bytes: Uint8Array, headDim: number, rowBytes: number): Uint8Array {
  const out = new Uint8Array(bytes.length)
  const rows = bytes.length / rowBytes
  for (let row = 0; row < rows; row++) {
    const inHead = row % headDim
    const source = row - inHead + (inHead % 2 === 0 ? inHead / 2 : (inHead - 1 + headDim) / 2)
    out.set(bytes.subarray(source * rowBytes, (source + 1) * rowBytes), row * rowBytes)
  }
  return out
}

async function elementsOf(tensor: Tensor, dtype: 'f32' | 'f16' | 'bf16'): Promise<Uint8Array> {
  if (dtype !== 'f16') return await bytesOf(tensor, dtype)
  using floats = tensor.dtype === 'f32' ? undefined : ops.cast(tensor, Tensor.empty(tensor.device, tensor.shape, 'f32'))
  const values = await (floats ?? tensor).readFloats()
  const out = new Uint16Array(values.length)
  // In pieces, so that the event loop goes on.
  for (let at = 0; at < values.length; at += 1 << 18) {
    const end = Math.min(values.length, at + (1 << 18))
    for (let i = at; i < end; i++) out[i] = f16Of(values[i] ?? 0)
    await setImmediate()
  }
  return new Uint8Array(out.buffer)
}

const bits = new Uint32Array(1)
const float = new Float32Array(bits.buffer)

/** The nearest IEEE half-precision number, ties to even; beyond 65504, infinity. */
export function f16Of(value: number): number {
  float[0] = value
  const word = bits[0] ?? 0
  const sign = (word >>> 16) & 0x8000
  const magnitude = word & 0x7fffffff
  if (magnitude > 0x7f800000) return sign | 0x7e00
  if (magnitude >= 0x477ff000) return sign | 0x7c00
  if (magnitude >= 0x38800000) {
    const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1)
    return sign | ((rounded - 0x38000000) >>> 13)
  }
  // Subnormal: a multiple of 2^-24.
  const scaled = Math.abs(value) * 2 ** 24
  const floor = Math.floor(scaled)
  const rest = scaled - floor
  return sign | (rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor)
}
