/** What the methods of Alma take and return. */
import {
  type DecodingOptions,
  decodingOptionNames,
  type FinishReason,
  type GenerateProgress,
  generateOptionNames,
  optionError,
  requireInteger,
  requireKnownOptions,
} from '../decode/index.js'
import type { LoadProgress } from '../model/index.js'
import type { Device } from '../runtime/index.js'
import {
  glossaryExamples,
  type LanguageLike,
  type PromptStyle,
  promptStyles,
  type SplitMode,
  splitModes,
  type Tokenizer,
  type TranslationExample,
  translationPrompt,
} from '../text/index.js'
import { type MinimumBayesRisk, requireMinimumBayesRisk } from './minimum-bayes-risk.js'

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
  /**
   * Folder of a LoRA adapter (PEFT) for this model, or several by name: `{ group3: DIR, group6: DIR }`. The first one is used where a
   * call does not say which.
   */
  readonly adapter?: string | Readonly<Record<string, string>>
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
  /** Default `'alma'`; `'x-alma'` wraps the prompt as X-ALMA's chat template does. */
  readonly promptStyle?: PromptStyle
  /**
   * Few-shot examples, shown before the source: the same for all, or chosen for each source, such as the fuzzy matches of a
   * translation memory. Default none.
   */
  readonly examples?: readonly TranslationExample[] | ((source: string) => readonly TranslationExample[])
  /** Terms and their translations; those that a source contains are shown before it, behind the examples. Default none. */
  readonly glossary?: readonly TranslationExample[]
}

export interface AdapterChoice {
  /** Name of a loaded LoRA adapter; `false`: the model without any. Default: the first one loaded. */
  readonly adapter?: string | false
}

export interface TranslateOptions extends PromptOptions, DecodingOptions, AdapterChoice {
  /** How texts are cut into what the model sees at once. Default `'auto'`: lines apart, and long lines in sentences. */
  readonly split?: SplitMode
  /** With `split: 'auto'` or `'sentences'`: most tokens of a piece. Default 256, less where the model's context is short. */
  readonly maxSourceLength?: number
  /** Minimum Bayes risk: the candidate that agrees best with all candidates, instead of the likeliest. Default: off. */
  readonly mbr?: MinimumBayesRisk
  /** With what every translation begins: part of the `text`, but not of `score`. Default "". */
  readonly targetPrefix?: string
  readonly onProgress?: (progress: GenerateProgress) => void
}

export interface Translation {
  /** For each line of the source a line, with the white space around it; of the model's answer, what ALMA takes. */
  readonly text: string
  readonly source: string
  /** Sum of log-probabilities ÷ length^lengthPenalty, nats; 0 for a blank source. */
  readonly score: number
  /** What the model generated, EOS included. */
  readonly tokenIds: readonly number[]
  readonly finishReason: FinishReason
  /** With `mbr`: the expected chrF or BLEU, 0 to 100. */
  readonly utility?: number
  /** Of a source that was cut: its pieces. */
  readonly segments?: readonly Translation[]
  /** N-best translations, best first, when `numReturnSequences` is more than 1. */
  readonly candidates?: readonly Omit<Translation, 'candidates' | 'source' | 'segments'>[]
}

export interface ScorePair {
  readonly source: string
  readonly target: string
  readonly from: LanguageLike
  readonly to: LanguageLike
}

export interface ScoreOptions extends AdapterChoice, Pick<PromptOptions, 'template' | 'separator' | 'promptStyle'> {
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
  /**
   * Where an adapter is active: `true` writes the whole model with the adapter added to its weights, `false` the adapter alone (PEFT).
   * Default: false when the weights under the adapter are on the disk as they were loaded, true when they are not.
   */
  readonly mergeAdapter?: boolean
  readonly signal?: AbortSignal
}

export const promptOptionNames = [
  'from',
  'to',
  'template',
  'separator',
  'examples',
  'promptStyle',
  'glossary',
] as const satisfies readonly (keyof PromptOptions)[]

export const translateOptionNames: readonly string[] = [
  'adapter',
  ...promptOptionNames,
  ...decodingOptionNames,
  'split',
  'maxSourceLength',
  'targetPrefix',
  'mbr',
  'onProgress',
]

const deviceOptionNames = ['device', 'threads', 'dtype']

export function requireLoadOptions(options: LoadOptions): void {
  requireKnownOptions('load', options, [...deviceOptionNames, 'adapter', 'onProgress', 'onWarning', 'signal'])
  requireDtype(options.dtype)
  const { adapter } = options
  const folders = typeof adapter === 'object' && adapter !== null ? Object.values(adapter) : [adapter ?? '.']
  if (folders.length === 0 || !folders.every((folder) => typeof folder === 'string' && folder !== '')) {
    throw optionError('adapter', 'the folder of a LoRA adapter, or an object of names and folders', adapter)
  }
}

export function requireCreateOptions(options: CreateOptions): void {
  requireKnownOptions('create', options, [...deviceOptionNames, 'tokenizer', 'seed'])
  requireDtype(options.dtype)
}

export function requireSaveOptions(options: SaveOptions): void {
  requireKnownOptions('save', options, ['dtype', 'maxShardBytes', 'mergeAdapter', 'signal'])
  requireDtype(options.dtype)
}

/**
 * Checks everything of a translation that does not depend on the source.
 *
 * @throws AlmaError ERR_ALMA_OPTION, or ERR_ALMA_LANGUAGE naming the nearest known languages.
 */
export function requireTranslateOptions(where: string, options: TranslateOptions, more: readonly string[] = []): void {
  requireKnownOptions(where, options, [...translateOptionNames, ...more])
  const { split, maxSourceLength } = options
  if (split !== undefined && !splitModes.includes(split)) {
    throw optionError('split', `one of ${splitModes.map((mode) => `"${mode}"`).join(', ')}`, split)
  }
  if (maxSourceLength !== undefined) requireInteger('maxSourceLength', maxSourceLength, 1)
  if (options.targetPrefix !== undefined) requireText('targetPrefix', options.targetPrefix)
  requireMinimumBayesRisk(options.mbr, options)
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
  const { promptStyle, examples, glossary } = options
  if (promptStyle !== undefined && !promptStyles.includes(promptStyle)) {
    throw optionError('promptStyle', promptStyles.map((style) => `"${style}"`).join(' or '), promptStyle)
  }
  if (typeof examples !== 'function') requireExamples('examples', examples)
  requireExamples('glossary', glossary)
  emptyPrompt(options)
}

/** What a prompt has besides its source, and what is shown for that source alone. */
export function emptyPrompt(options: PromptOptions): string {
  const { examples, ...rest } = options
  const fixed = typeof examples === 'function' || examples === undefined ? rest : { ...rest, examples }
  return translationPrompt({ ...promptOptions(fixed, ''), source: '' })
}

function requireExamples(name: string, examples: unknown): void {
  const isExample = (example: Partial<TranslationExample> | null): boolean =>
    typeof example?.source === 'string' && typeof example.target === 'string'
  if (examples === undefined || (Array.isArray(examples) && examples.every(isExample))) return
  throw optionError(name, 'an array of { source, target }', examples)
}

/** The part of the options that makes the prompt of a source. */
export function promptOptions(options: PromptOptions, source: string) {
  const { from, to, template, separator, promptStyle, examples, glossary = [] } = options
  const chosen = typeof examples === 'function' ? examples(source) : examples
  if (typeof examples === 'function') requireExamples(`examples(${JSON.stringify(source.slice(0, 40))})`, chosen)
  const shown = [...(chosen ?? []), ...glossaryExamples(glossary, source)]
  return {
    from,
    to,
    ...(template !== undefined && { template }),
    ...(separator !== undefined && { separator }),
    ...(promptStyle !== undefined && { promptStyle }),
    ...(shown.length > 0 && { examples: shown }),
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
