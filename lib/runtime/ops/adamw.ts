/** The optimizer step. */
import type { Tensor } from '../tensor.js'
import { handleOf, seedWords } from './arguments.js'

/** A parameter (or a whole arena of them) and what AdamW keeps for it. bf16 without an f32 `master`: stochastic rounding. */
export interface AdamWState {
  readonly param: Tensor
  readonly master?: Tensor
  readonly grad: Tensor
  readonly expAvg: Tensor
  readonly expAvgSq: Tensor
}

export interface AdamWOptions {
  /** f32 [1]. */
  readonly learningRate: Tensor
  /** i32 [1]: the number of this step, from 1. */
  readonly step: Tensor
  /** f32 [1]: factor of the gradient, 0 skips the step. Default 1. */
  readonly gradScale?: Tensor
  readonly betas?: readonly [number, number]
  readonly epsilon?: number
  readonly weightDecay?: number
  /** Of the random bits of stochastic rounding, from 0 to 2⁵³ − 1. Default 0. */
  readonly seed?: number
}

/** One step of AdamW with decoupled weight decay (Loshchilov & Hutter 2019), in place, as torch.optim.AdamW. */
export function adamw(state: AdamWState, options: AdamWOptions): void {
  const { learningRate, step, gradScale, betas = [0.9, 0.999], epsilon = 1e-8, weightDecay = 0.01, seed = 0 } = options
  const { param, master, grad, expAvg, expAvgSq } = state
  param.device.addon.opAdamw(
    param.handle,
    handleOf(master),
    grad.handle,
    expAvg.handle,
    expAvgSq.handle,
    learningRate.handle,
    step.handle,
    handleOf(gradScale),
    param.count,
    betas[0],
    betas[1],
    epsilon,
    weightDecay,
    ...seedWords(seed),
  )
}
