/** The products of a decoder layer in front of attention and activation, with the norm before them: for decoding steps of few rows. */
import { Tensor } from '../tensor.js'
import { checkWeight, headsOf, maxPositionsOf, mismatch, rowsAndColumns } from './arguments.js'
import type { RopeTable } from './rope.js'

export interface QkvWeights {
  /** Of the RMSNorm, [hiddenSize]. */
  readonly norm: Tensor
  /** [heads · headDim, hiddenSize]. */
  readonly query: Tensor
  /** [keyValueHeads · headDim, hiddenSize]. */
  readonly key: Tensor
  readonly value: Tensor
}

export interface NormQkvOptions {
  readonly epsilon?: number
  /** i32 [tokens]. */
  readonly positions: Tensor
  readonly ropeTable: RopeTable
  /** keys and values [rows of the cache, keyValueHeads, headDim]; rows i32 [tokens]: where each token's go. */
  readonly cache: { readonly keys: Tensor; readonly values: Tensor; readonly rows: Tensor }
  /** [tokens, heads, headDim]. */
  readonly q: Tensor
}

/**
 * n = rmsNorm(x); q = rope(n · queryᵀ), and the cache's rows become rope(n · keyᵀ) and n · valueᵀ. x [tokens, hiddenSize]. Sums are in the
 * order `'fewRows'`; the weights must not be written by the op just before.
 */
export function normQkv(x: Tensor, weights: QkvWeights, options: NormQkvOptions): Tensor {
  const { epsilon = 1e-5, positions, ropeTable, cache, q } = options
  const [rows, cols] = rowsAndColumns(x)
  const [tokens, heads, headDim] = headsOf('normQkv', 'q', q)
  const [tableRows, kvHeads, cacheHeadDim] = headsOf('normQkv', 'keys', cache.keys)
  if (tokens !== rows || positions.count !== rows || cache.rows.count !== rows) {
    const counts = [tokens, positions.count, cache.rows.count].join(', ')
    throw mismatch('normQkv', `x has ${rows} rows; q, positions and cache.rows have ${counts}`)
  }
  if (cacheHeadDim !== headDim) throw mismatch('normQkv', `keys have rows of ${cacheHeadDim}, q of ${headDim}`)
  if (cache.values.count !== cache.keys.count) {
    throw mismatch('normQkv', `values have ${cache.values.count} elements, keys ${cache.keys.count}`)
  }
  checkWeight('normQkv', 'query', weights.query, heads * headDim, cols)
  checkWeight('normQkv', 'key', weights.key, kvHeads * headDim, cols)
  checkWeight('normQkv', 'value', weights.value, kvHeads * headDim, cols)
  checkNorm('normQkv', weights.norm, cols)
  x.device.addon.opNormQkv(
    x.handle,
    weights.norm.handle,
    weights.query.handle,
    weights.key.handle,
    weights.value.handle,
    ropeTable.cosine.handle,
    ropeTable.sine.handle,
    positions.handle,
    cache.rows.handle,
    q.handle,
    cache.keys.handle,
    cache.values.handle,
    rows,
    cols,
    heads,
    kvHeads,
    headDim,
    maxPositionsOf(ropeTable.cosine, headDim),
    tableRows,
    epsilon,
  )
  return q
}

export interface GateUpWeights {
  /** Of the RMSNorm, [hiddenSize]. */
  readonly norm: Tensor
  /** [intermediateSize, hiddenSize]. */
  readonly gate: Tensor
  readonly up: Tensor
}

/**
 * silu(n · gateᵀ) · (n · upᵀ) with n = rmsNorm(x); x [tokens, hiddenSize] → [tokens, intermediateSize]. Sums are in the order `'fewRows'`;
 * the weights must not be written by the op just before.
 */
export function normGateUp(
  x: Tensor,
  weights: GateUpWeights,
  { epsilon = 1e-5, out }: { readonly epsilon?: number; readonly out?: Tensor } = {},
): Tensor {
  const [rows, cols] = rowsAndColumns(x)
  const [features] = rowsAndColumns(weights.gate)
  checkWeight('normGateUp', 'gate', weights.gate, features, cols)
  checkWeight('normGateUp', 'up', weights.up, features, cols)
  checkNorm('normGateUp', weights.norm, cols)
  const result = out ?? Tensor.empty(x.device, [rows, features], x.dtype)
  if (result.count !== rows * features) {
    throw mismatch('normGateUp', `out has shape [${result.shape.join(', ')}], expected [${rows}, ${features}]`)
  }
  x.device.addon.opNormGateUp(
    x.handle,
    weights.norm.handle,
    weights.gate.handle,
    weights.up.handle,
    result.handle,
    rows,
    cols,
    features,
    epsilon,
  )
  return result
}

function checkNorm(op: string, norm: Tensor, cols: number): void {
  if (norm.count !== cols) throw mismatch(op, `norm has ${norm.count} elements, expected ${cols}`)
}
