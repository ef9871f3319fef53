import type { ops, Tensor } from '../runtime/index.js'

/** What all layers of one forward pass share. */
export interface ForwardContext {
  /** i32 [tokens]. */
  readonly positions: Tensor
  readonly bounds: ops.SequenceBounds
  readonly ropeTable: ops.RopeTable
  /** Keep what the backward pass needs. */
  readonly training: boolean
  /** Order of summation in products and in attention. */
  readonly invariance: ops.Invariance
}

/** One layer's part of a key/value cache. */
export interface LayerCache {
  /** [rows of the cache, keyValueHeads, headDim]. */
  readonly keys: Tensor
  readonly values: Tensor
  /** i32 [tokens]: the cache row of each token of this pass. */
  readonly rows: Tensor
}
