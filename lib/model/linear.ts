import { ops, Tensor } from '../runtime/index.js'
import type { Parameter } from './parameter.js'

/** y = x · Wᵀ with W [outFeatures, inFeatures], no bias: LLaMA has none. */
export class Linear {
  readonly weight: Parameter
  readonly inFeatures: number
  readonly outFeatures: number

  constructor(weight: Parameter) {
    this.weight = weight
    const [outFeatures = 0, inFeatures = 0] = weight.tensor.shape
    this.outFeatures = outFeatures
    this.inFeatures = inFeatures
  }

  /** x [tokens, inFeatures] → [tokens, outFeatures] in the dtype of x, or of `out`. */
  forward(x: Tensor, out?: Tensor, invariance: ops.Invariance = 'none'): Tensor {
    const result = out ?? Tensor.empty(x.device, [x.count / this.inFeatures, this.outFeatures], x.dtype)
    return ops.matmul(x, this.weight.tensor, { layout: 'nt', out: result, invariance })
  }

  /** Adds dyᵀ · x to the gradient of the weight. */
  backwardWeight(dy: Tensor, x: Tensor): void {
    const rows = x.count / this.inFeatures
    using flat = dy.view([rows, this.outFeatures])
    ops.matmul(flat, x, { layout: 'tn', out: this.weight.requiredGradient, accumulate: true })
  }

  /** dx = dy · W, or dx += with `accumulate`. */
  backwardInput(dy: Tensor, dx: Tensor, accumulate = false): Tensor {
    const rows = dx.count / this.inFeatures
    using flat = dy.view([rows, this.outFeatures])
    return ops.matmul(flat, this.weight.tensor, { out: dx, accumulate })
  }
}
