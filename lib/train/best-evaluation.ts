/** Which of a stage's evaluations is the best, and whether it is time to stop. */
import type { EvaluationOptions } from './evaluation-options.js'
import type { ValidationRecord } from './events.js'

export interface Standing {
  /** Undefined before the first evaluation, and while none was finite. */
  readonly best: ValidationRecord | undefined
  /** Evaluations in a row that were not better by more than the threshold. */
  readonly withoutBetter: number
}

/** Follows from the records alone, so that a resumed run decides as one that was never interrupted. */
export function standingOf(records: readonly ValidationRecord[], options: EvaluationOptions): Standing {
  const { metricForBestModel: metric = 'loss', earlyStoppingThreshold: threshold = 0 } = options
  const sign = metric === 'loss' ? -1 : 1
  let best: ValidationRecord | undefined
  // Patience goes by progress beyond the threshold, the best weights by any progress.
  let mark = Number.NEGATIVE_INFINITY
  let top = Number.NEGATIVE_INFINITY
  let withoutBetter = 0
  for (const record of records) {
    const value = sign * (record[metric] ?? Number.NaN)
    if (value > top) {
      top = value
      best = record
    }
    if (value > mark + threshold) {
      mark = value
      withoutBetter = 0
    } else withoutBetter++
  }
  return { best, withoutBetter }
}

export function stopsEarly(records: readonly ValidationRecord[], options: EvaluationOptions): boolean {
  const { earlyStoppingPatience: patience } = options
  return patience !== undefined && standingOf(records, options).withoutBetter >= patience
}
