/** Losses of preference pairs. */
import type { Tensor } from '../tensor.js'
import { mismatch } from './arguments.js'

/** CPO with the logistic loss, SimPO, CPO with hinge and IPO losses, ARPO. */
export type PreferenceLossName = 'cpo' | 'simpo' | 'hinge' | 'ipo' | 'arpo'

const lossCode: Readonly<Record<PreferenceLossName, number>> = { cpo: 0, simpo: 1, hinge: 2, ipo: 3, arpo: 4 }

export interface PreferenceLossSettings {
  readonly loss: PreferenceLossName
  /** Above 0. */
  readonly beta: number
  readonly labelSmoothing: number
  /** SimPO's target margin. */
  readonly simpoGamma: number
  /** ARPO: τ = min(relax1 · exp(relax2 · |difference of the mean token log-probabilities|) − 1, 1). */
  readonly relax1: number
  readonly relax2: number
}

export interface PreferenceLossTensors {
  /** f32 [rows]: −log p of the response tokens. */
  readonly nll: Tensor
  /** i32 [2 · pairs + 1]: where the rows of each response begin; first all chosen ones, then all rejected ones. */
  readonly cuRows: Tensor
  /** f32 [2]: of a pair's loss, and of the NLL of a chosen token. */
  readonly weights: Tensor
  /** f32 [rows], the result: the gradient of the weighted loss with respect to `nll`. */
  readonly rowScale: Tensor
  /** f32 [2 · pairs]: summed log-probabilities (means for ipo and simpo). */
  readonly logps: Tensor
  /** f32 [pairs]. */
  readonly losses: Tensor
  /** f32 [5], added to: losses, NLL of chosen tokens, logps of chosen, of rejected, pairs whose chosen response is the likelier one. */
  readonly sums: Tensor
}

/** The loss of every pair and its gradient as factors of rows, for `rowScale` of {@link crossEntropy}; see native/runtime/ops.h. */
export function preferenceLoss(tensors: PreferenceLossTensors, settings: PreferenceLossSettings): void {
  const { nll, cuRows, weights, rowScale, logps, losses, sums } = tensors
  if (cuRows.count % 2 !== 1)
    throw mismatch('preferenceLoss', `cuRows has ${cuRows.count} elements, expected 2 · pairs + 1`)
  nll.device.addon.opPreferenceLoss(
    nll.handle,
    cuRows.handle,
    weights.handle,
    rowScale.handle,
    logps.handle,
    losses.handle,
    sums.handle,
    nll.count,
    (cuRows.count - 1) / 2,
    lossCode[settings.loss],
    settings.beta,
    settings.labelSmoothing,
    settings.simpoGamma,
    settings.relax1,
    settings.relax2,
  )
}
