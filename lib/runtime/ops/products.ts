/** The products of a decoder layer with what follows them: RoPE, SwiGLU, the residual. One kernel each where the device has one. */
import type { Tensor } from '../tensor.js'
import {
  checkWeight,
  handleOf,
  headsOf,
  type Invariance,
  invarianceCode,
  like,
  maxPositionsOf,
  mismatch,
  rowsAndColumns,
} from './arguments.js'
import type { RopeTable } from './rope.js'

export interface QkvOptions {
  /** i32 [tokens]. */
  readonly positions: Tensor
  readonly ropeTable: RopeTable
  /** [tokens, heads, headDim]; overwritten. */
  readonly q: Tensor
  /** [tokens, keyValueHeads, headDim]; overwritten. */
  readonly k: Tensor
  readonly v: Tensor
  readonly invariance?: Invariance
}

/**
 * q = rope(x · queryᵀ), k = rope(x · keyᵀ), v = x · valueᵀ; x [tokens, hiddenSize], weights [heads · headDim, hiddenSize] and
 * [keyValueHeads · headDim, hiddenSize].
 */
export function qkv(
  x: Tensor,
  weights: { readonly query: Tensor; readonly key: Tensor; readonly value: Tensor },
  options: QkvOptions,
): void {
  const { positions, ropeTable, q, k, v, invariance = 'none' } = options
  const [rows, cols] = rowsAndColumns(x)
  const [tokens, heads, headDim] = headsOf('qkv', 'q', q)
  const [keyTokens, kvHeads, keyHeadDim] = headsOf('qkv', 'k', k)
  if (tokens !== rows || keyTokens !== rows || positions.count !== rows) {
    const counts = [tokens, keyTokens, positions.count].join(', ')
    throw mismatch('qkv', `x has ${rows} rows; q, k and positions have ${counts}`)
  }
  if (keyHeadDim !== headDim) throw mismatch('qkv', `k has rows of ${keyHeadDim}, q of ${headDim}`)
  if (v.count !== k.count) throw mismatch('qkv', `v has ${v.count} elements, k ${k.count}`)
  checkWeight('qkv', 'query', weights.query, heads * headDim, cols)
  checkWeight('qkv', 'key', weights.key, kvHeads * headDim, cols)
  checkWeight('qkv', 'value', weights.value, kvHeads * headDim, cols)
  x.device.addon.opQkv(
    x.handle,
    weights.query.handle,
    weights.key.handle,
    weights.value.handle,
    ropeTable.cosine.handle,
    ropeTable.sine.handle,
    positions.handle,
    q.handle,
    k.handle,
    v.handle,
    rows,
    cols,
    heads,
    kvHeads,
    headDim,
    maxPositionsOf(ropeTable.cosine, headDim),
    invarianceCode[invariance],
  )
}

/** What {@link gateUp} writes, all [tokens, intermediateSize]: `out`, or `gate` and `up`, or the three of them. */
export interface GateUpResults {
  /** x · gateᵀ. */
  readonly gate?: Tensor | undefined
  /** x · upᵀ. */
  readonly up?: Tensor | undefined
  /** silu(x · gateᵀ) · (x · upᵀ). */
  readonly out?: Tensor | undefined
}

/** The two products of a SwiGLU block and its activation; x [tokens, hiddenSize], weights [intermediateSize, hiddenSize]. */
export function gateUp(
  x: Tensor,
  weights: { readonly gate: Tensor; readonly up: Tensor },
  { gate, up, out }: GateUpResults,
  invariance: Invariance = 'none',
): void {
  const [rows, cols] = rowsAndColumns(x)
  const [features] = rowsAndColumns(weights.gate)
  checkWeight('gateUp', 'gate weight', weights.gate, features, cols)
  checkWeight('gateUp', 'up weight', weights.up, features, cols)
  if ((gate === undefined) !== (up === undefined)) throw mismatch('gateUp', 'gate and up go together')
  if (gate === undefined && out === undefined) throw mismatch('gateUp', 'nothing is asked for')
  for (const [name, tensor] of Object.entries({ gate, up, out })) {
    if (tensor !== undefined && tensor.count !== rows * features) {
      throw mismatch('gateUp', `${name} has shape [${tensor.shape.join(', ')}], expected [${rows}, ${features}]`)
    }
  }
  x.device.addon.opGateUp(
    x.handle,
    weights.gate.handle,
    weights.up.handle,
    handleOf(gate),
    handleOf(up),
    handleOf(out),
    rows,
    cols,
    features,
    invarianceCode[invariance],
  )
}

export interface LinearAddOptions {
  /** Default: a new tensor. May be the residual. */
  readonly out?: Tensor
  /** With `'fewRows'` the weight must not be written by the op just before. */
  readonly invariance?: Invariance
}

/** residual + x · weightᵀ; x [rows, inFeatures], weight [outFeatures, inFeatures]. */
export function linearAdd(x: Tensor, weight: Tensor, residual: Tensor, options: LinearAddOptions = {}): Tensor {
  const { out = like(residual), invariance = 'none' } = options
  const [rows, cols] = rowsAndColumns(x)
  const [features] = rowsAndColumns(weight)
  checkWeight('linearAdd', 'weight', weight, features, cols)
  for (const [name, tensor] of Object.entries({ residual, out })) {
    if (tensor.count !== rows * features) {
      throw mismatch('linearAdd', `${name} has shape [${tensor.shape.join(', ')}], expected [${rows}, ${features}]`)
    }
  }
  x.device.addon.opLinearAdd(
    x.handle,
    weight.handle,
    residual.handle,
    out.handle,
    rows,
    cols,
    features,
    invarianceCode[invariance],
  )
  return out
}
