/** What a preference stage can say: contrastive preference optimisation (Xu et al. 2024) and its relatives. */
import type { ops } from '../runtime/index.js'
import type { PromptStyle } from '../text/index.js'
import { type FieldChecks, number, oneOf, positiveInteger } from './fields.js'
import { type PreferenceSource, preferenceList, preferenceSources } from './sources.js'
import type { StageOptions } from './stages.js'

/** Stage 3: of two translations of a source, the chosen one is made likelier than the rejected one. */
export interface PreferenceStage extends StageOptions {
  readonly kind: 'preference'
  /** Files of rows `{ source, chosen, rejected, from, to }`: JSON Lines or a JSON array, plain or gzip. */
  readonly data: string | PreferenceSource | readonly (string | PreferenceSource)[]
  /** Files of the same form, whose loss is reported; never trained on. */
  readonly validation?: PreferenceStage['data']
  /**
   * `'cpo'` (ALMA-R), the logistic loss of the difference of both log-probabilities; `'hinge'` and `'ipo'` instead; `'simpo'`, by token means
   * and with a margin (with `cpoAlpha` 0 as published); `'arpo'` (X-ALMA), which spares a rejected translation that is like the chosen one.
   * Default 'cpo'.
   */
  readonly loss?: ops.PreferenceLossName
  /** How much a difference of log-probabilities counts. Default 0.1. */
  readonly beta?: number
  /** Weight of the NLL of the chosen translations, a mean over their tokens. Default 1. */
  readonly cpoAlpha?: number
  /** Part of the pairs that are assumed to be the wrong way round, from 0 to 0.5; not for hinge and ipo. Default 0. */
  readonly labelSmoothing?: number
  /** `'simpo'`: the margin by which the chosen one should be ahead. Default 0.5. */
  readonly simpoGamma?: number
  /**
   * `'arpo'` as in ALMA's code: the rejected log-probability counts min(c1 · exp(c2 · |difference of token means|) − 1, 1) times. Default 0.9
   * and 0.4.
   */
  readonly relaxCoefficient1?: number
  readonly relaxCoefficient2?: number
  /** `'arpo'` as in its paper instead: min(exp(eta · |difference|) − 1, 1) times; there 1.5. Not together with the coefficients. */
  readonly eta?: number
  /** Tokens of prompt and translation. Default 512. */
  readonly maxLength?: number
  /** What is kept of the prompt, its end, where both are longer together. Default 256. */
  readonly maxPromptLength?: number
  /** Default 'alma'; 'x-alma' wraps the prompt as X-ALMA is asked. */
  readonly promptStyle?: PromptStyle
}

export const preferenceDefaults = {
  loss: 'cpo',
  beta: 0.1,
  cpoAlpha: 1,
  labelSmoothing: 0,
  maxLength: 512,
  maxPromptLength: 256,
  schedule: 'inverse_sqrt',
  learningRate: 1e-4,
  batchSize: 128,
} as const

const SIMPO_GAMMA = 0.5
/** ALMA's code. */
const relaxCoefficients = [0.9, 0.4] as const

export const preferenceFields: FieldChecks = {
  data: preferenceList,
  validation: preferenceList,
  loss: oneOf(['cpo', 'arpo', 'simpo', 'hinge', 'ipo']),
  beta: number('a number above 0', (value) => value > 0),
  cpoAlpha: number('a number from 0 on', (value) => value >= 0),
  labelSmoothing: number('a number from 0 to 0.5', (value) => value >= 0 && value <= 0.5),
  simpoGamma: number('a number from 0 on', (value) => value >= 0),
  relaxCoefficient1: number('a number above 0', (value) => value > 0),
  relaxCoefficient2: number('a number from 0 on', (value) => value >= 0),
  eta: number('a number above 0', (value) => value > 0),
  maxLength: positiveInteger,
  maxPromptLength: positiveInteger,
}

/** What of the fields of a preference stage contradicts the rest, or undefined. */
export function preferenceConflict(stage: PreferenceStage): string | undefined {
  const { loss = preferenceDefaults.loss, labelSmoothing = 0 } = stage
  const only = (fields: readonly (keyof PreferenceStage)[], owner: string): string | undefined => {
    const field = loss === owner ? undefined : fields.find((name) => stage[name] !== undefined)
    return field === undefined ? undefined : `"${field}" is for loss '${owner}', not '${loss}'`
  }
  const other = only(['simpoGamma'], 'simpo') ?? only(['relaxCoefficient1', 'relaxCoefficient2', 'eta'], 'arpo')
  if (other !== undefined) return other
  if (stage.eta !== undefined && (stage.relaxCoefficient1 ?? stage.relaxCoefficient2) !== undefined) {
    return '"eta" replaces the relaxCoefficients: give one or the other'
  }
  if (labelSmoothing > 0 && (loss === 'hinge' || loss === 'ipo')) return `"labelSmoothing" is not for loss '${loss}'`
  const { maxLength = preferenceDefaults.maxLength, maxPromptLength = preferenceDefaults.maxPromptLength } = stage
  if (maxPromptLength < 2 || maxPromptLength >= maxLength) {
    return `"maxPromptLength": expected an integer from 2 to below maxLength (${maxLength}), got ${maxPromptLength}`
  }
  return undefined
}

/** What the stage resolves to besides its defaults. */
export function resolvedPreference(stage: PreferenceStage): object {
  const { loss = preferenceDefaults.loss, eta, validation } = stage
  const [c1, c2] = relaxCoefficients
  const coefficients =
    eta === undefined
      ? { relaxCoefficient1: stage.relaxCoefficient1 ?? c1, relaxCoefficient2: stage.relaxCoefficient2 ?? c2 }
      : { relaxCoefficient1: 1, relaxCoefficient2: eta }
  return {
    data: preferenceSources(stage.data),
    ...(validation !== undefined && { validation: preferenceSources(validation) }),
    ...(loss === 'arpo' && coefficients),
    ...(loss === 'simpo' && { simpoGamma: stage.simpoGamma ?? SIMPO_GAMMA }),
  }
}

export function lossSettings(
  stage: Pick<PreferenceStage, 'relaxCoefficient1' | 'relaxCoefficient2' | 'simpoGamma'> &
    Required<Pick<PreferenceStage, 'loss' | 'beta' | 'labelSmoothing'>>,
): ops.PreferenceLossSettings {
  const { loss, beta, labelSmoothing, simpoGamma = 0 } = stage
  const { relaxCoefficient1: relax1 = 1, relaxCoefficient2: relax2 = 0 } = stage
  return { loss, beta, labelSmoothing, simpoGamma, relax1, relax2 }
}
