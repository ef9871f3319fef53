/** What a stage of training can say, its defaults (ALMA's), and the check of both. */
import { AlmaError, type AlmaErrorCode } from '../errors.js'
import { defaultLora, type LoraConfig, loraTargets } from '../model/index.js'
import { type PromptStyle, promptStyles } from '../text/index.js'
import { type DroppedFinding, defaultDrop, droppedFindings } from './data-report.js'
import { type EvaluationOptions, evaluationConflict, evaluationFields } from './evaluation-options.js'
import { type FieldCheck, type FieldChecks, flag, number, oneOf, positiveInteger, suggestion } from './fields.js'
import type { CheckpointingOption } from './memory-plan.js'
import {
  type PreferenceStage,
  preferenceConflict,
  preferenceDefaults,
  preferenceFields,
  resolvedPreference,
} from './preference-stage.js'
import { type MonolingualSource, type ParallelSource, type PreferenceSource, pairList, sourceList } from './sources.js'

/** Shape of the learning rate after the warm-up; see lib/train/schedule.ts. */
export type ScheduleName = 'cosine' | 'inverse_sqrt' | 'linear' | 'constant'

/** Fields of every kind of stage. */
export interface StageOptions extends EvaluationOptions {
  /** Sequences in a step, over all micro-batches. Default 256; of a preference stage, pairs of them: 128. */
  readonly batchSize?: number
  /** Sequences (or pairs of them) in a micro-batch. Default: as many as fit into 4,096 tokens, or into fewer where memory is short. */
  readonly microBatchSize?: number
  /** Highest learning rate. Default 2e-5; of a preference stage 1e-4. */
  readonly learningRate?: number
  readonly schedule?: ScheduleName
  /** Part of the steps in which the rate rises from 0. Default 0.01. */
  readonly warmupRatio?: number
  /** Decoupled; norms have none. Default 0.01. */
  readonly weightDecay?: number
  /** Default [0.9, 0.999]. */
  readonly betas?: readonly [number, number]
  /** Default 1e-8. */
  readonly epsilon?: number
  /** Norm of all gradients together that is clipped to; 0: no clipping. Default 1. */
  readonly maxGradNorm?: number
  /** Of the order of the data. Default 42. */
  readonly seed?: number
  /**
   * What is left out of the training data besides empty text: pairs of identical sides, text in a script that its language is not
   * written in, what is longer than the stage's limits (cut otherwise). Default identicalSides and wrongScript; nothing in ALMA's own
   * code, so with compat 'alma'.
   */
  readonly drop?: readonly DroppedFinding[]
  /** Steps between two evaluations; below 1: as a part of the stage. Default 0.1, when there is validation data. */
  readonly evaluationSteps?: number
  /** Steps between two checkpoints; below 1: as a part of the stage. Default 0.1, when there is an output folder. */
  readonly saveSteps?: number
  /** End with the weights of the best evaluation (by `metricForBestModel`) instead of the last ones. Default false. */
  readonly keepBest?: boolean
  readonly maxSteps?: number
  /** Passes over the data. Default 1, unless maxSteps or maxTokens is given. */
  readonly epochs?: number
  /**
   * `'transformers-4'`: the loss of a step is the mean of its micro-batches' means, as in transformers before 4.46, instead of the
   * mean over all its tokens. `'alma'`: besides, the last token of the prompt is a label, as in ALMA's own code.
   */
  readonly compat?: 'transformers-4' | 'alma'
  /** Train low-rank updates beside frozen weights. Default: all weights are trained. In a preference stage dropout is 0 unless given. */
  readonly lora?: Partial<LoraConfig>
  /**
   * What the backward pass computes again instead of keeping it: `'none'`; `'selective'`, norms, which costs little; `'full'`, whole
   * layers, a third more time. It changes no bit of the result. Default `'auto'`: the first of them that fits into memory.
   */
  readonly activationCheckpointing?: CheckpointingOption
  /**
   * For bf16 weights: keep no f32 master copies, and round every update up or down by chance, drawn by `seed`, so that small ones are not
   * lost on average. 4 bytes a weight less. Default false.
   */
  readonly stochasticRounding?: boolean
}

/** Stage 1: causal language modelling on packed blocks of text. */
export interface MonolingualStage extends StageOptions {
  readonly kind: 'monolingual'
  readonly sources: readonly MonolingualSource[]
  /** Text whose loss is reported; never trained on. */
  readonly validation?: readonly MonolingualSource[]
  /** Tokens of a sequence. Default 512. */
  readonly blockSize?: number
  readonly maxTokens?: number
}

/** Stage 2: translations, the loss on the target side only. */
export interface ParallelStage extends StageOptions {
  readonly kind: 'parallel'
  readonly pairs: readonly ParallelSource[]
  readonly validation?: readonly ParallelSource[]
  /** Train both directions of every pair. Default true. */
  readonly bidirectional?: boolean
  /** Tokens of prompt and source. Default 256. */
  readonly maxSourceLength?: number
  /** Tokens of the target. Default 256. */
  readonly maxNewTokens?: number
  /** Default 'alma'; 'x-alma' wraps the prompt as X-ALMA is asked. */
  readonly promptStyle?: PromptStyle
}

export type Stage = MonolingualStage | ParallelStage | PreferenceStage

type Defaulted =
  | 'batchSize'
  | 'learningRate'
  | 'schedule'
  | 'warmupRatio'
  | 'weightDecay'
  | 'betas'
  | 'epsilon'
  | 'maxGradNorm'
  | 'seed'
  | 'keepBest'
  | 'drop'

/** A stage with its defaults filled in. */
export type ResolvedStage = { readonly lora?: LoraConfig } & (
  | (Omit<MonolingualStage, 'lora'> & Required<Pick<MonolingualStage, Defaulted | 'blockSize'>>)
  | (Omit<ParallelStage, 'lora'> &
      Required<Pick<ParallelStage, Defaulted | 'bidirectional' | 'maxSourceLength' | 'maxNewTokens'>>)
  | (Omit<PreferenceStage, 'lora' | 'data' | 'validation' | 'eta'> & {
      readonly data: readonly PreferenceSource[]
      readonly validation?: readonly PreferenceSource[]
    } & Required<Pick<PreferenceStage, Defaulted | keyof typeof preferenceDefaults>>)
)

const common = {
  batchSize: 256,
  learningRate: 2e-5,
  warmupRatio: 0.01,
  weightDecay: 0.01,
  betas: [0.9, 0.999],
  epsilon: 1e-8,
  maxGradNorm: 1,
  seed: 42,
  keepBest: false,
} as const

const ownDefaults = {
  monolingual: { ...common, schedule: 'cosine', blockSize: 512 },
  parallel: {
    ...common,
    schedule: 'inverse_sqrt',
    bidirectional: true,
    maxSourceLength: 256,
    maxNewTokens: 256,
  },
  preference: { ...common, ...preferenceDefaults },
} as const

const stageKinds = ['monolingual', 'parallel', 'preference'] as const
const schedules: readonly ScheduleName[] = ['cosine', 'inverse_sqrt', 'linear', 'constant']

const loraFields: Readonly<Record<keyof LoraConfig, FieldCheck>> = {
  rank: positiveInteger,
  alpha: number('a number above 0', (value) => value > 0),
  dropout: number('a number from 0 to below 1', (value) => value >= 0 && value < 1),
  useRslora: flag,
  targetModules: (value) => {
    const known: readonly string[] = loraTargets
    if (value === 'all-linear') return undefined
    if (Array.isArray(value) && value.length > 0 && value.every((name) => known.includes(name))) return undefined
    return `'all-linear' or a list of ${loraTargets.join(', ')}`
  },
}

function loraCheck(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return 'an object of rank, alpha, …'
  for (const [key, inner] of Object.entries(value)) {
    const check = Object.hasOwn(loraFields, key) ? loraFields[key as keyof LoraConfig] : undefined
    if (check === undefined)
      return `only ${Object.keys(loraFields).join(', ')}, not "${key}"${suggestion(key, loraFields)}`
    const expected = check(inner)
    if (expected !== undefined) return `${expected} for "${key}", got ${JSON.stringify(inner)}`
  }
  return undefined
}

const interval = number(
  'a positive integer, or a part of the stage between 0 and 1',
  (value) => (Number.isSafeInteger(value) && value > 0) || (value > 0 && value < 1),
)

const commonFields: FieldChecks = {
  kind: oneOf(stageKinds),
  batchSize: positiveInteger,
  microBatchSize: positiveInteger,
  learningRate: number('a number above 0 and at most 1', (value) => value > 0 && value <= 1),
  schedule: oneOf(schedules),
  warmupRatio: number('a number from 0 to 1', (value) => value >= 0 && value <= 1),
  weightDecay: number('a number from 0 to 1', (value) => value >= 0 && value <= 1),
  betas: (value) =>
    Array.isArray(value) && value.length === 2 && value.every((beta) => beta >= 0 && beta < 1)
      ? undefined
      : 'two numbers from 0 to below 1',
  epsilon: number('a number above 0', (value) => value > 0),
  maxGradNorm: number('a number from 0 on', (value) => value >= 0),
  seed: number('an integer from 0 to 2^31 - 1', (value) => Number.isInteger(value) && value >= 0 && value < 2 ** 31),
  evaluationSteps: interval,
  saveSteps: interval,
  keepBest: flag,
  maxSteps: positiveInteger,
  epochs: positiveInteger,
  compat: oneOf(['transformers-4', 'alma']),
  lora: loraCheck,
  activationCheckpointing: oneOf(['auto', 'none', 'selective', 'full']),
  stochasticRounding: flag,
  ...evaluationFields,
  drop: (value) =>
    Array.isArray(value) && value.every((name) => droppedFindings.includes(name))
      ? undefined
      : `a list of ${droppedFindings.join(', ')}`,
}

const kindFields: Readonly<Record<Stage['kind'], FieldChecks>> = {
  monolingual: {
    ...commonFields,
    predictPairs: pairList,
    sources: sourceList,
    validation: sourceList,
    blockSize: number('an integer from 2 on', (value) => Number.isSafeInteger(value) && value >= 2),
    maxTokens: positiveInteger,
  },
  parallel: {
    ...commonFields,
    predictPairs: pairList,
    pairs: pairList,
    validation: pairList,
    bidirectional: flag,
    maxSourceLength: positiveInteger,
    maxNewTokens: positiveInteger,
    promptStyle: oneOf(promptStyles),
  },
  preference: { ...commonFields, predictPairs: pairList, promptStyle: oneOf(promptStyles), ...preferenceFields },
}

const dataFields = { monolingual: 'sources', parallel: 'pairs', preference: 'data' } as const

/**
 * Checks a stage and fills in the defaults.
 *
 * @param where how messages name the stage, e.g. `stages[0]` or `recipe.json: stages[0]`.
 * @throws AlmaError `code` naming the field, what was expected and what was found; ERR_ALMA_LANGUAGE.
 */
export function resolveStage(stage: Stage, where: string, code: AlmaErrorCode = 'ERR_ALMA_OPTION'): ResolvedStage {
  const fail = (what: string): never => {
    throw new AlmaError(code, `${where}: ${what}`)
  }
  if (typeof stage !== 'object' || stage === null) fail(`expected an object with "kind", got ${JSON.stringify(stage)}`)
  const fields = Object.hasOwn(kindFields, stage.kind) ? kindFields[stage.kind] : undefined
  if (fields === undefined) {
    return fail(`"kind": expected ${oneOf(stageKinds)(undefined)}, got ${JSON.stringify(stage.kind)}`)
  }
  for (const [key, value] of Object.entries(stage)) {
    if (value === undefined) continue
    const check = Object.hasOwn(fields, key) ? fields[key] : undefined
    if (check === undefined) return fail(`unknown field "${key}" of a ${stage.kind} stage${suggestion(key, fields)}`)
    const expected = check(value)
    if (expected !== undefined) fail(`"${key}": expected ${expected}, got ${JSON.stringify(value)}`)
  }
  const data = dataFields[stage.kind]
  if ((stage as unknown as Record<string, unknown>)[data] === undefined) fail(`"${data}" is missing`)
  if (stage.keepBest === true && stage.validation === undefined) fail('"keepBest" needs "validation" data')
  const conflict =
    evaluationConflict(
      stage as EvaluationOptions & { readonly validation?: readonly unknown[] },
      stage.kind === 'parallel',
    ) ?? (stage.kind === 'preference' ? preferenceConflict(stage) : undefined)
  if (conflict !== undefined) fail(conflict)
  if (stage.lora !== undefined && stage.stochasticRounding === true) {
    fail('"stochasticRounding" has no use with "lora": the weights are frozen, and the updates are small')
  }
  const given = Object.fromEntries(Object.entries(stage).filter(([, value]) => value !== undefined))
  const drop = stage.compat === 'alma' ? [] : defaultDrop
  // trl's trainer switches dropout off, in the adapter as well: both responses are to be seen by the same network.
  const dropout = stage.kind === 'preference' ? { dropout: 0 } : {}
  const lora = stage.lora === undefined ? {} : { lora: { ...defaultLora, ...dropout, ...stage.lora } }
  const preference = stage.kind === 'preference' ? resolvedPreference(stage) : {}
  const { eta: _, ...resolved } = {
    ...ownDefaults[stage.kind],
    drop,
    ...given,
    ...lora,
    ...preference,
  } as Record<string, unknown>
  return resolved as unknown as ResolvedStage
}
