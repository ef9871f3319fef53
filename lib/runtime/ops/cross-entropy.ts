/** The loss, and its gradient. */
import { IGNORE_INDEX } from '../../ignore-index.js'
import { Tensor } from '../tensor.js'
import { handleOf, rowsAndColumns } from './arguments.js'

export interface CrossEntropyOptions {
  /** Rows with this target count nothing. Default −100. */
  readonly ignoreIndex?: number
  /** f32 [rows]. */
  readonly logSumExp?: Tensor
  /** Receives the gradient; may be `logits`. Absent: not computed. */
  readonly dlogits?: Tensor
  /** f32 [1], the factor of the gradient: 1 / counted targets for a mean. Default 1. */
  readonly gradScale?: Tensor
  /** f32 [rows]: a further factor of each row of the gradient. */
  readonly rowScale?: Tensor
  /** Part ε of the loss that is the mean of −log p over the whole vocabulary, as torch has it. Default 0. */
  readonly labelSmoothing?: number
  readonly out?: Tensor
}

/** Negative log-likelihood in nats of each row's target, f32 [rows]; 0 for ignored rows. logits [rows, vocab], targets i32. */
export function crossEntropy(logits: Tensor, targets: Tensor, options: CrossEntropyOptions = {}): Tensor {
  const { ignoreIndex = IGNORE_INDEX, logSumExp, dlogits, gradScale, rowScale, labelSmoothing = 0 } = options
  const [rows, vocab] = rowsAndColumns(logits)
  const nll = options.out ?? Tensor.empty(logits.device, [rows], 'f32')
  logits.device.addon.opCrossEntropy(
    logits.handle,
    targets.handle,
    nll.handle,
    handleOf(logSumExp),
    handleOf(dlogits),
    handleOf(gradScale),
    rows,
    vocab,
    ignoreIndex,
    handleOf(rowScale),
    labelSmoothing,
  )
  return nll
}
