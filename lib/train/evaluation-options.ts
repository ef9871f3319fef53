/** What a stage can say about its evaluations; the names are those of transformers' TrainingArguments and EarlyStoppingCallback. */
import { type FieldChecks, flag, number, oneOf, positiveInteger } from './fields.js'
import type { ParallelSource } from './sources.js'

/** What decides which weights are the best. */
export type BestMetric = 'loss' | 'bleu' | 'chrf'

export interface EvaluationOptions {
  /** Translate sentences greedily at every evaluation and score BLEU and chrF. Default false; true where one of both decides. */
  readonly predictWithGenerate?: boolean
  /** Files to take these sentences from. Default: `validation`, in a stage that has sentence pairs. */
  readonly predictPairs?: readonly ParallelSource[]
  /** Sentences of each direction, drawn by `seed`. Default 64. */
  readonly predictSamples?: number
  /** What `keepBest` and early stopping go by. Default 'loss'. */
  readonly metricForBestModel?: BestMetric
  /** Evaluations in a row without a better one after which the stage ends. Default: it never ends early. */
  readonly earlyStoppingPatience?: number
  /** An evaluation is better only when it is by more than this: nats, or points of BLEU or chrF. Default 0. */
  readonly earlyStoppingThreshold?: number
}

export const PREDICT_SAMPLES = 64

/** The checks of single values; `predictPairs` is a list of files like `validation`. */
export const evaluationFields: FieldChecks = {
  predictWithGenerate: flag,
  predictSamples: positiveInteger,
  metricForBestModel: oneOf(['loss', 'bleu', 'chrf']),
  earlyStoppingPatience: positiveInteger,
  earlyStoppingThreshold: number('a number from 0 on', (value) => value >= 0),
}

/** What of the options contradicts the rest of a stage, or undefined. `hasPairs`: whether its `validation` is of sentence pairs. */
export function evaluationConflict(
  stage: EvaluationOptions & { readonly validation?: readonly unknown[] },
  hasPairs: boolean,
): string | undefined {
  const { predictPairs, predictSamples, metricForBestModel: metric = 'loss', validation } = stage
  const needsValidation = ['predictWithGenerate', 'earlyStoppingPatience', 'metricForBestModel'] as const
  if (validation === undefined) {
    const field = needsValidation.find((name) => stage[name] !== undefined && stage[name] !== false)
    if (field !== undefined) return `"${field}" needs "validation" data`
  }
  if (metric !== 'loss' && stage.predictWithGenerate === false) {
    return `"metricForBestModel" is '${metric}', which needs "predictWithGenerate"`
  }
  if (!translates(stage)) {
    if (predictPairs !== undefined) return '"predictPairs" needs "predictWithGenerate"'
    if (predictSamples !== undefined) return '"predictSamples" needs "predictWithGenerate"'
  } else if (!hasPairs && predictPairs === undefined) {
    return 'translating needs sentence pairs: "predictPairs" is missing'
  }
  if (stage.earlyStoppingThreshold !== undefined && stage.earlyStoppingPatience === undefined) {
    return '"earlyStoppingThreshold" needs "earlyStoppingPatience"'
  }
  return undefined
}

/** Whether the evaluations of a stage translate. */
export function translates({ predictWithGenerate, metricForBestModel = 'loss' }: EvaluationOptions): boolean {
  return predictWithGenerate ?? metricForBestModel !== 'loss'
}
