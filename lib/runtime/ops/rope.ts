/** Rotary position embedding. */
import type { Tensor } from '../tensor.js'
import { headsOf, like, maxPositionsOf } from './arguments.js'

/** cos and sin of every position and frequency, f32 [maxPositions, headDim / 2] each. */
export interface RopeTable {
  readonly cosine: Tensor
  readonly sine: Tensor
}

export interface RopeOptions {
  /** Rotate back: the backward pass. */
  readonly inverse?: boolean
  readonly out?: Tensor
}

/** Rotary position embedding of x [tokens, heads, headDim], rotate_half convention; positions i32 [tokens]. */
export function rope(x: Tensor, positions: Tensor, table: RopeTable, options: RopeOptions = {}): Tensor {
  const { inverse = false, out = like(x) } = options
  const [tokens, heads, headDim] = headsOf('rope', 'x', x)
  x.device.addon.opRope(
    x.handle,
    out.handle,
    table.cosine.handle,
    table.sine.handle,
    positions.handle,
    tokens,
    heads,
    headDim,
    maxPositionsOf(table.cosine, headDim),
    inverse,
  )
  return out
}
