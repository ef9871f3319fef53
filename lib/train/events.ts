/** What a training run tells while it runs, and what it returns. */
import type { DataReport } from './data-report.js'
import type { MemoryPlan } from './memory-plan.js'
import type { ResolvedStage, Stage } from './stages.js'

export interface StepRecord {
  /** From 1. */
  readonly step: number
  /** Mean over the step's target tokens, nats; of a preference stage its whole loss. */
  readonly loss: number
  readonly learningRate: number
  /** Before clipping. */
  readonly gradNorm: number
  /** Input tokens of the step. */
  readonly tokens: number
  /** Of a preference stage, under the names of trl: `rewards/chosen`, `rewards/accuracies`, `logps/chosen`, `nll_loss`, … */
  readonly metrics?: Readonly<Record<string, number>>
}

export interface ValidationRecord {
  /** Steps done when it was measured; 0: before the first. */
  readonly step: number
  /** Mean over all target tokens of the validation data, nats; of a preference stage its whole loss. */
  readonly loss: number
  /** The same of each language (`de`) or direction (`de-en`). */
  readonly losses?: Readonly<Record<string, number>>
  /** As those of a step, over all validation data. */
  readonly metrics?: Readonly<Record<string, number>>
  /** Means over the directions, where the stage translates at its evaluations. */
  readonly bleu?: number
  readonly chrf?: number
  /** Of each direction (`de-en`). */
  readonly scores?: Readonly<Record<string, DirectionScores>>
  /** The first sentences of each direction; the same ones at every evaluation. */
  readonly samples?: readonly TranslationSample[]
}

/** 0 to 100 each, as sacreBLEU's. */
export interface DirectionScores {
  readonly bleu: number
  readonly chrf: number
}

export interface TranslationSample {
  /** `de-en`. */
  readonly direction: string
  readonly source: string
  readonly reference: string
  readonly translation: string
}

interface StageEvent {
  /** Index of the stage, from 0. */
  readonly stage: number
  readonly kind: Stage['kind']
}

/** What is trained, by what and on what: the first event of every run, of a resumed one too. */
export interface RunEvent {
  readonly type: 'run'
  /** Of this package. */
  readonly version: string
  readonly model: { readonly parameters: number; readonly dtype: string; readonly config: object }
  readonly device: { readonly name: string; readonly description: string }
  /** With their defaults filled in. */
  readonly stages: readonly ResolvedStage[]
  /** Where a resumed run goes on: the stage, and the step of its checkpoint. */
  readonly resumed?: { readonly stage: number; readonly step: number }
}

export type TrainingEvent =
  | RunEvent
  | (StageEvent & { readonly type: 'memory'; readonly plan: MemoryPlan })
  | (StageEvent & { readonly type: 'data'; readonly report: DataReport })
  | (StageEvent & { readonly type: 'stage'; readonly steps: number; readonly resumedAt: number })
  | (StageEvent & {
      readonly type: 'step'
      readonly steps: number
      readonly record: StepRecord
      /** Mean of the stage, evaluations and checkpoints included. */
      readonly tokensPerSecond: number
      readonly secondsLeft: number
      /** This step alone took, s. */
      readonly seconds: number
      /** Device memory in use and its peak, bytes. */
      readonly memory: { readonly allocated: number; readonly peak: number }
    })
  | (StageEvent & { readonly type: 'validation'; readonly record: ValidationRecord; readonly best: boolean })
  | (StageEvent & { readonly type: 'checkpoint'; readonly step: number; readonly path: string })
  | (StageEvent & { readonly type: 'skipped'; readonly step: number; readonly reason: string })
  | (StageEvent & { readonly type: 'stoppedEarly'; readonly step: number; readonly reason: string })
  | (StageEvent & { readonly type: 'stageEnd'; readonly report: StageReport })

export interface StageReport {
  readonly kind: Stage['kind']
  readonly steps: number
  /** Input tokens trained on. */
  readonly tokens: number
  readonly seconds: number
  readonly losses: readonly StepRecord[]
  readonly validation: readonly ValidationRecord[]
  /** Steps whose gradients were not finite and changed nothing. */
  readonly skippedSteps: number
  /** The step whose weights the stage ended with, when keepBest was asked for. */
  readonly bestStep?: number
  /** Set when the stage ended before its last step because the evaluations became no better. */
  readonly stoppedEarly?: true
}

export interface FinetuneReport {
  readonly stages: readonly StageReport[]
  /** The folder with the trained model. */
  readonly output?: string
}
