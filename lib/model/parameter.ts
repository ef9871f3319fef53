import { AlmaError } from '../errors.js'
import type { Tensor } from '../runtime/index.js'

/** A named weight, and its gradient while the model is being trained. */
export class Parameter {
  /** As in the safetensors file: `model.layers.0.self_attn.q_proj.weight`. */
  readonly name: string
  tensor: Tensor
  /** f32, of the same shape; added to by backward passes. */
  gradient: Tensor | undefined

  constructor(name: string, tensor: Tensor) {
    this.name = name
    this.tensor = tensor
  }

  /** @throws AlmaError ERR_ALMA_OPTION when gradients were not enabled. */
  get requiredGradient(): Tensor {
    if (this.gradient === undefined) {
      throw new AlmaError('ERR_ALMA_OPTION', `${this.name}: gradients are not enabled for this model`)
    }
    return this.gradient
  }

  dispose(): void {
    this.tensor.dispose()
    this.gradient?.dispose()
    this.gradient = undefined
  }
}
