/**
 * LLaMA as an ONNX graph: inputs, outputs and operators are those of the published ones (onnx-community, written by the model builder
 * of onnxruntime-genai for processors), so that onnxruntime is at its best.
 */
import type { LlamaConfig } from '../../../lib/model/index.js'
import type { OnnxInitializer, OnnxModel, OnnxNode, OnnxValue } from './model.js'

const microsoft = 'com.microsoft'
/** All later ones, for `Slice`. */
const endOfAxis = 2n ** 63n - 1n

type Matrix = 'qkv_proj' | 'o_proj' | 'gate_proj' | 'up_proj' | 'down_proj'

export function weightName(layer: number, name: Matrix | 'input_norm' | 'post_attention_norm'): string {
  return `layers.${layer}.${name}.weight`
}

/** `weights` are its initializers beside the constants of its own. */
export function llamaGraph(config: LlamaConfig, weights: readonly OnnxInitializer[]): OnnxModel {
  const nodes: OnnxNode[] = []
  const { numHiddenLayers, numAttentionHeads, numKeyValueHeads, headDim, rmsNormEps, vocabSize } = config
  const int64 = (name: string, shape: readonly number[], value: bigint): OnnxInitializer => {
    return { name, type: 'int64', shape, data: new Uint8Array(BigInt64Array.of(value).buffer) }
  }
  const constants = [
    int64('first_axis', [1], 0n),
    int64('second_axis', [1], 1n),
    int64('second', [], 1n),
    int64('one', [1], 1n),
    int64('end', [1], endOfAxis),
  ]
  const add = (output: string, op: string, inputs: readonly string[], more: Partial<OnnxNode> = {}): string => {
    nodes.push({ op, inputs, outputs: [output], ...more })
    return output
  }
  const toInt32 = { attributes: { to: { type: 'int32' } } } as const
  const epsilon = { float: rmsNormEps }

  // Of every sequence the position of its last token, and the longest length: the attention knows where each token stands.
  add('mask/sum', 'ReduceSum', ['attention_mask', 'second_axis'], { attributes: { keepdims: { int: 0 } } })
  add('seqlens_k', 'Cast', [add('mask/last', 'Sub', ['mask/sum', 'one'])], toInt32)
  add('mask/length', 'Gather', [add('mask/shape', 'Shape', ['attention_mask']), 'second'])
  add('total_sequence_length', 'Cast', ['mask/length'], toInt32)

  // A norm takes what the layer before has left to be added, and gives the sum too.
  let residual = add('embedded', 'Gather', ['embed_tokens.weight', 'input_ids'])
  let update: string | undefined
  const normOf = (at: string, weight: string): string => {
    if (update === undefined) {
      const attributes = { axis: { int: -1 }, epsilon, stash_type: { int: 1 } }
      return add(`${at}/normed`, 'SimplifiedLayerNormalization', [residual, weight], { attributes })
    }
    const outputs = [`${at}/normed`, '', '', `${at}/sum`]
    const more = { domain: microsoft, attributes: { epsilon }, outputs }
    add(at, 'SkipSimplifiedLayerNormalization', [residual, update, weight], more)
    residual = `${at}/sum`
    return `${at}/normed`
  }

  for (let layer = 0; layer < numHiddenLayers; layer++) {
    const at = (name: string): string => `layers.${layer}/${name}`
    const product = (name: Matrix, input: string): string => add(at(name), 'MatMul', [input, weightName(layer, name)])
    // Three products instead of one are as fast (110 million weights: the difference is within the noise).
    const qkv = product('qkv_proj', normOf(at('input_norm'), weightName(layer, 'input_norm')))
    const [key, value] = [`past_key_values.${layer}.key`, `past_key_values.${layer}.value`]
    const places = ['seqlens_k', 'total_sequence_length', 'cos_cache', 'sin_cache']
    const attended = add(at('attention'), 'GroupQueryAttention', [qkv, '', '', key, value, ...places], {
      domain: microsoft,
      outputs: [at('attention'), `present.${layer}.key`, `present.${layer}.value`],
      attributes: {
        num_heads: { int: numAttentionHeads },
        kv_num_heads: { int: numKeyValueHeads },
        scale: { float: headDim ** -0.5 },
        do_rotary: { int: 1 },
        rotary_interleaved: { int: 0 },
      },
    })
    update = product('o_proj', attended)
    const normed = normOf(at('post_attention_norm'), weightName(layer, 'post_attention_norm'))
    const gate = product('gate_proj', normed)
    const silu = add(at('silu'), 'Mul', [gate, add(at('sigmoid'), 'Sigmoid', [gate])])
    update = product('down_proj', add(at('gated'), 'Mul', [silu, product('up_proj', normed)]))
  }

  // `generate` asks for the logits of the last token alone; 0 means all.
  const start = add('start', 'Unsqueeze', [add('minus_kept', 'Neg', ['num_logits_to_keep']), 'first_axis'])
  const kept = add('kept', 'Slice', [normOf('norm', 'norm.weight'), start, 'end', 'second_axis'])
  add('logits', 'MatMul', [kept, 'lm_head.weight'])

  const cache = (prefix: string, length: string): OnnxValue[] =>
    Array.from({ length: numHiddenLayers }, (_, layer) => layer).flatMap((layer) =>
      ['key', 'value'].map((name) => {
        const shape = ['batch_size', numKeyValueHeads, length, headDim]
        return { name: `${prefix}.${layer}.${name}`, type: 'float', shape }
      }),
    )
  return {
    name: 'llama',
    nodes,
    inputs: [
      { name: 'input_ids', type: 'int64', shape: ['batch_size', 'sequence_length'] },
      { name: 'attention_mask', type: 'int64', shape: ['batch_size', 'total_sequence_length'] },
      { name: 'num_logits_to_keep', type: 'int64', shape: [] },
      ...cache('past_key_values', 'past_sequence_length'),
    ],
    outputs: [
      { name: 'logits', type: 'float', shape: ['batch_size', 'num_logits_to_keep', vocabSize] },
      ...cache('present', 'total_sequence_length'),
    ],
    initializers: [...constants, ...weights],
    operatorSets: { '': 17, [microsoft]: 1 },
  }
}
