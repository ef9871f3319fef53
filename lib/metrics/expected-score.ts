/**
 * How well each of several candidate translations agrees with all of them together: the utility of minimum Bayes risk
 * decoding. Instead of comparing every candidate with every other, the candidates are averaged into one reference, by the
 * expected count of each n-gram, so that the work grows linearly (Vamvas and Sennrich, "Linear-time Minimum Bayes Risk
 * Decoding with Reference Aggregation", 2024; DeNero et al., 2009, for BLEU).
 */
import { BleuMetric } from './bleu.js'
import { ChrfMetric } from './chrf.js'
import { codePoints, splitWords, trimEnd } from './python-text.js'
import { tokenize13a } from './tokenize-13a.js'
import { tokenizeZh } from './tokenize-zh.js'

export type UtilityMetric = 'chrf' | 'bleu'

/** Larger than any symbol: code points, and numbers of words. */
const SYMBOLS = 2 ** 21

/** N-grams of many sequences, numbered: equal n-grams have equal numbers. */
class NgramNumbers {
  readonly #children = new Map<number, number>()
  readonly #order: number
  /** Length of each numbered n-gram. */
  readonly lengths: number[] = [0]

  constructor(order: number) {
    this.#order = order
  }

  /** How often each n-gram stands in the sequence. */
  count(sequence: readonly number[]): Map<number, number> {
    const counts = new Map<number, number>()
    for (let start = 0; start < sequence.length; start++) {
      let node = 0
      for (let i = start; i < Math.min(sequence.length, start + this.#order); i++) {
        const key = node * SYMBOLS + (sequence[i] ?? 0)
        let child = this.#children.get(key)
        if (child === undefined) {
          child = this.lengths.length
          this.lengths.push(i - start + 1)
          this.#children.set(key, child)
        }
        node = child
        counts.set(node, (counts.get(node) ?? 0) + 1)
      }
    }
    return counts
  }
}

/**
 * Expected chrF (or sentence BLEU) of each candidate, 0 to 100, when each of `references` is as likely to be what a
 * translator would write.
 *
 * @param references the candidates themselves unless given; equal ones count as often as they stand there
 * @param chinese for `bleu`: splits Chinese characters as sacreBLEU's `zh` does, instead of `13a`
 */
export function expectedScores(
  candidates: readonly string[],
  { metric = 'chrf', references = candidates, chinese = false }: ExpectedScoreOptions = {},
): number[] {
  const order = metric === 'chrf' ? 6 : 4
  const ngrams = new NgramNumbers(order)
  const words = new Map<string, number>()
  const sequenceOf = (text: string): number[] => {
    if (metric === 'chrf') return codePoints(text, false)
    const tokens = splitWords((chinese ? tokenizeZh : tokenize13a)(trimEnd(text)))
    return tokens.map((word) => {
      const number = words.get(word) ?? words.size
      words.set(word, number)
      return number
    })
  }
  const known = new Map<string, { counts: Map<number, number>; length: number }>()
  const countsOf = (text: string) => {
    const found = known.get(text)
    if (found !== undefined) return found
    const sequence = sequenceOf(text)
    const made = { counts: ngrams.count(sequence), length: sequence.length }
    known.set(text, made)
    return made
  }

  const expected = new Map<number, number>()
  const expectedTotals = new Array<number>(order).fill(0)
  let expectedLength = 0
  for (const reference of references) {
    const { counts, length } = countsOf(reference)
    expectedLength += length / references.length
    for (const [ngram, count] of counts) {
      const share = count / references.length
      expected.set(ngram, (expected.get(ngram) ?? 0) + share)
      const at = (ngrams.lengths[ngram] ?? 1) - 1
      expectedTotals[at] = (expectedTotals[at] ?? 0) + share
    }
  }

  const chrf = new ChrfMetric()
  const bleu = new BleuMetric({ effectiveOrder: true })
  const scores = new Map<string, number>()
  return candidates.map((candidate) => {
    const done = scores.get(candidate)
    if (done !== undefined) return done
    const { counts, length } = countsOf(candidate)
    const totals = new Array<number>(order).fill(0)
    const matched = new Array<number>(order).fill(0)
    for (const [ngram, count] of counts) {
      const at = (ngrams.lengths[ngram] ?? 1) - 1
      totals[at] = (totals[at] ?? 0) + count
      matched[at] = (matched[at] ?? 0) + Math.min(count, expected.get(ngram) ?? 0)
    }
    const score =
      metric === 'chrf'
        ? chrf.score(Float64Array.of(...totals, ...expectedTotals, ...matched))
        : bleu.score(Float64Array.of(length, expectedLength, ...matched, ...totals))
    scores.set(candidate, score)
    return score
  })
}

export interface ExpectedScoreOptions {
  /** `'chrf'` by default. */
  readonly metric?: UtilityMetric
  readonly references?: readonly string[]
  readonly chinese?: boolean
}
