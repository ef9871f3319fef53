/**
 * A metric as sums over lines: every corpus score here is a function of numbers that are added up over the lines, which
 * is what significance tests resample.
 */
import type { ReferenceCount } from './signature.js'

export interface SegmentMetric {
  /** `'BLEU'`, `'chrF2'`, `'TER'`, … */
  readonly name: string
  /** Whether more is better; false for error rates. */
  readonly higherIsBetter: boolean
  /** Numbers that a line contributes. */
  readonly width: number
  /** Adds what a line contributes to `sums[offset … offset + width)`. */
  add(hypothesis: string, references: readonly string[], sums: Float64Array, offset: number): void
  /** The corpus score of such sums, from `offset` on. */
  score(sums: Float64Array, offset?: number): number
  signature(references: ReferenceCount): string
}

/** The sums of a whole corpus. */
export function corpusSums(
  metric: SegmentMetric,
  hypotheses: readonly string[],
  lines: readonly (readonly string[])[],
): Float64Array {
  const sums = new Float64Array(metric.width)
  for (const [line, hypothesis] of hypotheses.entries()) metric.add(hypothesis, lines[line] ?? [], sums, 0)
  return sums
}
