/** The loss of preference pairs behind the output layer, without all logits of a long batch at once. */
import { ops, Tensor } from '../runtime/index.js'
import { logitRows } from './chunked-cross-entropy.js'
import type { Linear } from './linear.js'

export interface PreferenceTensors {
  /** f32 [2], of the gradients: the factor of a pair's loss, and of the NLL of a chosen token. */
  readonly weights: Tensor
  /** f32 [5], added to: losses of pairs, NLL of chosen tokens, logps of chosen and of rejected, pairs that prefer the chosen one. */
  readonly sums: Tensor
}

export interface PreferenceCrossEntropyOptions extends PreferenceTensors {
  readonly settings: ops.PreferenceLossSettings
  /** Whether the gradients are computed. */
  readonly training: boolean
  /** Rows at a time; default {@link logitRows}. */
  readonly chunkRows?: number
}

/**
 * `hidden` [rows, hiddenSize] are the inputs of the output layer for every token of every response, the chosen ones first; `cuRows` is where
 * each response begins, i32 [2 · pairs + 1]. In training, adds the gradient of the output layer's weight and replaces `hidden` by the
 * gradient with respect to it. What a row's likelihood is worth is known only when all are known: where the logits of all rows do not fit
 * into one chunk, they are computed twice.
 */
export function preferenceCrossEntropy(
  output: Linear,
  hidden: Tensor,
  targets: Tensor,
  cuRows: Tensor,
  { weights, sums, settings, training, chunkRows = logitRows(output.outFeatures) }: PreferenceCrossEntropyOptions,
): void {
  const rows = targets.count
  const pairs = (cuRows.count - 1) / 2
  const { device } = hidden
  using nll = Tensor.empty(device, [rows], 'f32')
  using rowScale = Tensor.empty(device, [rows], 'f32')
  using logps = Tensor.empty(device, [2 * pairs], 'f32')
  using losses = Tensor.empty(device, [pairs], 'f32')
  using buffer = Tensor.empty(device, [Math.min(rows, chunkRows), output.outFeatures], 'f32')
  const forEachChunk = (body: (begin: number, end: number, logits: Tensor) => void): void => {
    for (let begin = 0; begin < rows; begin += chunkRows) {
      const end = Math.min(rows, begin + chunkRows)
      using logits = buffer.rows(0, end - begin)
      body(begin, end, logits)
    }
  }
  forEachChunk((begin, end, logits) => {
    using x = hidden.rows(begin, end)
    using ids = targets.rows(begin, end)
    using out = nll.rows(begin, end)
    output.forward(x, logits)
    ops.crossEntropy(logits, ids, { out })
  })
  ops.preferenceLoss({ nll, cuRows, weights, rowScale, logps, losses, sums }, settings)
  if (!training) return
  forEachChunk((begin, end, logits) => {
    using x = hidden.rows(begin, end)
    using ids = targets.rows(begin, end)
    using scale = rowScale.rows(begin, end)
    using out = nll.rows(begin, end)
    if (rows > chunkRows) output.forward(x, logits)
    ops.crossEntropy(logits, ids, { out, dlogits: logits, rowScale: scale })
    output.backwardWeight(logits, x)
    output.backwardInput(logits, x)
  })
}
