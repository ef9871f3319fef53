/** How tokens are chosen: names and meanings as in Hugging Face transformers, in camelCase. */
import { AlmaError } from '../errors.js'
import type { LlamaConfig } from '../model/index.js'
import { optionError, requireBoolean, requireInteger, requireKnownOptions, requireNumber } from './option-names.js'

/** Decoding options that translations and plain generation share. */
export interface DecodingOptions {
  /** Most tokens that are generated, EOS included. Default 256; cut to the room that is left in the model's context. */
  readonly maxNewTokens?: number
  /** 1 (default): greedy, or sampled with `doSample`. Beam search is not available in this version. */
  readonly numBeams?: number
  /** Default 1; more needs beam search, which is not available in this version. */
  readonly numReturnSequences?: number
  /** The score is the sum of log-probabilities ÷ length^lengthPenalty, EOS counted in both. Default 1. */
  readonly lengthPenalty?: number
  /** Of beam search: has no effect on a single beam. Default false. */
  readonly earlyStopping?: boolean | 'never'
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
  /** EOS cannot be chosen before so many tokens. Default 0. */
  readonly minNewTokens?: number
}

export const decodingOptionNames = [
  'maxNewTokens',
  'numBeams',
  'numReturnSequences',
  'lengthPenalty',
  'earlyStopping',
  'doSample',
  'temperature',
  'topP',
  'topK',
  'seed',
  'repetitionPenalty',
  'noRepeatNgramSize',
  'batchTokens',
  'signal',
] as const satisfies readonly (keyof DecodingOptions)[]

export const generateOptionNames = [
  ...decodingOptionNames,
  'eosTokenId',
  'padTokenId',
  'minNewTokens',
] as const satisfies readonly (keyof GenerateOptions)[]

/** Options with their defaults, validated. */
export interface ResolvedDecoding {
  readonly maxNewTokens: number
  readonly minNewTokens: number
  readonly lengthPenalty: number
  readonly sampling: { temperature: number; topP: number; topK: number; seed: number } | undefined
  readonly repetitionPenalty: number
  readonly noRepeatNgramSize: number
  readonly batchTokens: number
  readonly eosTokenIds: readonly number[]
  readonly padTokenId: number | undefined
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
    doSample = false,
    repetitionPenalty = 1,
    noRepeatNgramSize = 0,
    batchTokens = 4096,
    eosTokenId = config.eosTokenIds,
    padTokenId,
    signal,
  } = options
  requireSingle('numBeams', numBeams)
  requireSingle('numReturnSequences', numReturnSequences)
  if (typeof earlyStopping !== 'boolean' && earlyStopping !== 'never') {
    throw optionError('earlyStopping', 'true, false or "never"', earlyStopping)
  }
  const sampling = resolveSampling(options)
  const eosTokenIds = (Array.isArray(eosTokenId) ? eosTokenId : [eosTokenId]).map((id) =>
    requireInteger('eosTokenId', id, 0, vocabSize - 1),
  )
  return {
    maxNewTokens: requireInteger('maxNewTokens', maxNewTokens, 1),
    minNewTokens: requireInteger('minNewTokens', minNewTokens, 0),
    lengthPenalty: requireNumber('lengthPenalty', lengthPenalty, () => true, 'a number'),
    sampling: requireBoolean('doSample', doSample) ? sampling : undefined,
    repetitionPenalty: requireNumber('repetitionPenalty', repetitionPenalty, (p) => p > 0, 'a number above 0'),
    noRepeatNgramSize: requireInteger('noRepeatNgramSize', noRepeatNgramSize, 0, 2 ** 31 - 1),
    batchTokens: requireInteger('batchTokens', batchTokens, 1),
    eosTokenIds,
    padTokenId: padTokenId === undefined ? undefined : requireInteger('padTokenId', padTokenId, 0, vocabSize - 1),
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

function requireSingle(name: 'numBeams' | 'numReturnSequences', value: unknown): void {
  if (requireInteger(name, value, 1) === 1) return
  throw new AlmaError(
    'ERR_ALMA_OPTION',
    `${name}: expected 1, got ${value}: beam search is not available in this version`,
  )
}
