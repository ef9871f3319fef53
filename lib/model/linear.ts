import { ops, Tensor } from '../runtime/index.js'
import type { LoraPair } from './lora.js'
import type { Parameter } from './parameter.js'

export interface LinearOptions {
  /** A low-rank update beside the weight; the weight is then frozen. */
  readonly lora?: LoraPair | undefined
  /** The gradient of the weight is not computed. */
  readonly frozen?: boolean
}

/** y = x · Wᵀ with W [outFeatures, inFeatures], no bias: LLaMA has none. */
export class Linear {
  readonly weight: Parameter
  readonly lora: LoraPair | undefined
  readonly frozen: boolean
  readonly inFeatures: number
  readonly outFeatures: number

  constructor(weight: Parameter, options: LinearOptions = {}) {
    this.weight = weight
    this.lora = options.lora
    this.frozen = options.frozen ?? options.lora !== undefined
    const [outFeatures = 0, inFeatures = 0] = weight.tensor.shape
    this.outFeatures = outFeatures
    this.inFeatures = inFeatures
  }

  /** x [tokens, inFeatures] → [tokens, outFeatures] in the dtype of x, or of `out`. */
  forward(x: Tensor, out?: Tensor, invariance: ops.Invariance = 'none', training = false): Tensor {
    const result = out ?? Tensor.empty(x.device, [x.count / this.inFeatures, this.outFeatures], x.dtype)
    ops.matmul(x, this.weight.tensor, { layout: 'nt', out: result, invariance })
    this.lora?.addTo(result, x, training, invariance)
    return result
  }

  /** Adds dyᵀ · x to the gradient of the weight, or those of its low-rank update. */
  backwardWeight(dy: Tensor, x: Tensor): void {
    if (this.frozen && this.lora === undefined) return
    const rows = x.count / this.inFeatures
    using flat = dy.view([rows, this.outFeatures])
    if (!this.frozen) ops.matmul(flat, x, { layout: 'tn', out: this.weight.requiredGradient, accumulate: true })
    this.lora?.backwardWeights(flat, x)
  }

  /** dx = dy · W, or dx += with `accumulate`. */
  backwardInput(dy: Tensor, dx: Tensor, accumulate = false): Tensor {
    const rows = dx.count / this.inFeatures
    using flat = dy.view([rows, this.outFeatures])
    ops.matmul(flat, this.weight.tensor, { out: dx, accumulate })
    this.lora?.backwardInput(flat, dx)
    return dx
  }
}
