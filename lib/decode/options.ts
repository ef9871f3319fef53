/** How tokens are chosen: names and meanings as in Hugging Face transformers, in camelCase. */
import type { LlamaConfig } from '../model/index.js'
import type { BeamCompatibility } from './beam-rules.js'
import { optionError, requireBoolean, requireInteger, requireKnownOptions, requireNumber } from './option-names.js'

/** Decoding options that translations and plain generation share. */
export interface DecodingOptions {
  /** Most tokens that are generated, EOS included. Default 256; cut to the room that is left in the model's context. */
  readonly maxNewTokens?: number
  /** 1 (default): greedy, or sampled with `doSample`. More: beam search, or beam sampling with `doSample`. */
  readonly numBeams?: number
  /** Answers a prompt, at most `numBeams`; with `doSample` and one beam as many as wanted. Default 1. */
  readonly numReturnSequences?: number
  /** The score is the sum of log-probabilities ÷ length^lengthPenalty, EOS counted in both. Default 1. */
  readonly lengthPenalty?: number
  /**
   * When beam search ends, once `numBeams` answers are finished: `true` at once; `false` (default) when the best open beam would not
   * be better if it ended now; `'never'` when no open beam can become better.
   */
  readonly earlyStopping?: boolean | 'never'
  /**
   * Whose beam search: `'transformers'` (default) that of release 4.50 and later, `'transformers-4.46'` the one before, and
   * `'transformers-4.35'` the one of ALMA's papers, whose lengths count prompt and padding (see `padTokenId` and `padLength`).
   */
  readonly compat?: BeamCompatibility
  /** Draw tokens at random instead of taking the likeliest. Default false. */
  readonly doSample?: boolean
  /** With `doSample`: logits are divided by it. Default 1. */
  readonly temperature?: number
  /** With `doSample`: draw from the likeliest tokens whose probabilities reach this sum. Default 1: off. */
  readonly topP?: number
  /** With `doSample`: draw from so many likeliest tokens. Default 0: off (transformers: 50). */
  readonly topK?: number
  /** With `doSample`: the same call gives the same tokens, however it is batched. From 0 to 2⁵³ − 1, default 42. */
  readonly seed?: number
  /** Divides positive and multiplies negative logits of tokens in the prompt or the answer (Keskar et al. 2019). Default 1: off. */
  readonly repetitionPenalty?: number
  /** No n-gram of this length occurs twice in prompt and answer. Default 0: off. */
  readonly noRepeatNgramSize?: number
  /** End an answer with its first line that is not blank, as ALMA reads it (`finishReason` 'stop'). Needs a tokenizer. Default false. */
  readonly stopAtNewline?: boolean
  /** Tokens of key/value cache that a batch may take; bounds memory, and how many sequences are decoded together. Default 4096. */
  readonly batchTokens?: number
  /** Checked before every token; the call is rejected with its reason, and the model stays usable. */
  readonly signal?: AbortSignal
}

/** Options of decoding that only calls with token ids have. */
export interface GenerateOptions extends DecodingOptions {
  /** The ids that end an answer; it is the last of the tokens returned. Default: the model's. An empty list: none. */
  readonly eosTokenId?: number | readonly number[]
  /**
   * Makes the call behave as transformers does with a batch padded on the left: `repetitionPenalty` and `noRepeatNgramSize` also
   * see the padding, up to the longest prompt of the call, so that results depend on what is in the batch. Default: they do not.
   */
  readonly padTokenId?: number
  /** With `padTokenId`: prompts count as padded to at least so many tokens (ALMA: 256). Default 0. */
  readonly padLength?: number
  /** With what every answer begins. These tokens are in the result, but `maxNewTokens`, `score` and lengths leave them out. */
  readonly prefixTokenIds?: readonly number[]
  /** EOS cannot be chosen before so many tokens. Default 0. */
  readonly minNewTokens?: number
}

export const decodingOptionNames = [
  'maxNewTokens',
  'numBeams',
  'numReturnSequences',
  'lengthPenalty',
  'earlyStopping',
  'compat',
  'doSample',
  'temperature',
  'topP',
  'topK',
  'seed',
  'repetitionPenalty',
  'noRepeatNgramSize',
  'stopAtNewline',
  'batchTokens',
  'signal',
] as const satisfies readonly (keyof DecodingOptions)[]

export const generateOptionNames = [
  ...decodingOptionNames,
  'eosTokenId',
  'padTokenId',
  'padLength',
  'prefixTokenIds',
  'minNewTokens',
] as const satisfies readonly (keyof GenerateOptions)[]

/** Options with their defaults, validated. */
export interface ResolvedDecoding {
  readonly maxNewTokens: number
  readonly minNewTokens: number
  readonly numBeams: number
  readonly numReturnSequences: number
  readonly lengthPenalty: number
  readonly earlyStopping: boolean | 'never'
  readonly compat: BeamCompatibility
  readonly sampling: { temperature: number; topP: number; topK: number; seed: number } | undefined
  readonly repetitionPenalty: number
  readonly noRepeatNgramSize: number
  readonly batchTokens: number
  readonly eosTokenIds: readonly number[]
  readonly padTokenId: number | undefined
  readonly padLength: number
  readonly prefixTokenIds: readonly number[]
  readonly stopAtNewline: boolean
  /** Whether an answer ends with a token for a reason that ids alone do not tell; `before` gives the ones that it has already. */
  readonly stops?: (token: number, before: () => readonly number[]) => boolean
  readonly signal: AbortSignal | undefined
}

/** @throws AlmaError ERR_ALMA_OPTION naming the option, what was expected and what was given. */
export function resolveDecoding(options: GenerateOptions, config: LlamaConfig): ResolvedDecoding {
  const { vocabSize } = config
  const {
    maxNewTokens = 256,
    minNewTokens = 0,
    numBeams = 1,
    numReturnSequences = 1,
    lengthPenalty = 1,
    earlyStopping = false,
    compat = 'transformers',
    doSample = false,
    repetitionPenalty = 1,
    noRepeatNgramSize = 0,
    stopAtNewline = false,
    batchTokens = 4096,
    eosTokenId = config.eosTokenIds,
    padTokenId,
    padLength = 0,
    prefixTokenIds = [],
    signal,
  } = options
  if (typeof earlyStopping !== 'boolean' && earlyStopping !== 'never') {
    throw optionError('earlyStopping', 'true, false or "never"', earlyStopping)
  }
  if (!compatibilities.includes(compat)) throw optionError('compat', compatibilities.join(', '), compat)
  const drawn = resolveSampling(options)
  const sampling = requireBoolean('doSample', doSample) ? drawn : undefined
  const eosTokenIds = (Array.isArray(eosTokenId) ? eosTokenId : [eosTokenId]).map((id) =>
    requireInteger('eosTokenId', id, 0, vocabSize - 1),
  )
  return {
    maxNewTokens: requireInteger('maxNewTokens', maxNewTokens, 1),
    minNewTokens: requireInteger('minNewTokens', minNewTokens, 0),
    ...requireBeams(numBeams, numReturnSequences, sampling !== undefined, vocabSize),
    earlyStopping,
    compat,
    lengthPenalty: requireNumber('lengthPenalty', lengthPenalty, () => true, 'a number'),
    sampling,
    repetitionPenalty: requireNumber('repetitionPenalty', repetitionPenalty, (p) => p > 0, 'a number above 0'),
    noRepeatNgramSize: requireInteger('noRepeatNgramSize', noRepeatNgramSize, 0, 2 ** 31 - 1),
    stopAtNewline: requireBoolean('stopAtNewline', stopAtNewline),
    batchTokens: requireInteger('batchTokens', batchTokens, 1),
    eosTokenIds,
    padTokenId: padTokenId === undefined ? undefined : requireInteger('padTokenId', padTokenId, 0, vocabSize - 1),
    padLength: requireInteger('padLength', padLength, 0),
    prefixTokenIds: requireTokenIds('prefixTokenIds', prefixTokenIds, vocabSize),
    signal,
  }
}

/** For a call whose options are those of GenerateOptions and nothing else. */
export function requireGenerateOptions(where: string, options: object): void {
  requireKnownOptions(where, options, generateOptionNames)
}

function resolveSampling(options: DecodingOptions): NonNullable<ResolvedDecoding['sampling']> {
  const { temperature = 1, topP = 1, topK = 0, seed = 42 } = options
  return {
    temperature: requireNumber(
      'temperature',
      temperature,
      (t) => t > 0,
      'a number above 0 (doSample: false takes the likeliest token)',
    ),
    topP: requireNumber('topP', topP, (p) => p > 0 && p <= 1, 'a number above 0, at most 1'),
    topK: requireInteger('topK', topK, 0, 2 ** 31 - 1),
    seed: requireInteger('seed', seed, 0),
  }
}

const compatibilities: readonly BeamCompatibility[] = ['transformers', 'transformers-4.46', 'transformers-4.35']

function requireBeams(
  numBeams: unknown,
  numReturnSequences: unknown,
  sampled: boolean,
  vocabSize: number,
): { numBeams: number; numReturnSequences: number } {
  // A step looks at twice as many candidates as there are beams.
  const beams = requireInteger('numBeams', numBeams, 1, Math.max(1, Math.floor(vocabSize / 2)))
  const sequences = requireInteger('numReturnSequences', numReturnSequences, 1)
  if (sequences > beams && (beams > 1 || !sampled)) {
    const more = beams === 1 ? ' (doSample: true draws as many as wanted)' : ''
    throw optionError('numReturnSequences', `at most numBeams, which is ${beams}${more}`, sequences)
  }
  return { numBeams: beams, numReturnSequences: sequences }
}

function requireTokenIds(name: string, ids: unknown, vocabSize: number): readonly number[] {
  if (!Array.isArray(ids)) throw optionError(name, 'an array of token ids', ids)
  return ids.map((id, i) => requireInteger(`${name}[${i}]`, id, 0, vocabSize - 1))
}
