import { ops, Tensor } from '../runtime/index.js'
import type { ForwardContext } from './forward-context.js'
import type { LoraPair } from './lora.js'
import type { Parameter } from './parameter.js'

export interface LinearOptions {
  /** A low-rank update beside the weight; the weight is then frozen. */
  readonly lora?: LoraPair | undefined
  /** The gradient of the weight is not computed. */
  readonly frozen?: boolean
}

/**
 * The residual stream between two blocks: `hidden`, and a `branch` where one has not been added yet. That addition is fused into the norm
 * that follows.
 */
export interface ResidualStream {
  readonly hidden: Tensor
  readonly branch: Tensor | undefined
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

  /**
   * hidden + x · Wᵀ as a stream: added by the product where the device does both in one kernel, which saves the norm that follows reading
   * a branch; as a branch elsewhere. The sum takes the place of `hidden`, or with `keepHidden` a buffer of its own.
   */
  addTo(
    hidden: Tensor,
    x: Tensor,
    { training, invariance }: Pick<ForwardContext, 'training' | 'invariance'>,
    keepHidden: boolean,
  ): ResidualStream {
    const { tensor: weight } = this.weight
    const fused = hidden.device.fusesResiduals && hidden.dtype === 'bf16' && weight.dtype === 'bf16'
    if (!fused || this.lora !== undefined) {
      return { hidden, branch: this.forward(x, undefined, invariance, training) }
    }
    const out = keepHidden ? Tensor.empty(hidden.device, hidden.shape, hidden.dtype) : hidden
    return { hidden: ops.linearAdd(x, weight, hidden, { out, invariance }), branch: undefined }
  }

  /**
   * Adds dyᵀ · x to the gradient of the weight, or those of its low-rank update. Of a weight in bf16 the product may take dy and x as bf16, as the other
   * two products of the layer do; it is summed in f32.
   */
  backwardWeight(dy: Tensor, x: Tensor): void {
    if (this.frozen && this.lora === undefined) return
    const rows = x.count / this.inFeatures
    using flat = dy.view([rows, this.outFeatures])
    if (!this.frozen) {
      const mayRound = this.weight.tensor.dtype === 'bf16'
      ops.matmul(flat, x, { layout: 'tn', out: this.weight.requiredGradient, accumulate: true, mayRound })
    }
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
