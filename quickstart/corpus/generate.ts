/** The corpus of the quick start: parallel German and English sentences from our own grammars, by seed, without files. */
import type { Pair } from './dates.js'
import { Random } from './random.js'
import { drawSentence } from './sentences.js'

export type { Pair } from './dates.js'

export interface CorpusOptions {
  /** Any 32-bit integer; the same seed and sizes give the same corpus. */
  readonly seed: number
  readonly trainPairs: number
  readonly heldOutPairs: number
  readonly validationPairs: number
  /** Sentences of each language; distinct within a language. */
  readonly monolingualSentences: number
  /** Every word form of held-out and validation pairs stands at least this often in the training pairs; 15 by default. */
  readonly minimumOccurrences?: number
}

export interface Corpus {
  readonly train: Pair[]
  readonly validation: Pair[]
  readonly heldOut: Pair[]
  readonly monolingual: { readonly de: string[]; readonly en: string[] }
}

const defaultMinimumOccurrences = 15

/** Draws in a row that may bring nothing new before the grammar counts as exhausted. */
const patience = 20_000

/**
 * Draws distinct pairs, splits them, and draws monolingual text that shares no sentence with held-out and validation.
 *
 * @throws RangeError when the grammar cannot give that many distinct sentences, or when a sentence has two translations
 */
export function generateCorpus(options: CorpusOptions): Corpus {
  const { seed, trainPairs, heldOutPairs, validationPairs, monolingualSentences } = options
  const minimum = options.minimumOccurrences ?? defaultMinimumOccurrences
  const drawn = distinctPairs(new Random(seed))
  const train = take(drawn, trainPairs)

  const counts = countForms(train)
  const covered = (pair: Pair): boolean => formsOf(pair).every((form) => (counts.get(form) ?? 0) >= minimum)
  const heldOut = take(drawn, heldOutPairs, covered)
  const validation = take(drawn, validationPairs, covered)

  const reserved = [...heldOut, ...validation]
  const monolingual = {
    de: drawText(seed ^ 0x6465, monolingualSentences, 'de', reserved),
    en: drawText(seed ^ 0x656e, monolingualSentences, 'en', reserved),
  }
  return { train, validation, heldOut, monolingual }
}

/** Pairs without end, each side new; a side that comes again with another translation is a fault of the grammar. */
function* distinctPairs(random: Random): Generator<Pair, never> {
  const english = new Map<string, string>()
  const german = new Map<string, string>()
  for (let idle = 0; idle < patience; idle++) {
    const pair = drawSentence(random)
    const knownEnglish = english.get(pair.de)
    const knownGerman = german.get(pair.en)
    if ((knownEnglish ?? pair.en) !== pair.en || (knownGerman ?? pair.de) !== pair.de) {
      throw new RangeError(`two translations: ${pair.de} | ${pair.en} | ${knownGerman ?? ''} | ${knownEnglish ?? ''}`)
    }
    if (knownEnglish !== undefined) continue
    english.set(pair.de, pair.en)
    german.set(pair.en, pair.de)
    idle = 0
    yield pair
  }
  throw new RangeError(`the grammar gives no more than ${english.size} distinct pairs`)
}

function take(pairs: Generator<Pair, never>, count: number, accept: (pair: Pair) => boolean = () => true): Pair[] {
  const taken: Pair[] = []
  for (let idle = 0; taken.length < count; idle++) {
    if (idle > patience) throw new RangeError('too few training pairs to cover the words of other pairs')
    const pair = pairs.next().value
    if (!accept(pair)) continue
    taken.push(pair)
    idle = 0
  }
  return taken
}

function drawText(seed: number, count: number, language: 'de' | 'en', reserved: readonly Pair[]): string[] {
  const random = new Random(seed)
  const excluded = new Set(reserved.map((pair) => pair[language]))
  const text = new Set<string>()
  for (let idle = 0; text.size < count; idle++) {
    if (idle > patience) throw new RangeError(`the grammar gives no more than ${text.size} sentences of ${language}`)
    const line = drawSentence(random)[language]
    if (excluded.has(line) || text.has(line)) continue
    text.add(line)
    idle = 0
  }
  return [...text]
}

/**
 * Word forms of a text, upper and lower case apart. Numbers from a hundred, which German writes as one word, count as
 * their parts ("dreitausendzwölf": "drei", "tausend", "zwölf").
 */
export function wordForms(text: string): string[] {
  return (text.match(/[\p{L}\p{N}'-]+/gu) ?? []).flatMap((word) => word.split(/(tausend|hundert)/).filter(Boolean))
}

function formsOf(pair: Pair): string[] {
  return [...wordForms(pair.de).map((form) => `de ${form}`), ...wordForms(pair.en).map((form) => `en ${form}`)]
}

function countForms(pairs: readonly Pair[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const form of pairs.flatMap(formsOf)) counts.set(form, (counts.get(form) ?? 0) + 1)
  return counts
}
