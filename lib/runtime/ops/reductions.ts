/** Sums, norms and counts over whole tensors. */
import { Tensor } from '../tensor.js'
import { mismatch } from './arguments.js'

export interface ReduceSumOptions {
  /** Sum the squares instead. */
  readonly squares?: boolean
  /** Add to `out`. */
  readonly accumulate?: boolean
  readonly out?: Tensor
}

/** The sum of all elements, f32 [1], computed in float64. */
export function reduceSum(x: Tensor, options: ReduceSumOptions = {}): Tensor {
  const { squares = false, accumulate = false, out = Tensor.empty(x.device, [1], 'f32') } = options
  x.device.addon.opReduceSum(x.handle, out.handle, x.count, squares, accumulate)
  return out
}

/**
 * From a sum of squares (f32 [1]): the norm, and the factor min(1, maxNorm / (norm + 1e-6)) of torch's clip_grad_norm_; 1 where
 * maxNorm ≤ 0, and 0 where the norm is not finite, so that {@link adamw} changes nothing.
 */
export function clipCoefficient(sumOfSquares: Tensor, norm: Tensor, coefficient: Tensor, maxNorm: number): Tensor {
  sumOfSquares.device.addon.opClipCoefficient(sumOfSquares.handle, norm.handle, coefficient.handle, maxNorm)
  return coefficient
}

export interface GlobalNormOptions {
  /** Norm to clip to; ≤ 0 (default): no clipping. */
  readonly maxNorm?: number
  /** f32 [1] each. */
  readonly norm?: Tensor
  readonly coefficient?: Tensor
}

/** The norm over all gradients together, and the clipping factor for it; both stay on the device. */
export function globalNorm(
  gradients: readonly Tensor[],
  options: GlobalNormOptions = {},
): { norm: Tensor; coefficient: Tensor } {
  const [first] = gradients
  if (first === undefined) throw mismatch('globalNorm', 'no gradients given')
  const { maxNorm = 0 } = options
  const norm = options.norm ?? Tensor.empty(first.device, [1], 'f32')
  const coefficient = options.coefficient ?? Tensor.empty(first.device, [1], 'f32')
  const squares = Tensor.empty(first.device, [1], 'f32')
  gradients.forEach((gradient, index) => {
    reduceSum(gradient, { squares: true, accumulate: index > 0, out: squares })
  })
  clipCoefficient(squares, norm, coefficient, maxNorm)
  squares.dispose()
  return { norm, coefficient }
}

/** Adds the number of elements that are NaN or infinite to `out`, i32 [1]. */
export function countNonFinite(x: Tensor, out: Tensor): Tensor {
  x.device.addon.opCountNonFinite(x.handle, out.handle, x.count)
  return out
}
