/** What the methods of Alma take and return. */
import {
  type DecodingOptions,
  decodingOptionNames,
  type FinishReason,
  type GenerateProgress,
  generateOptionNames,
  optionError,
  requireKnownOptions,
} from '../decode/index.js'
import type { LoadProgress } from '../model/index.js'
import type { Device } from '../runtime/index.js'
import { type LanguageLike, type Tokenizer, type TranslationExample, translationPrompt } from '../text/index.js'

export interface DeviceChoice {
  /**
   * `'auto'` (default): a GPU if one is usable, else the CPU. `'cpu'`, `'cuda'`, `'cuda:N'`, or a device that is open already: it
   * then stays open when the Alma is disposed.
   */
  readonly device?: string | Device
  /** Worker threads of the CPU device. Default: all processors that the process may use. */
  readonly threads?: number
  /** Of the weights in memory. Default: the device's, `'f32'` on the CPU. */
  readonly dtype?: 'bf16' | 'f32'
}

export interface LoadOptions extends DeviceChoice {
  /** Folder of a LoRA adapter (PEFT). Not available in this version. */
  readonly adapter?: string
  readonly onProgress?: (progress: LoadProgress) => void
  /** What was ignored in the folder, a sentence each. Default: `process.emitWarning`. */
  readonly onWarning?: (message: string) => void
  readonly signal?: AbortSignal
}

export interface CreateOptions extends DeviceChoice {
  /** A tokenizer, or the folder of one. Without it the model works on token ids alone. */
  readonly tokenizer?: Tokenizer | string
  /** Of the random weights, from 0 to 2⁵³ − 1. Default 42. */
  readonly seed?: number
}

export interface PromptOptions {
  /** BCP-47 code or English name: `'de'`, `'de-AT'`, `'German'`; or a language that the table does not have. */
  readonly from: LanguageLike
  readonly to: LanguageLike
  /** Replaces ALMA's prompt: `{source}`, `{from}` and `{to}` (English names) are filled in. */
  readonly template?: string
  /** Put behind the prompt. Default "": ALMA models are trained without a space there. */
  readonly separator?: string
  /** Few-shot examples, shown before the source. Default none. */
  readonly examples?: readonly TranslationExample[]
}

export interface TranslateOptions extends PromptOptions, DecodingOptions {
  /** With what every translation begins: part of the `text`, but not of `score`. Default "". */
  readonly targetPrefix?: string
  readonly onProgress?: (progress: GenerateProgress) => void
}

export interface Translation {
  /** One line, trimmed: what ALMA takes from the model's answer. */
  readonly text: string
  readonly source: string
  /** Sum of log-probabilities ÷ length^lengthPenalty, nats; 0 for a blank source. */
  readonly score: number
  /** What the model generated, EOS included. */
  readonly tokenIds: readonly number[]
  readonly finishReason: FinishReason
  /** N-best translations, best first, when `numReturnSequences` is more than 1. */
  readonly candidates?: readonly Omit<Translation, 'candidates' | 'source'>[]
}

export interface ScorePair {
  readonly source: string
  readonly target: string
  readonly from: LanguageLike
  readonly to: LanguageLike
}

export interface ScoreOptions extends Pick<PromptOptions, 'template' | 'separator'> {
  /** Tokens of one pass. Default 2048. */
  readonly batchTokens?: number
  readonly signal?: AbortSignal
}

export interface Score {
  /** Log-probability of the translation, EOS included, given the prompt; nats. */
  readonly logprob: number
  /** Of each of `tokenIds`. */
  readonly tokenLogprobs: readonly number[]
  /** The translation's tokens, and EOS. */
  readonly tokenIds: readonly number[]
}

export interface SaveOptions {
  /** Of the weights in the files. Default: as in memory. */
  readonly dtype?: 'bf16' | 'f32'
  /** Largest weight file, bytes. Default 5 GB, as Hugging Face. */
  readonly maxShardBytes?: number
  readonly signal?: AbortSignal
}

export const promptOptionNames = [
  'from',
  'to',
  'template',
  'separator',
  'examples',
] as const satisfies readonly (keyof PromptOptions)[]

export const translateOptionNames: readonly string[] = [
  ...promptOptionNames,
  ...decodingOptionNames,
  'targetPrefix',
  'onProgress',
]

const deviceOptionNames = ['device', 'threads', 'dtype']

export function requireLoadOptions(options: LoadOptions): void {
  requireKnownOptions('load', options, [...deviceOptionNames, 'adapter', 'onProgress', 'onWarning', 'signal'])
  requireDtype(options.dtype)
  if (options.adapter !== undefined) {
    throw optionError('adapter', 'none: LoRA adapters are not available in this version', options.adapter)
  }
}

export function requireCreateOptions(options: CreateOptions): void {
  requireKnownOptions('create', options, [...deviceOptionNames, 'tokenizer', 'seed'])
  requireDtype(options.dtype)
}

export function requireSaveOptions(options: SaveOptions): void {
  requireKnownOptions('save', options, ['dtype', 'maxShardBytes', 'signal'])
  requireDtype(options.dtype)
}

/**
 * Checks everything of a translation that does not depend on the source.
 *
 * @throws AlmaError ERR_ALMA_OPTION, or ERR_ALMA_LANGUAGE naming the nearest known languages.
 */
export function requireTranslateOptions(where: string, options: TranslateOptions, more: readonly string[] = []): void {
  requireKnownOptions(where, options, [...translateOptionNames, ...more])
  if (options.targetPrefix !== undefined) requireText('targetPrefix', options.targetPrefix)
  requirePromptOptions(options)
}

export function requirePromptOptions(options: PromptOptions): void {
  for (const name of ['from', 'to'] as const) {
    const language = options[name]
    if (typeof language !== 'string' && typeof language?.name !== 'string') {
      throw optionError(name, 'a language such as "de" or "German"', language)
    }
  }
  for (const name of ['template', 'separator'] as const) {
    if (options[name] !== undefined && typeof options[name] !== 'string')
      throw optionError(name, 'a string', options[name])
  }
  translationPrompt({ ...promptOptions(options), source: '' })
}

/** The part of the options that makes the prompt. */
export function promptOptions(options: PromptOptions): PromptOptions {
  const { from, to, template, separator, examples } = options
  return {
    from,
    to,
    ...(template !== undefined && { template }),
    ...(separator !== undefined && { separator }),
    ...(examples !== undefined && { examples }),
  }
}

/** The part of the options that {@link resolveDecoding} takes. */
export function decodingOptions(options: DecodingOptions): DecodingOptions {
  const known: readonly string[] = generateOptionNames
  return Object.fromEntries(Object.entries(options).filter(([name]) => known.includes(name)))
}

export function requireText(name: string, text: unknown): string {
  if (typeof text === 'string') return text
  throw optionError(name, 'a string', text)
}

function requireDtype(dtype: unknown): void {
  if (dtype !== undefined && dtype !== 'f32' && dtype !== 'bf16') throw optionError('dtype', '"f32" or "bf16"', dtype)
}
