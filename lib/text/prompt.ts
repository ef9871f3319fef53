/** The prompts that ALMA models are trained with and asked with, and what is taken from their answer. */
import { AlmaError } from '../errors.js'
import { type Language, resolveLanguage } from './languages.js'
import type { Tokenizer } from './tokenizer.js'

/** A code, an English name, or a language that the table does not have. */
export type LanguageLike = string | Language

export interface TranslationExample {
  readonly source: string
  readonly target: string
}

export interface TranslationPromptOptions {
  readonly from: LanguageLike
  readonly to: LanguageLike
  /** The text to translate. It goes in as it is, newlines too, as in ALMA; ALMA's own test sets have a sentence a line. */
  readonly source: string
  /** Few-shot examples, shown before the source. Default none. */
  readonly examples?: readonly TranslationExample[]
  /** Replaces ALMA's prompt: `{source}`, `{from}` and `{to}` (English names) are filled in. Not together with `examples`. */
  readonly template?: string
  /** Put behind the last colon. Default "": ALMA models are trained without a space there. */
  readonly separator?: string
}

const PLACEHOLDER = /\{(source|from|to)\}/g

export function languageOf(language: LanguageLike): Language {
  return typeof language === 'string' ? resolveLanguage(language) : language
}

/**
 * The prompt for a translation; the model continues it with the translation. Zero-shot (fe1ixxu/ALMA `get_prompt`):
 * ```
 * Translate this from German to English:
 * German: Guten Morgen!
 * English:
 * ```
 * Few-shot (`get_prompt_few_shot`): the first line, the examples in the same two-line form with a space before each target,
 * then the source.
 * @throws AlmaError ERR_ALMA_LANGUAGE, or ERR_ALMA_OPTION for a template without `{source}`
 */
export function translationPrompt(options: TranslationPromptOptions): string {
  const from = languageOf(options.from).name
  const to = languageOf(options.to).name
  const { source, examples = [], template, separator = '' } = options
  if (template === undefined) {
    const shots = examples.map((shot) => `\n${from}: ${shot.source}\n${to}: ${shot.target}`).join('')
    return `Translate this from ${from} to ${to}:${shots}\n${from}: ${source}\n${to}:${separator}`
  }
  if (examples.length > 0)
    throw new AlmaError(
      'ERR_ALMA_OPTION',
      'template: cannot be combined with examples; write the examples into the template',
    )
  if (!template.includes('{source}'))
    throw new AlmaError('ERR_ALMA_OPTION', 'template: has no place {source} for the text to translate')
  // One pass with a function: what is filled in is never searched for placeholders, nor for "$&".
  const values = { source, from, to }
  return template.replace(PLACEHOLDER, (_, name: keyof typeof values) => values[name]) + separator
}

/** BOS and the ids of the prompt. No text in it can become a control token: `</s>` in a source stays four characters. */
export function encodeTranslation(tokenizer: Tokenizer, options: TranslationPromptOptions): number[] {
  return tokenizer.encode(translationPrompt(options), { addBos: true })
}

export interface CleanTranslationOptions {
  /** Target language of the prompt: when the answer repeats the prompt's `\n{to}:`, the text behind it counts, as in ALMA. */
  readonly to?: LanguageLike
}

/**
 * The translation in what a model generated after the prompt: the first of its first three lines that is not blank, trimmed;
 * "" when there is none (fe1ixxu/ALMA `clean_outputstring`). A translation is one line: ALMA models may go on with more text.
 */
export function cleanTranslation(text: string, options: CleanTranslationOptions = {}): string {
  const parts = options.to === undefined ? [text] : text.split(`\n${languageOf(options.to).name}:`)
  const lines = (parts[0] ?? '').split('\n').slice(0, 3)
  const first = lines.map((line) => line.trim()).find((line) => line !== '')
  // ALMA's fallback, reached when the lines run out before one that is not blank.
  return first ?? (lines.length < 3 ? (parts[1] ?? '').split('\n')[0]?.trim() : undefined) ?? ''
}
