/**
 * Readers of training and test data, streaming and with bounded memory. What a file is shows its content, not its name: plain or
 * gzip; a JSON array, JSON Lines, or lines of text (TSV where two columns are needed).
 */
import { AlmaError } from '../errors.js'
import { peekable, readBytes } from './byte-source.js'
import { type JsonRecord, readJsonArray, readJsonLines } from './json-records.js'
import { findLanguage } from './languages.js'
import { readLines, type TextLine } from './lines.js'
import { type LanguageLike, languageOf } from './prompt.js'

export interface MonolingualDocument {
  readonly text: string
  /** Line of the file on which it begins, from 1. */
  readonly line: number
}

export interface ParallelPair {
  readonly source: string
  readonly target: string
  readonly line: number
}

export interface PreferenceRow {
  readonly source: string
  readonly chosen: string
  readonly rejected: string
  /** Language codes. */
  readonly from: string
  readonly to: string
}

type Content =
  | { readonly kind: 'json'; readonly records: AsyncGenerator<JsonRecord> }
  | { readonly kind: 'text'; readonly lines: AsyncGenerator<TextLine> }

// Whitespace in front of a JSON array or object; more of it than this is no file of ours.
const PEEK_BYTES = 4096

async function open(path: string): Promise<Content> {
  const bytes = peekable(readBytes(path))
  const head = (await bytes.peek(PEEK_BYTES)).subarray(0, PEEK_BYTES).toString('latin1').trimStart()
  // A text may begin with "[" or "{" too, so the next character counts as well.
  if (/^\[\s*(?:[{\]]|$)/.test(head)) return { kind: 'json', records: readJsonArray(bytes.rest(), path) }
  if (/^\{\s*(?:["}]|$)/.test(head)) return { kind: 'json', records: readJsonLines(bytes.rest(), path) }
  return { kind: 'text', lines: readLines(bytes.rest(), path) }
}

function fail(where: string, what: string): AlmaError {
  return new AlmaError('ERR_ALMA_CORPUS', `${where}: ${what}`)
}

/** A string field of a record, or undefined when it has no such key. */
function stringOf(object: JsonRecord['value'], key: string, where: string): string | undefined {
  if (!Object.hasOwn(object, key)) return undefined
  const value = object[key]
  if (typeof value !== 'string') {
    const found =
      value === null
        ? 'null'
        : Array.isArray(value)
          ? 'an array'
          : typeof value === 'object'
            ? 'an object'
            : `a ${typeof value}`
    throw fail(where, `"${key}" is ${found}; expected a string`)
  }
  return value
}

/** The text of one language among the keys of a record: by its code, or any other name of the language (`de-DE`, `German`). */
function sideOf(object: JsonRecord['value'], code: string, where: string): string | undefined {
  const exact = stringOf(object, code, where)
  if (exact !== undefined) return exact
  const key = Object.keys(object).find((name) => findLanguage(name)?.code === code)
  return key === undefined ? undefined : stringOf(object, key, where)
}

/** The `{"de": …, "en": …}` of a record: ALMA wraps it in "translation". */
function sidesOf({ value, where }: JsonRecord): JsonRecord['value'] {
  if (!Object.hasOwn(value, 'translation')) return value
  const inner = value.translation
  if (typeof inner !== 'object' || inner === null || Array.isArray(inner))
    throw fail(where, '"translation" is not an object such as {"de": "…", "en": "…"}')
  return inner as JsonRecord['value']
}

const keysOf = (object: JsonRecord['value']): string =>
  Object.keys(object)
    .map((key) => `"${key}"`)
    .join(', ') || 'no keys'

async function* nonEmpty<T>(items: AsyncGenerator<T>, path: string, expected: string): AsyncGenerator<T> {
  let any = false
  for await (const item of items) {
    any = true
    yield item
  }
  if (!any) throw fail(path, `has no data; expected ${expected}`)
}

export interface MonolingualOptions {
  /** Which side of a `{"translation": …}` record is read. */
  readonly language: LanguageLike
  /** Called with the line of every blank document, which is skipped. */
  readonly onBlank?: (line: number) => void
}

/**
 * Documents of one language: text with a document a line, or JSON with `{"text": …}`, or ALMA's
 * `{"translation": {"de": …, "en": …}}`, of which the side of `language` is taken. Blank documents are skipped.
 * @throws AlmaError ERR_ALMA_CORPUS naming file and line, ERR_ALMA_IO when the file cannot be read
 */
export function readMonolingual(path: string, options: MonolingualOptions): AsyncGenerator<MonolingualDocument> {
  const { code } = languageOf(options.language)
  return nonEmpty(
    monolingual(path, code, options.onBlank),
    path,
    'text, a document a line, or JSON objects {"text": "…"}',
  )
}

async function* monolingual(
  path: string,
  code: string,
  onBlank?: (line: number) => void,
): AsyncGenerator<MonolingualDocument> {
  const content = await open(path)
  if (content.kind === 'text') {
    for await (const { text, line } of content.lines) {
      if (text.trim() !== '') yield { text, line }
      else onBlank?.(line)
    }
    return
  }
  for await (const record of content.records) {
    const sides = sidesOf(record)
    const text = stringOf(record.value, 'text', record.where) ?? sideOf(sides, code, record.where)
    if (text === undefined) throw fail(record.where, `has ${keysOf(sides)}; expected "text" or the language "${code}"`)
    if (text.trim() !== '') yield { text, line: record.line }
    else onBlank?.(record.line)
  }
}

export interface ParallelOptions {
  readonly from: LanguageLike
  readonly to: LanguageLike
}

/**
 * Sentence pairs: ALMA's `{"translation": {"de": …, "en": …}}` as JSON Lines or one array, `{"de": …, "en": …}`,
 * `{"source": …, "target": …}`, or text with source, tab and target. The order of keys does not matter: `from` and `to` choose.
 * @throws AlmaError ERR_ALMA_CORPUS naming file and line, ERR_ALMA_IO when the file cannot be read
 */
export function readParallel(path: string, options: ParallelOptions): AsyncGenerator<ParallelPair> {
  const from = languageOf(options.from).code
  const to = languageOf(options.to).code
  const expected = `JSON objects {"translation": {"${from}": "…", "${to}": "…"}} or lines of source, tab and target`
  return nonEmpty(parallel(path, from, to), path, expected)
}

async function* parallel(path: string, from: string, to: string): AsyncGenerator<ParallelPair> {
  const content = await open(path)
  if (content.kind === 'text') {
    for await (const { text, line } of content.lines) {
      if (text.trim() === '') continue
      const [source, target, ...more] = text.split('\t')
      if (source === undefined || target === undefined || more.length > 0)
        throw fail(
          `${path}:${line}`,
          `has ${more.length + (target === undefined ? 1 : 2)} columns; expected source, tab and target`,
        )
      yield { source, target, line }
    }
    return
  }
  for await (const record of content.records) {
    const { where, line } = record
    const sides = sidesOf(record)
    const source = sideOf(sides, from, where) ?? stringOf(sides, 'source', where)
    const target = sideOf(sides, to, where) ?? stringOf(sides, 'target', where)
    const missing = source === undefined ? from : to
    if (source === undefined || target === undefined)
      throw fail(where, `has ${keysOf(sides)}; expected the language "${missing}" (of "${from}" and "${to}")`)
    yield { source, target, line }
  }
}

export interface PreferenceOptions {
  /** Languages of rows that name none. */
  readonly from?: LanguageLike
  readonly to?: LanguageLike
}

/**
 * Preference data: JSON rows `{"source", "chosen", "rejected", "from", "to"}`. The columns of X-ALMA-Preference are understood as
 * well: `"reject"`, and `"directions": "en-de"` for the languages.
 * @throws AlmaError ERR_ALMA_CORPUS naming file and line, ERR_ALMA_LANGUAGE, ERR_ALMA_IO when the file cannot be read
 */
export function readPreference(
  path: string,
  options: PreferenceOptions = {},
): AsyncGenerator<PreferenceRow & { readonly line: number }> {
  return nonEmpty(preference(path, options), path, 'JSON objects {"source", "chosen", "rejected", "from", "to"}')
}

async function* preference(
  path: string,
  options: PreferenceOptions,
): AsyncGenerator<PreferenceRow & { readonly line: number }> {
  const content = await open(path)
  if (content.kind === 'text') {
    for await (const { text, line } of content.lines)
      if (text.trim() !== '')
        throw fail(`${path}:${line}`, 'not JSON; expected {"source", "chosen", "rejected", "from", "to"}')
    return
  }
  for await (const { value, where, line } of content.records) {
    const field = (...keys: readonly string[]): string | undefined => {
      for (const key of keys) {
        const found = stringOf(value, key, where)
        if (found !== undefined) return found
      }
      return undefined
    }
    const need = (text: string | undefined, key: string): string => {
      if (text === undefined) throw fail(where, `has ${keysOf(value)}; "${key}" is missing`)
      if (text.trim() === '') throw fail(where, `"${key}" is blank`)
      return text
    }
    const directions = field('directions')?.split('-')
    const language = (own: string | undefined, other: LanguageLike | undefined, key: string): string => {
      const named = own ?? other ?? need(undefined, key)
      return languageOf(named).code
    }
    yield {
      source: need(field('source'), 'source'),
      chosen: need(field('chosen'), 'chosen'),
      rejected: need(field('rejected', 'reject'), 'rejected'),
      from: language(field('from') ?? directions?.[0], options.from, 'from'),
      to: language(field('to') ?? directions?.[1], options.to, 'to'),
      line,
    }
  }
}
