/** The files of text that a stage can name, and the check of their fields. */
import { type MonolingualDocument, readMonolingual, readParallel, resolveLanguage } from '../text/index.js'
import { languageOf } from '../text/prompt.js'
import { type FieldCheck, type FieldChecks, number } from './fields.js'
import { seedOf } from './seeds.js'

/** A file of one language: text or JSONL, plain or gzip. */
export interface TextSource {
  readonly path: string
  /** Code or English name. */
  readonly language: string
  /** Share of the documents among those of all sources; together they are 1. Default: all equal. */
  readonly probability?: number
}

/**
 * A file of sentence pairs read as monolingual text: each pair becomes one document of both sides, source first or target first by
 * chance (X-ALMA's pseudo-monolingual stage).
 */
export interface PseudoMonolingualSource {
  readonly path: string
  readonly from: string
  readonly to: string
  readonly probability?: number
}

export type MonolingualSource = TextSource | PseudoMonolingualSource

/** A file of sentence pairs: ALMA JSON, JSONL or TSV, plain or gzip. */
export interface ParallelSource {
  readonly path: string
  readonly from: string
  readonly to: string
}

/** A file of preference rows. */
export interface PreferenceSource {
  readonly path: string
  /** Languages of rows that name none. */
  readonly from?: string
  readonly to?: string
}

/** A path, a file or a list of them as a list of files. */
export function preferenceSources(
  data: string | PreferenceSource | readonly (string | PreferenceSource)[],
): PreferenceSource[] {
  const list: readonly (string | PreferenceSource)[] = Array.isArray(data) ? data : [data as string | PreferenceSource]
  return list.map((entry) => (typeof entry === 'string' ? { path: entry } : entry))
}

/** `de`, or `de-en`. */
export function languagesOf(source: MonolingualSource | ParallelSource): string {
  if ('language' in source) return languageOf(source.language).code
  return `${languageOf(source.from).code}-${languageOf(source.to).code}`
}

/** `de-en`, or `mixed` where the rows name their languages. */
export function preferenceLanguages({ from, to }: PreferenceSource): string {
  return from === undefined || to === undefined ? 'mixed' : `${languageOf(from).code}-${languageOf(to).code}`
}

export interface SourceOptions {
  /** Of the order of the two sides in a pseudo-monolingual document. */
  readonly seed: number
  /** Called for what is skipped: lines with blank text. */
  readonly onBlank?: (line: number) => void
}

/** The documents of a monolingual source, in the order of the file; the same for the same seed. */
export async function* readSource(
  source: MonolingualSource,
  { seed, onBlank }: SourceOptions,
): AsyncGenerator<MonolingualDocument> {
  if ('language' in source) {
    yield* readMonolingual(source.path, { language: source.language, ...(onBlank && { onBlank }) })
    return
  }
  for await (const { source: a, target: b, line } of readParallel(source.path, source)) {
    const [first, second] = [a.trim(), b.trim()]
    if (first === '' || second === '') onBlank?.(line)
    else yield { text: targetFirst(seed, line) ? `${second} ${first}` : `${first} ${second}`, line }
  }
}

const targetFirst = (seed: number, line: number): boolean => seedOf(seed, line, 1) >>> 31 === 1

const path: FieldCheck = (value) => (typeof value === 'string' && value !== '' ? undefined : 'a path')

const language: FieldCheck = (value) => {
  if (typeof value !== 'string') return 'a language code or name'
  resolveLanguage(value) // its own error lists what is close
  return undefined
}

const textFields: FieldChecks = {
  path,
  language,
  probability: number('a number above 0 and at most 1', (value) => value > 0 && value <= 1),
}
const pairFields: FieldChecks = { path, from: language, to: language }

/** A list of files with sentence pairs. */
export const pairList: FieldCheck = listOf(() => [pairFields, ['path', 'from', 'to']])

/** A file with preference rows, or a list of them; a path is enough where the rows name their languages. */
export const preferenceList: FieldCheck = (value) => {
  if (typeof value !== 'string' && (typeof value !== 'object' || value === null)) return 'a path, or a list of files'
  const list = preferenceSources(value as PreferenceSource)
  if (list.some((entry) => (entry as unknown) === '' || entry.path === '')) return 'a path that is not empty'
  return listOf(() => [pairFields, ['path']])(list)
}

/** A list of files with text, or with pairs that are read as text. */
export const sourceList: FieldCheck = (value) =>
  listOf((entry) =>
    'from' in entry || 'to' in entry
      ? [{ ...pairFields, probability: textFields.probability as FieldCheck }, ['path', 'from', 'to']]
      : [textFields, ['path', 'language']],
  )(value) ?? probabilityCheck(value as readonly MonolingualSource[])

/** Rounded to so many digits, thirds and the like are right as people write them. */
const PROBABILITY_SLACK = 1e-3

/** Hugging Face `interleave_datasets` takes no others either: 0.5 and 0.4 are more likely a slip than the ratio 5:4. */
function probabilityCheck(sources: readonly MonolingualSource[]): string | undefined {
  const given = sources.map(({ probability }) => probability).filter((probability) => probability !== undefined)
  if (given.length === 0) return undefined
  if (given.length < sources.length) return `a "probability" in all of the ${sources.length} entries or in none`
  const sum = given.reduce((total, probability) => total + probability, 0)
  if (Math.abs(sum - 1) <= PROBABILITY_SLACK) return undefined
  return `probabilities that sum to 1 (these sum to ${Number(sum.toPrecision(6))})`
}

type EntryFields = readonly [fields: FieldChecks, required: readonly string[]]

function listOf(fieldsOf: (entry: object) => EntryFields): FieldCheck {
  return (value) => {
    if (!Array.isArray(value) || value.length === 0) return 'a list of at least one file'
    for (const [index, entry] of value.entries()) {
      if (typeof entry !== 'object' || entry === null) return `objects in the list, got ${JSON.stringify(entry)}`
      const [fields, required] = fieldsOf(entry)
      for (const key of required) if (!Object.hasOwn(entry, key)) return `"${key}" in entry ${index}`
      for (const [key, inner] of Object.entries(entry)) {
        const check = Object.hasOwn(fields, key) ? fields[key] : undefined
        if (check === undefined) return `only ${Object.keys(fields).join(', ')} in entry ${index}, not "${key}"`
        const expected = check(inner)
        if (expected !== undefined) return `${expected} for "${key}" of entry ${index}, got ${JSON.stringify(inner)}`
      }
    }
    return undefined
  }
}
