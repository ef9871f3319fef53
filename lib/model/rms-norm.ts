import { ops, Tensor } from '../runtime/index.js'
import type { Parameter } from './parameter.js'

export interface RmsNormResult {
  /** What was normalised: x, or x + residual. */
  readonly sum: Tensor
  readonly normed: Tensor
  /** f32 [tokens]. */
  readonly inverseRms: Tensor
}

/** RMSNorm over the hidden dimension, with the residual addition that precedes it in a decoder fused in. */
export class RmsNorm {
  readonly weight: Parameter
  readonly epsilon: number
  /** The gradient of the weight is not computed. */
  readonly frozen: boolean

  constructor(weight: Parameter, epsilon: number, frozen = false) {
    this.weight = weight
    this.frozen = frozen
    this.epsilon = epsilon
  }

  /**
   * Normalises x + branch, or x alone. The branch's buffer becomes the normalised result. With `keepInput` the sum gets a buffer of
   * its own (an earlier layer's backward pass still needs x); without, it takes the place of x.
   */
  forward(x: Tensor, branch: Tensor | undefined, keepInput: boolean): RmsNormResult {
    const inverseRms = Tensor.empty(x.device, [x.shape[0] ?? 0], 'f32')
    const { epsilon } = this
    if (branch === undefined) {
      return { sum: x, normed: ops.rmsNorm(x, this.weight.tensor, { epsilon, inverseRms }), inverseRms }
    }
    const sum = keepInput ? Tensor.empty(x.device, x.shape, x.dtype) : x
    const normed = ops.rmsNorm(x, this.weight.tensor, { epsilon, inverseRms, residual: branch, sum, out: branch })
    return { sum, normed, inverseRms }
  }

  /** Adds the gradient with respect to the sum to `dx`, and the weight's gradient to its own. */
  backward(dnormed: Tensor, saved: { readonly sum: Tensor; readonly inverseRms: Tensor }, dx: Tensor): void {
    ops.rmsNormBackward(dnormed, saved.sum, this.weight.tensor, saved.inverseRms, {
      dx,
      accumulateDx: true,
      ...(!this.frozen && { dweight: this.weight.requiredGradient }),
    })
  }
}
