/** BLEU (Papineni et al., 2002) with the numbers and signatures of sacreBLEU (Post, 2018; `metrics/bleu.py`). */
import { AlmaError } from '../errors.js'
import { addTotals, NgramTrie, WordNumbers } from './ngram-trie.js'
import { codePoints, splitWords, trimEnd } from './python-text.js'
import { type References, referenceSets, requireInteger, requireKnownOptions, sentenceStreams } from './references.js'
import { corpusSums, type SegmentMetric } from './segment-metric.js'
import { type ReferenceCount, signature } from './signature.js'
import { tokenize13a } from './tokenize-13a.js'
import { tokenizeIntl } from './tokenize-intl.js'
import { tokenizeZh } from './tokenize-zh.js'

/** `zh` for Chinese targets, `char` for other scripts without spaces. */
export type BleuTokenizer = '13a' | 'intl' | 'zh' | 'char' | 'none'

/** A tokenizer that needs data of its own, such as {@link sentencePieceTokenizer}. */
export interface PieceTokenizer {
  /** In the signature, e.g. `flores200`. */
  readonly name: string
  pieces(line: string): readonly string[]
}

/** What a precision without a match counts as (Chen and Cherry, 2014). */
export type BleuSmoothing = 'exp' | 'floor' | 'add-k' | 'none'

export interface BleuOptions {
  /** `'13a'` by default. */
  readonly tokenize?: BleuTokenizer | PieceTokenizer
  /** `'exp'` by default. */
  readonly smoothMethod?: BleuSmoothing
  /** Of `floor` (0.1 by default) and `add-k` (1 by default). */
  readonly smoothValue?: number | undefined
  /** False by default. */
  readonly lowercase?: boolean
  /** 4 by default. */
  readonly maxNgramOrder?: number
  /** Leaves out the orders longer than the hypothesis; for single sentences. False by default. */
  readonly effectiveOrder?: boolean
}

export interface BleuScore {
  readonly name: 'BLEU'
  /** 0 to 100. */
  readonly score: number
  /** Matched n-grams by order from 1; `add-k` is included. */
  readonly counts: readonly number[]
  /** N-grams of the hypotheses by order from 1; `add-k` is included. */
  readonly totals: readonly number[]
  /** By order from 1, smoothed, 0 to 100. */
  readonly precisions: readonly number[]
  /** 0 to 1. */
  readonly brevityPenalty: number
  /** Tokens. */
  readonly hypothesisLength: number
  /** Tokens of the reference nearest in length, summed over lines. */
  readonly referenceLength: number
  readonly signature: string
}

const defaults = {
  tokenize: '13a',
  smoothMethod: 'exp',
  smoothValue: undefined,
  lowercase: false,
  maxNgramOrder: 4,
  effectiveOrder: false,
} as const satisfies BleuOptions

const tokenizers: Readonly<Record<BleuTokenizer, (line: string) => string[]>> = {
  '13a': (line) => splitWords(tokenize13a(line)),
  intl: (line) => splitWords(tokenizeIntl(line)),
  zh: (line) => splitWords(tokenizeZh(line)),
  char: (line) => codePoints(line, false).map((point) => String.fromCodePoint(point)),
  none: splitWords,
}

/** The value of each method that takes one; the others take none. */
const smoothDefaults: Readonly<Record<BleuSmoothing, number | undefined>> = {
  exp: undefined,
  floor: 0.1,
  'add-k': 1,
  none: undefined,
}

type Settings = Required<BleuOptions>

function settingsOf(options: BleuOptions): Settings {
  requireKnownOptions('bleu', options, Object.keys(defaults))
  const settings: Settings = { ...defaults, ...options }
  const { tokenize } = settings
  if (typeof tokenize === 'string' ? !Object.hasOwn(tokenizers, tokenize) : typeof tokenize?.pieces !== 'function') {
    throw unknownValue('tokenize', String(tokenize), Object.keys(tokenizers))
  }
  if (!Object.hasOwn(smoothDefaults, settings.smoothMethod)) {
    throw unknownValue('smoothMethod', settings.smoothMethod, Object.keys(smoothDefaults))
  }
  requireInteger('maxNgramOrder', settings.maxNgramOrder, 1)
  return { ...settings, smoothValue: settings.smoothValue ?? smoothDefaults[settings.smoothMethod] }
}

function unknownValue(name: string, value: string, known: readonly string[]): AlmaError {
  return new AlmaError('ERR_ALMA_OPTION', `${name} is '${value}', but must be one of ${known.join(', ')}`)
}

/** BLEU by lines: lengths of hypothesis and nearest reference, matched n-grams by order, n-grams by order. */
export class BleuMetric implements SegmentMetric {
  readonly name = 'BLEU'
  readonly higherIsBetter = true
  readonly width: number
  readonly #settings: Settings
  readonly #trie: NgramTrie
  readonly #numbers = new WordNumbers()
  readonly #counts: number[]
  readonly #totals: number[]

  /** @throws AlmaError ERR_ALMA_OPTION */
  constructor(options: BleuOptions = {}) {
    this.#settings = settingsOf(options)
    const order = this.#settings.maxNgramOrder
    this.width = 2 + 2 * order
    this.#trie = new NgramTrie(order)
    this.#counts = new Array<number>(order).fill(0)
    this.#totals = new Array<number>(order).fill(0)
  }

  add(hypothesis: string, references: readonly string[], sums: Float64Array, offset: number): void {
    const numbers = this.#numbers
    const [counts, totals] = [this.#counts.fill(0), this.#totals.fill(0)]
    numbers.clear()
    const sequence = numbers.of(this.#tokens(hypothesis))
    this.#trie.setHypothesis(sequence)
    let nearest = -1
    for (const reference of references) {
      const other = numbers.of(this.#tokens(reference))
      this.#trie.addReference(other)
      nearest = nearest < 0 ? other.length : nearer(sequence.length, nearest, other.length)
    }
    this.#trie.takeMatches(counts)
    addTotals(totals, sequence.length)
    for (const [i, value] of [sequence.length, nearest, ...counts, ...totals].entries()) {
      sums[offset + i] = (sums[offset + i] ?? 0) + value
    }
  }

  score(sums: Float64Array, offset = 0): number {
    return this.details(sums, offset).score
  }

  details(sums: Float64Array, offset = 0): Omit<BleuScore, 'signature'> {
    const order = this.#settings.maxNgramOrder
    const [hypothesisLength = 0, referenceLength = 0] = sums.subarray(offset, offset + 2)
    const counts = [...sums.subarray(offset + 2, offset + 2 + order)]
    const totals = [...sums.subarray(offset + 2 + order, offset + this.width)]
    return scoreOf({ counts, totals, hypothesisLength, referenceLength }, this.#settings)
  }

  signature(count: ReferenceCount): string {
    const { smoothMethod, smoothValue, lowercase, effectiveOrder, tokenize } = this.#settings
    const smooth = smoothDefaults[smoothMethod] === undefined ? '' : `[${(smoothValue ?? 0).toFixed(2)}]`
    return signature(count, {
      case: lowercase ? 'lc' : 'mixed',
      eff: effectiveOrder,
      tok: typeof tokenize === 'string' ? tokenize : tokenize.name,
      smooth: smoothMethod + smooth,
    })
  }

  #tokens(text: string): string[] {
    const { tokenize, lowercase } = this.#settings
    const line = trimEnd(lowercase ? text.toLowerCase() : text)
    return typeof tokenize === 'string' ? tokenizers[tokenize](line) : [...tokenize.pieces(line)]
  }
}

/**
 * BLEU of a corpus.
 *
 * @param references one stream (`string[]`, a reference for each hypothesis) or several of them; null where a line has
 * no reference in a stream
 * @throws AlmaError ERR_ALMA_OPTION when there is nothing to score, lengths differ, or an option is unknown
 */
export function bleu(hypotheses: readonly string[], references: References, options: BleuOptions = {}): BleuScore {
  const metric = new BleuMetric(options)
  const { lines, count } = referenceSets(hypotheses, references)
  return { ...metric.details(corpusSums(metric, hypotheses, lines)), signature: metric.signature(count) }
}

/** BLEU of one sentence; `effectiveOrder` is true unless said otherwise. */
export function sentenceBleu(
  hypothesis: string,
  references: string | readonly string[],
  options: BleuOptions = {},
): BleuScore {
  return bleu([hypothesis], sentenceStreams(references), { effectiveOrder: true, ...options })
}

/** The reference length nearer to the hypothesis; the shorter one when both are as near. */
function nearer(length: number, one: number, other: number): number {
  const difference = Math.abs(length - other) - Math.abs(length - one)
  return difference < 0 || (difference === 0 && other < one) ? other : one
}

interface Statistics {
  readonly counts: readonly number[]
  readonly totals: readonly number[]
  readonly hypothesisLength: number
  readonly referenceLength: number
}

function scoreOf(statistics: Statistics, settings: Settings): Omit<BleuScore, 'signature'> {
  const { hypothesisLength, referenceLength } = statistics
  const { smoothMethod, smoothValue = 0, maxNgramOrder, effectiveOrder } = settings
  const brevityPenalty =
    hypothesisLength >= referenceLength
      ? 1
      : hypothesisLength > 0
        ? Math.exp(1 - referenceLength / hypothesisLength)
        : 0
  const precisions = new Array<number>(maxNgramOrder).fill(0)
  const whole = { name: 'BLEU', ...statistics, brevityPenalty, precisions } as const
  if (statistics.counts.every((matched) => matched === 0)) return { ...whole, score: 0 }

  const addend = smoothMethod === 'add-k' ? smoothValue : 0
  const counts = statistics.counts.map((value, index) => (index === 0 ? value : value + addend))
  const totals = statistics.totals.map((value, index) => (index === 0 ? value : value + addend))
  let halving = 1
  let orders = maxNgramOrder
  for (let index = 0; index < maxNgramOrder; index++) {
    const matched = counts[index] ?? 0
    const total = totals[index] ?? 0
    if (total === 0) break
    if (effectiveOrder) orders = index + 1
    if (matched > 0) precisions[index] = (100 * matched) / total
    else if (smoothMethod === 'exp') {
      halving *= 2
      precisions[index] = 100 / (halving * total)
    } else if (smoothMethod === 'floor') precisions[index] = (100 * smoothValue) / total
  }
  const logSum = precisions.slice(0, orders).reduce((sum, precision) => sum + Math.log(precision), 0)
  return { ...whole, counts, totals, precisions, score: brevityPenalty * Math.exp(logSum / orders) }
}
