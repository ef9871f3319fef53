/** LLaMA in f32 as the folder that transformers.js loads: config.json, the graph, and the weights beside it. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ropeInverseFrequencies } from '../../../lib/model/config.js'
import type { LlamaConfig, LlamaForCausalLM } from '../../../lib/model/index.js'
import type { Tensor } from '../../../lib/runtime/index.js'
import { llamaGraph, weightName } from './llama-graph.js'
import { encodeModel } from './model.js'
import { placeWeights, type Weight, writeWeights } from './weights-file.js'

/**
 * Writes config.json, onnx/model.onnx and onnx/model.onnx_data. Every head's width must be a multiple of 16, as
 * `GroupQueryAttention` wants it. There is no end-of-text token: a benchmark decides how many there are.
 */
export async function saveOnnx(model: LlamaForCausalLM, directory: string): Promise<void> {
  const { config } = model
  const folder = join(directory, 'onnx')
  await mkdir(folder, { recursive: true })
  const weights = weightsOf(model)
  const placed = placeWeights(weights, 'model.onnx_data')
  await writeFile(join(folder, 'model.onnx'), encodeModel(llamaGraph(config, placed)))
  await writeWeights(join(folder, 'model.onnx_data'), weights, placed)
  await writeFile(join(directory, 'config.json'), JSON.stringify(configJson(config)))
}

function configJson(config: LlamaConfig): Record<string, unknown> {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.numHiddenLayers,
    num_attention_heads: config.numAttentionHeads,
    num_key_value_heads: config.numKeyValueHeads,
    head_dim: config.headDim,
    max_position_embeddings: config.maxPositionEmbeddings,
  }
}

/** Matrices as `MatMul` takes them, [in, out], where ours are [out, in]; queries, keys and values side by side in one. */
function weightsOf(model: LlamaForCausalLM): Weight[] {
  const { config } = model
  const parameters = new Map(model.namedParameters())
  const tensor = (name: string): Tensor => {
    const found = parameters.get(name)
    if (found === undefined) throw new Error(`the model has no ${name}`)
    return found
  }
  const plain = (name: string, source: string): Weight => {
    const from = tensor(source)
    return { name, shape: from.shape, data: () => from.readFloats() }
  }
  const transposed = (name: string, ...sources: readonly string[]): Weight => {
    const parts = sources.map(tensor)
    const columns = parts.reduce((sum, part) => sum + (part.shape[0] ?? 0), 0)
    const rows = parts[0]?.shape[1] ?? 0
    const data = async (): Promise<Float32Array> => {
      const out = new Float32Array(rows * columns)
      let column = 0
      for (const part of parts) {
        transposeInto(out, columns, column, await part.readFloats(), rows)
        column += part.shape[0] ?? 0
      }
      return out
    }
    return { name, shape: [rows, columns], data }
  }
  const weights = [plain('embed_tokens.weight', 'model.embed_tokens.weight')]
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const [attention, mlp] = [`model.layers.${layer}.self_attn`, `model.layers.${layer}.mlp`]
    weights.push(
      plain(weightName(layer, 'input_norm'), `model.layers.${layer}.input_layernorm.weight`),
      transposed(weightName(layer, 'qkv_proj'), ...['q', 'k', 'v'].map((part) => `${attention}.${part}_proj.weight`)),
      transposed(weightName(layer, 'o_proj'), `${attention}.o_proj.weight`),
      plain(weightName(layer, 'post_attention_norm'), `model.layers.${layer}.post_attention_layernorm.weight`),
      transposed(weightName(layer, 'gate_proj'), `${mlp}.gate_proj.weight`),
      transposed(weightName(layer, 'up_proj'), `${mlp}.up_proj.weight`),
      transposed(weightName(layer, 'down_proj'), `${mlp}.down_proj.weight`),
    )
  }
  const output = config.tieWordEmbeddings ? 'model.embed_tokens.weight' : 'lm_head.weight'
  weights.push(plain('norm.weight', 'model.norm.weight'), transposed('lm_head.weight', output))
  for (const [name, turn] of [
    ['cos_cache', Math.cos],
    ['sin_cache', Math.sin],
  ] as const) {
    const shape = [config.maxPositionEmbeddings, config.headDim / 2]
    weights.push({ name, shape, data: async () => rotations(config, turn) })
  }
  return weights
}

/** Rows of `source`, each of `rows` numbers, as columns of `out` from the given one on; in tiles that the cache holds. */
function transposeInto(out: Float32Array, columns: number, first: number, source: Float32Array, rows: number): void {
  const tile = 32
  const sources = source.length / rows
  for (let i0 = 0; i0 < sources; i0 += tile) {
    for (let j0 = 0; j0 < rows; j0 += tile) {
      const [iEnd, jEnd] = [Math.min(sources, i0 + tile), Math.min(rows, j0 + tile)]
      for (let j = j0; j < jEnd; j++) {
        for (let i = i0; i < iEnd; i++) out[j * columns + first + i] = source[i * rows + j] as number
      }
    }
  }
}

function rotations(config: LlamaConfig, turn: (angle: number) => number): Float32Array {
  const frequencies = ropeInverseFrequencies(config)
  const half = frequencies.length
  return Float32Array.from({ length: config.maxPositionEmbeddings * half }, (_, i) =>
    turn(Math.floor(i / half) * (frequencies[i % half] ?? 0)),
  )
}
