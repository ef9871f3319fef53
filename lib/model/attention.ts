import { ops, Tensor } from '../runtime/index.js'
import type { LlamaConfig } from './config.js'
import type { ForwardContext, LayerCache } from './forward-context.js'
import type { Linear, ResidualStream } from './linear.js'
import type { RmsNorm } from './rms-norm.js'

export interface AttentionProjections {
  readonly query: Linear
  readonly key: Linear
  readonly value: Linear
  readonly output: Linear
}

/** Causal self-attention with rotary positions and grouped key/value heads. */
export class Attention {
  readonly projections: AttentionProjections
  readonly #heads: number
  readonly #keyValueHeads: number
  readonly #headDim: number

  constructor(config: LlamaConfig, projections: AttentionProjections) {
    this.projections = projections
    this.#heads = config.numAttentionHeads
    this.#keyValueHeads = config.numKeyValueHeads
    this.#headDim = config.headDim
  }

  /**
   * hidden and attention(x), both [tokens, hiddenSize], as a stream; see {@link Linear.addTo} for `keepHidden`. With a cache, keys and
   * values go into it and attention reads them from there; in training what backward() needs is kept, otherwise freed.
   */
  forward(
    x: Tensor,
    hidden: Tensor,
    context: ForwardContext,
    { cache, keepHidden }: { readonly cache?: LayerCache | undefined; readonly keepHidden: boolean },
  ): { stream: ResidualStream; saved: ops.AttentionSaved | undefined } {
    const tokens = context.positions.count
    const { device, dtype } = x
    const { invariance } = context
    const heads = (count: number): Tensor => Tensor.empty(device, [tokens, count, this.#headDim], dtype)
    const [q, k, v] = [heads(this.#heads), heads(this.#keyValueHeads), heads(this.#keyValueHeads)]
    this.#queriesKeysValues(x, context, q, k, v)

    if (cache !== undefined) {
      ops.scatterRows(k, cache.rows, cache.keys)
      ops.scatterRows(v, cache.rows, cache.values)
    }
    const keys = cache?.keys ?? k
    const values = cache?.values ?? v
    const logSumExp = context.training ? Tensor.empty(device, [tokens, this.#heads], 'f32') : undefined
    const mixed = heads(this.#heads)
    ops.attention(q, keys, values, context.bounds, { out: mixed, invariance, ...(logSumExp && { logSumExp }) })
    using flat = this.#flat(mixed, tokens)
    const stream = this.projections.output.addTo(hidden, flat, context, keepHidden)
    if (logSumExp !== undefined) return { stream, saved: { q, k, v, out: mixed, logSumExp } }
    for (const tensor of [q, k, v, mixed]) tensor.dispose()
    return { stream, saved: undefined }
  }

  /**
   * One kernel each for what comes before attention, attention itself, and what comes after it: hidden [tokens, hiddenSize] becomes
   * hidden + attention(norm(hidden)), for the tokens of a decoding step. The weights have no low-rank updates.
   */
  decode(hidden: Tensor, norm: RmsNorm, { positions, ropeTable, bounds }: ForwardContext, cache: LayerCache): void {
    const { query, key, value, output } = this.projections
    const shape = [positions.count, this.#heads, this.#headDim]
    using q = Tensor.empty(hidden.device, shape, hidden.dtype)
    ops.normQkv(
      hidden,
      { norm: norm.weight.tensor, query: query.weight.tensor, key: key.weight.tensor, value: value.weight.tensor },
      { epsilon: norm.epsilon, positions, ropeTable, cache, q },
    )
    using mixed = Tensor.empty(hidden.device, shape, hidden.dtype)
    ops.attention(q, cache.keys, cache.values, bounds, { out: mixed, invariance: 'fewRows' })
    using flat = this.#flat(mixed, positions.count)
    ops.linearAdd(flat, output.weight.tensor, hidden, { out: hidden, invariance: 'fewRows' })
  }

  /** From d(out) to d(x), overwriting `dx`; adds the gradients of the four modules' weights. Frees what was saved. */
  backward(dout: Tensor, x: Tensor, saved: ops.AttentionSaved, context: ForwardContext, dx: Tensor): void {
    const { query, key, value, output } = this.projections
    const tokens = context.positions.count
    const mixed = this.#flat(saved.out, tokens)
    output.backwardWeight(dout, mixed)
    const dmixed = Tensor.empty(x.device, saved.out.shape, x.dtype)
    output.backwardInput(dout, dmixed)
    // The queries, keys and values make room for their gradients only after the op has read them, so these are new buffers.
    const { dq, dk, dv } = ops.attentionBackward(dmixed, saved, context.bounds)
    for (const tensor of [dmixed, mixed, saved.q, saved.k, saved.v, saved.out, saved.logSumExp]) tensor.dispose()
    ops.rope(dq, context.positions, context.ropeTable, { out: dq, inverse: true })
    ops.rope(dk, context.positions, context.ropeTable, { out: dk, inverse: true })
    query.backwardWeight(dq, x)
    key.backwardWeight(dk, x)
    value.backwardWeight(dv, x)
    query.backwardInput(dq, dx)
    key.backwardInput(dk, dx, true)
    value.backwardInput(dv, dx, true)
    for (const tensor of [dq, dk, dv]) tensor.dispose()
  }

  /** The three projections of x, turned by their positions. */
  #queriesKeysValues(x: Tensor, context: ForwardContext, q: Tensor, k: Tensor, v: Tensor): void {
    const { query, key, value } = this.projections
    const { positions, ropeTable, invariance, training } = context
    if (query.lora === undefined && key.lora === undefined && value.lora === undefined) {
      const weights = { query: query.weight.tensor, key: key.weight.tensor, value: value.weight.tensor }
      ops.qkv(x, weights, { positions, ropeTable, q, k, v, invariance })
      return
    }
    query.forward(x, q, invariance, training)
    key.forward(x, k, invariance, training)
    value.forward(x, v, invariance, training)
    ops.rope(q, positions, ropeTable, { out: q })
    ops.rope(k, positions, ropeTable, { out: k })
  }

  #flat(mixed: Tensor, tokens: number): Tensor {
    return mixed.view([tokens, this.#heads * this.#headDim])
  }
}
