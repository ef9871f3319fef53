import type { LlamaForCausalLM } from '../model/index.js'
import { ops, Tensor } from '../runtime/index.js'
import { arenasOf, type ParameterArena } from './parameter-arena.js'

export interface OptimizerOptions {
  readonly betas?: readonly [number, number]
  readonly epsilon?: number
  readonly weightDecay?: number
  /** Norm of all gradients together that is clipped to; 0: no clipping. */
  readonly maxGradNorm?: number
  /** Keep no f32 copies of bf16 weights: each step rounds them up or down by chance, so that the mean is right. Default false. */
  readonly stochasticRounding?: boolean
  /** Of the chance. */
  readonly seed?: number
}

/**
 * AdamW over all weights of a model. Everything stays on the device: the clipping factor and the learning rate are read there.
 *
 * Creating one moves the weights into arenas and gives every parameter a gradient; dispose() takes the gradients away again.
 */
export class Optimizer {
  readonly arenas: readonly ParameterArena[]
  /** f32 [1]: norm of the gradients before clipping, of the last step. */
  readonly gradNorm: Tensor
  readonly #options: Required<OptimizerOptions>
  readonly #coefficient: Tensor
  readonly #learningRate: Tensor
  readonly #step: Tensor
  readonly #onlyClass: Tensor
  readonly #lossDefect: Tensor
  #steps = 0

  constructor(model: LlamaForCausalLM, options: OptimizerOptions = {}) {
    this.#options = {
      betas: [0.9, 0.999],
      epsilon: 1e-8,
      weightDecay: 0.01,
      maxGradNorm: 1,
      stochasticRounding: false,
      seed: 0,
      ...options,
    }
    const { device } = model
    this.arenas = arenasOf(model, { master: !this.#options.stochasticRounding })
    this.gradNorm = Tensor.zeros(device, [1], 'f32')
    this.#coefficient = Tensor.zeros(device, [1], 'f32')
    this.#learningRate = Tensor.zeros(device, [1], 'f32')
    this.#step = Tensor.zeros(device, [1], 'i32')
    this.#onlyClass = Tensor.zeros(device, [1], 'i32')
    this.#lossDefect = Tensor.zeros(device, [1], 'f32')
  }

  /** Steps done, skipped ones included. */
  get steps(): number {
    return this.#steps
  }

  /** To be set when a checkpoint is restored. */
  set steps(value: number) {
    this.#steps = value
    this.#step.write([value])
  }

  zeroGradients(): void {
    for (const arena of this.arenas) ops.fill(arena.grad, 0)
  }

  /**
   * Clips and applies the gradients. Where their norm is not finite, no weight and no moment changes; nor where `loss`, f32 [1], is
   * not finite: gradNorm is then NaN.
   */
  step(learningRate: number, loss?: Tensor): void {
    const { betas, epsilon, weightDecay, maxGradNorm, seed } = this.#options
    this.#steps++
    this.#learningRate.write([learningRate])
    ops.increment(this.#step)
    const gradients = this.arenas.map(({ grad }) => grad)
    if (loss !== undefined) gradients.push(this.#zeroIfFinite(loss))
    ops.globalNorm(gradients, { maxNorm: maxGradNorm, norm: this.gradNorm, coefficient: this.#coefficient })
    for (const { param, master, grad, expAvg, expAvgSq, decay } of this.arenas) {
      ops.adamw(
        { param, grad, expAvg, expAvgSq, ...(master && { master }) },
        {
          learningRate: this.#learningRate,
          step: this.#step,
          gradScale: this.#coefficient,
          betas,
          epsilon,
          weightDecay: decay ? weightDecay : 0,
          seed,
        },
      )
    }
  }

  /** 0, or NaN: the negative log-likelihood of the only class there is, x − x. It changes no finite norm by one bit. */
  #zeroIfFinite(loss: Tensor): Tensor {
    using logits = loss.view([1, 1])
    return ops.crossEntropy(logits, this.#onlyClass, { out: this.#lossDefect })
  }

  /** Weights (f32) and moments by name, as views that the caller disposes. */
  *state(): IterableIterator<[name: string, part: Tensor]> {
    for (const arena of this.arenas) yield* arena.state()
  }

  /** After the tensors of state() were replaced. */
  publishMaster(): void {
    for (const arena of this.arenas) arena.publishMaster()
  }

  dispose(): void {
    for (const arena of this.arenas) arena.dispose()
    const own = [this.gradNorm, this.#coefficient, this.#learningRate, this.#step, this.#onlyClass, this.#lossDefect]
    for (const tensor of own) tensor.dispose()
  }
}
