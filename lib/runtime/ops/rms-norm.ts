/** RMSNorm and its backward pass. */
import type { Tensor } from '../tensor.js'
import { handleOf, like, mismatch, rowsAndColumns } from './arguments.js'

export interface RmsNormOptions {
  readonly epsilon?: number
  /** Added to x before the norm; the sum is written to `sum`. */
  readonly residual?: Tensor
  readonly sum?: Tensor
  /** f32 [rows], kept for the backward pass. */
  readonly inverseRms?: Tensor
  readonly out?: Tensor
}

/** weight · x / sqrt(mean(x²) + epsilon) along the last dimension (Zhang & Sennrich 2019). */
export function rmsNorm(x: Tensor, weight: Tensor, options: RmsNormOptions = {}): Tensor {
  const { epsilon = 1e-5, residual, sum, inverseRms, out = like(x) } = options
  const [rows, cols] = rowsAndColumns(x)
  if (weight.count !== cols) throw mismatch('rmsNorm', `weight has ${weight.count} elements, x has rows of ${cols}`)
  x.device.addon.opRmsNorm(
    x.handle,
    handleOf(residual),
    weight.handle,
    out.handle,
    handleOf(sum),
    handleOf(inverseRms),
    rows,
    cols,
    epsilon,
  )
  return out
}

export interface RmsNormBackwardOptions {
  readonly dx?: Tensor
  readonly accumulateDx?: boolean
  /** f32 [cols], added to; absent: not computed. */
  readonly dweight?: Tensor
}

/** The gradient of {@link rmsNorm} with respect to what was normalised; `x` is the sum, where there was a residual. */
export function rmsNormBackward(
  dy: Tensor,
  x: Tensor,
  weight: Tensor,
  inverseRms: Tensor,
  options: RmsNormBackwardOptions = {},
): Tensor {
  const { accumulateDx = false, dweight, dx = like(x) } = options
  const [rows, cols] = rowsAndColumns(x)
  x.device.addon.opRmsNormBackward(
    dy.handle,
    x.handle,
    weight.handle,
    inverseRms.handle,
    dx.handle,
    handleOf(dweight),
    rows,
    cols,
    accumulateDx,
  )
  return dx
}
