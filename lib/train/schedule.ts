/** Learning rates, as the schedulers of Hugging Face transformers (`optimization.py`) compute them. */
import type { ScheduleName } from './stages.js'

export interface ScheduleOptions {
  readonly schedule: ScheduleName
  /** The highest rate. */
  readonly learningRate: number
  readonly warmupSteps: number
  readonly totalSteps: number
}

/** Steps of warm-up for a ratio: rounded up, as in TrainingArguments.get_warmup_steps. */
export function warmupSteps(totalSteps: number, ratio: number): number {
  return Math.ceil(totalSteps * ratio)
}

/** The rate of step `step`, counted from 0: the first step of a warm-up has rate 0. */
export function learningRateAt(step: number, options: ScheduleOptions): number {
  const { schedule, learningRate, totalSteps } = options
  const warmup = options.warmupSteps
  if (step < warmup) return learningRate * (step / Math.max(1, warmup))
  const progress = (step - warmup) / Math.max(1, totalSteps - warmup)
  switch (schedule) {
    case 'constant':
      return learningRate
    case 'linear':
      return learningRate * Math.max(0, 1 - progress)
    case 'cosine':
      return learningRate * Math.max(0, 0.5 * (1 + Math.cos(Math.PI * progress)))
    case 'inverse_sqrt': {
      // get_inverse_sqrt_schedule: its timescale is the warm-up, or 10,000 steps without one.
      const timescale = warmup > 0 ? warmup : 10_000
      return learningRate / Math.sqrt((step + timescale - warmup) / timescale)
    }
  }
}
