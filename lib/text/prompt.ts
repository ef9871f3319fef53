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

/** `alma`: the prompt alone. `x-alma`: as the user's turn of a LLaMA-2 chat, which X-ALMA is trained with. */
export type PromptStyle = 'alma' | 'x-alma'

export const promptStyles: readonly PromptStyle[] = ['alma', 'x-alma']

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
  /** Default `'alma'`. */
  readonly promptStyle?: PromptStyle
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
  const { source, examples = [], template, separator = '', promptStyle = 'alma' } = options
  // X-ALMA's chat template; `[INST]` is plain text to LLaMA-2's tokenizer, no control token.
  const wrap = (prompt: string): string => (promptStyle === 'alma' ? prompt : `[INST] ${prompt} [/INST]`)
  if (template === undefined) {
    const shots = examples.map((shot) => `\n${from}: ${shot.source}\n${to}: ${shot.target}`).join('')
    return wrap(`Translate this from ${from} to ${to}:${shots}\n${from}: ${source}\n${to}:`) + separator
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
  return wrap(template.replace(PLACEHOLDER, (_, name: keyof typeof values) => values[name])) + separator
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

/**
 * The entries of a glossary whose source term stands in the text, to be shown as examples before it: an ALMA prompt knows no
 * other place for a term and its translation. Case is ignored; a term in a script with spaces must stand as a whole word.
 */
export function glossaryExamples(glossary: readonly TranslationExample[], text: string): TranslationExample[] {
  const folded = text.toLocaleLowerCase()
  return glossary.filter(({ source }) => {
    const term = source.trim().toLocaleLowerCase()
    if (term === '') return false
    for (let at = folded.indexOf(term); at >= 0; at = folded.indexOf(term, at + 1)) {
      if (isWordBorder(folded, at) && isWordBorder(folded, at + term.length)) return true
    }
    return false
  })
}

/** Scripts in which words follow each other without spaces have no borders to look for. */
const SPACELESS_LETTER = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]/u
const WORD_LETTER = /[\p{L}\p{M}\p{N}]/u

function isWordBorder(text: string, at: number): boolean {
  const before = [...text.slice(Math.max(0, at - 2), at)].at(-1) ?? ''
  const after = String.fromCodePoint(text.codePointAt(at) ?? 0x20)
  if (SPACELESS_LETTER.test(before) || SPACELESS_LETTER.test(after)) return true
  return !(WORD_LETTER.test(before) && WORD_LETTER.test(after))
}
