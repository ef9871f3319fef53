/** The loss of many rows without all of their logits at once. */
import { ops, Tensor } from '../runtime/index.js'
import type { Linear } from './linear.js'

/** Bytes of logits at a time: 2,048 rows of LLaMA-2's vocabulary, enough to keep a matmul busy. */
const LOGIT_BYTES = 256 * 2 ** 20

export interface ChunkedCrossEntropyOptions {
  /** f32 [1]: Σ nll (nats) is added to it. */
  readonly lossSum: Tensor
  /** f32 [1]: the factor of the gradients. Without it none are computed. */
  readonly gradScale?: Tensor
  /** Rows at a time; default {@link logitRows}. */
  readonly chunkRows?: number
}

/** How many rows have their logits in memory at once. It depends on the vocabulary alone, so a run that resumes computes the same bits. */
export function logitRows(vocabSize: number): number {
  return Math.max(64, Math.floor(LOGIT_BYTES / 4 / vocabSize / 64) * 64)
}

/**
 * Cross-entropy of the output layer: `hidden` [rows, hiddenSize] against `targets`, i32 [rows]. With `gradScale`, adds the gradient of the
 * output layer's weight and replaces `hidden` by the gradient with respect to it. Rows are independent of each other but in the weight's
 * gradient, which is the sum of the chunks' ones.
 */
export function chunkedCrossEntropy(
  output: Linear,
  hidden: Tensor,
  targets: Tensor,
  { lossSum, gradScale, chunkRows = logitRows(output.outFeatures) }: ChunkedCrossEntropyOptions,
): void {
  const rows = targets.count
  const { device } = hidden
  using nll = Tensor.empty(device, [rows], 'f32')
  using buffer = Tensor.empty(device, [Math.min(rows, chunkRows), output.outFeatures], 'f32')
  for (let begin = 0; begin < rows; begin += chunkRows) {
    const end = Math.min(rows, begin + chunkRows)
    using x = hidden.rows(begin, end)
    using ids = targets.rows(begin, end)
    using out = nll.rows(begin, end)
    using logits = buffer.rows(0, end - begin)
    output.forward(x, logits)
    ops.crossEntropy(logits, ids, { out, ...(gradScale && { dlogits: logits, gradScale }) })
    if (gradScale === undefined) continue
    output.backwardWeight(logits, x)
    output.backwardInput(logits, x)
  }
  ops.reduceSum(nll, { out: lossSum, accumulate: true })
}
