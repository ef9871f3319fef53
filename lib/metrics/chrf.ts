/** chrF and chrF++ (Popović, 2015, 2017) with the numbers and signatures of sacreBLEU (`metrics/chrf.py`). */
import { AlmaError } from '../errors.js'
import { addTotals, NgramTrie, WordNumbers } from './ngram-trie.js'
import { codePoints, splitWords } from './python-text.js'
import { type References, referenceSets, requireInteger, requireKnownOptions, sentenceStreams } from './references.js'
import { corpusSums, type SegmentMetric } from './segment-metric.js'
import { type ReferenceCount, signature } from './signature.js'

export interface ChrfOptions {
  /** Longest n-gram of characters, 6 by default. */
  readonly charOrder?: number
  /** Longest n-gram of words, 0 by default; 2 makes chrF++. */
  readonly wordOrder?: number
  /** Weight of recall against precision, 2 by default. */
  readonly beta?: number
  /** Counts white space as characters; false by default. */
  readonly whitespace?: boolean
  /** False by default. */
  readonly lowercase?: boolean
  /** Averages the F-scores of all orders with a tiny value for absent ones, as chrF++.py does; false by default. */
  readonly epsSmoothing?: boolean
}

export interface ChrfScore {
  /** `'chrF2'`, `'chrF2++'`, … by beta and word order. */
  readonly name: string
  /** 0 to 100. */
  readonly score: number
  readonly charOrder: number
  readonly wordOrder: number
  readonly beta: number
  readonly signature: string
}

const defaults = {
  charOrder: 6,
  wordOrder: 0,
  beta: 2,
  whitespace: false,
  lowercase: false,
  epsSmoothing: false,
} as const satisfies ChrfOptions

type Settings = Required<ChrfOptions>

function settingsOf(options: ChrfOptions): Settings {
  requireKnownOptions('chrf', options, Object.keys(defaults))
  const settings = { ...defaults, ...options }
  requireInteger('charOrder', settings.charOrder, 1)
  requireInteger('wordOrder', settings.wordOrder, 0)
  if (!(settings.beta > 0)) {
    throw new AlmaError('ERR_ALMA_OPTION', `beta must be a positive number, not ${settings.beta}`)
  }
  return settings
}

/** Of each order, characters first: n-grams of the hypothesis, of the reference, and in both. */
interface Statistics {
  readonly hypothesis: number[]
  readonly reference: number[]
  readonly matched: number[]
}

/** chrF by lines: the {@link Statistics} one behind the other; of several references of a line, the best one's. */
export class ChrfMetric implements SegmentMetric {
  readonly name: string
  readonly higherIsBetter = true
  readonly width: number
  readonly settings: Settings
  readonly #segments: Segments
  readonly #orders: number

  /** @throws AlmaError ERR_ALMA_OPTION */
  constructor(options: ChrfOptions = {}) {
    this.settings = settingsOf(options)
    const { beta, charOrder, wordOrder } = this.settings
    this.name = `chrF${beta}${'+'.repeat(wordOrder)}`
    this.#orders = charOrder + wordOrder
    this.width = 3 * this.#orders
    this.#segments = new Segments(this.settings)
  }

  add(hypothesis: string, references: readonly string[], sums: Float64Array, offset: number): void {
    const best = this.#segments.best(hypothesis, references)
    let at = offset
    for (const kind of ['hypothesis', 'reference', 'matched'] as const) {
      for (const value of best[kind]) {
        sums[at] = (sums[at] ?? 0) + value
        at++
      }
    }
  }

  score(sums: Float64Array, offset = 0): number {
    const part = (index: number): number[] => {
      const start = offset + index * this.#orders
      return [...sums.subarray(start, start + this.#orders)]
    }
    return fScore({ hypothesis: part(0), reference: part(1), matched: part(2) }, this.settings)
  }

  signature(count: ReferenceCount): string {
    const { charOrder, wordOrder, lowercase, epsSmoothing, whitespace } = this.settings
    return signature(count, {
      case: lowercase ? 'lc' : 'mixed',
      eff: !epsSmoothing,
      nc: charOrder,
      nw: wordOrder,
      space: whitespace,
    })
  }
}

/**
 * chrF of a corpus; of several references of a line, the one with the best sentence score counts.
 *
 * @param references one stream (`string[]`) or several of them; null where a line has no reference in a stream
 * @throws AlmaError ERR_ALMA_OPTION when there is nothing to score, lengths differ, or an option is unknown
 */
export function chrf(hypotheses: readonly string[], references: References, options: ChrfOptions = {}): ChrfScore {
  const metric = new ChrfMetric(options)
  const { lines, count } = referenceSets(hypotheses, references)
  const { charOrder, wordOrder, beta } = metric.settings
  const score = metric.score(corpusSums(metric, hypotheses, lines))
  return { name: metric.name, score, charOrder, wordOrder, beta, signature: metric.signature(count) }
}

/** chrF of one sentence against one or more references. */
export function sentenceChrf(
  hypothesis: string,
  references: string | readonly string[],
  options: ChrfOptions = {},
): ChrfScore {
  return chrf([hypothesis], sentenceStreams(references), options)
}

function emptyStatistics(orders: number): Statistics {
  const zeros = (): number[] => new Array<number>(orders).fill(0)
  return { hypothesis: zeros(), reference: zeros(), matched: zeros() }
}

/** Statistics of single lines; keeps the tables of n-grams between them. */
class Segments {
  private readonly settings: Settings
  private readonly characters: NgramTrie
  private readonly words: NgramTrie
  private readonly numbers = new WordNumbers()

  constructor(settings: Settings) {
    this.settings = settings
    this.characters = new NgramTrie(settings.charOrder)
    this.words = new NgramTrie(settings.wordOrder)
  }

  /** Against the reference with the highest score, the first of equals. */
  best(hypothesis: string, references: readonly string[]): Statistics {
    this.numbers.clear()
    const { characters, words } = this.split(hypothesis)
    this.characters.setHypothesis(characters)
    this.words.setHypothesis(words)
    let best: Statistics | undefined
    let bestScore = -1
    for (const reference of references) {
      const statistics = this.against(reference, characters.length, words.length)
      const score = references.length === 1 ? 0 : fScore(statistics, this.settings)
      if (score <= bestScore) continue
      best = statistics
      bestScore = score
    }
    return best ?? emptyStatistics(this.settings.charOrder + this.settings.wordOrder)
  }

  private against(reference: string, characterCount: number, wordCount: number): Statistics {
    const { charOrder, wordOrder } = this.settings
    const other = this.split(reference)
    this.characters.addReference(other.characters)
    const matched = new Array<number>(charOrder).fill(0)
    this.characters.takeMatches(matched)
    const matchedWords = new Array<number>(wordOrder).fill(0)
    if (wordOrder > 0) {
      this.words.addReference(other.words)
      this.words.takeMatches(matchedWords)
    }
    const counted = (order: number, length: number): number[] => {
      const totals = new Array<number>(order).fill(0)
      addTotals(totals, length)
      return totals
    }
    const ofReference = [...counted(charOrder, other.characters.length), ...counted(wordOrder, other.words.length)]
    const ofHypothesis = [...counted(charOrder, characterCount), ...counted(wordOrder, wordCount)]
    return {
      // An order that the reference is too short for does not count against the hypothesis.
      hypothesis: ofHypothesis.map((total, order) => (ofReference[order] === 0 ? 0 : total)),
      reference: ofReference,
      matched: [...matched, ...matchedWords],
    }
  }

  private split(text: string): { characters: number[]; words: number[] } {
    const cased = this.settings.lowercase ? text.toLowerCase() : text
    return {
      characters: codePoints(cased, this.settings.whitespace),
      words: this.settings.wordOrder > 0 ? this.numbers.of(splitPunctuation(splitWords(cased))) : [],
    }
  }
}

/** ASCII punctuation, Python's `string.punctuation`. */
function isPunctuation(code: number): boolean {
  return (
    (code >= 0x21 && code <= 0x2f) ||
    (code >= 0x3a && code <= 0x40) ||
    (code >= 0x5b && code <= 0x60) ||
    (code >= 0x7b && code <= 0x7e)
  )
}

/** One punctuation mark apart from each word, at its end or else at its start, as chrF++ does. */
function splitPunctuation(words: readonly string[]): string[] {
  const parts: string[] = []
  for (const word of words) {
    if (word.length === 1) parts.push(word)
    else if (isPunctuation(word.charCodeAt(word.length - 1))) parts.push(word.slice(0, -1), word.slice(-1))
    else if (isPunctuation(word.charCodeAt(0))) parts.push(word.slice(0, 1), word.slice(1))
    else parts.push(word)
  }
  return parts
}

/** What an absent order counts as with `epsSmoothing`. */
const epsilon = 1e-16

function fScore({ hypothesis, reference, matched }: Statistics, { beta, epsSmoothing }: Settings): number {
  const factor = beta ** 2
  let smoothed = 0
  let precisions = 0
  let recalls = 0
  let orders = 0
  for (let order = 0; order < matched.length; order++) {
    const ofHypothesis = hypothesis[order] ?? 0
    const ofReference = reference[order] ?? 0
    const both = matched[order] ?? 0
    const precision = ofHypothesis > 0 ? both / ofHypothesis : epsilon
    const recall = ofReference > 0 ? both / ofReference : epsilon
    const denominator = factor * precision + recall
    smoothed += denominator > 0 ? ((1 + factor) * precision * recall) / denominator : epsilon
    if (ofHypothesis === 0 || ofReference === 0) continue
    precisions += precision
    recalls += recall
    orders++
  }
  if (epsSmoothing) return (100 * smoothed) / matched.length
  if (precisions + recalls === 0) return 0
  const precision = precisions / orders
  const recall = recalls / orders
  return (100 * (1 + factor) * precision * recall) / (factor * precision + recall)
}
