/** Translation edit rate (Snover et al., 2006) with the numbers and signatures of sacreBLEU (`lib_ter.py`). */
import { BeamEditDistance, operations } from './edit-distance.js'
import { WordNumbers } from './ngram-trie.js'
import { type References, referenceSets, requireKnownOptions, sentenceStreams } from './references.js'
import { corpusSums, type SegmentMetric } from './segment-metric.js'
import { type ReferenceCount, signature } from './signature.js'
import { type TercomOptions, tokenizeTercom } from './tokenize-tercom.js'

export type TerOptions = TercomOptions

export interface TerScore {
  readonly name: 'TER'
  /** Edits per hundred reference words: 0 is best, and it may exceed 100. */
  readonly score: number
  /** Insertions, deletions, substitutions and shifts, against the nearest reference of each line. */
  readonly edits: number
  /** Words; of several references of a line, their mean. */
  readonly referenceLength: number
  readonly signature: string
}

const defaults = {
  normalized: false,
  noPunct: false,
  asianSupport: false,
  caseSensitive: false,
} as const satisfies TerOptions

// Limits of Tercom, except the last, which is sacreBLEU's.
const maxShiftSize = 10
const maxShiftDistance = 50
const maxShiftCandidates = 1000

/** TER by lines: edits, and the mean length of the references. */
export class TerMetric implements SegmentMetric {
  readonly name = 'TER'
  readonly higherIsBetter = false
  readonly width = 2
  readonly #settings: Required<TerOptions>
  readonly #numbers = new WordNumbers()

  /** @throws AlmaError ERR_ALMA_OPTION */
  constructor(options: TerOptions = {}) {
    requireKnownOptions('ter', options, Object.keys(defaults))
    this.#settings = { ...defaults, ...options }
  }

  add(hypothesis: string, references: readonly string[], sums: Float64Array, offset: number): void {
    const numbers = this.#numbers
    numbers.clear()
    const words = numbers.of(tokenizeTercom(hypothesis, this.#settings))
    const others = references.map((reference) => numbers.of(tokenizeTercom(reference, this.#settings)))
    const edits = Math.min(...others.map((other) => countEdits(words, other)))
    const length = others.reduce((sum, other) => sum + other.length, 0) / others.length
    sums[offset] = (sums[offset] ?? 0) + edits
    sums[offset + 1] = (sums[offset + 1] ?? 0) + length
  }

  score(sums: Float64Array, offset = 0): number {
    const [edits = 0, referenceLength = 0] = sums.subarray(offset, offset + 2)
    return referenceLength > 0 ? 100 * (edits / referenceLength) : edits > 0 ? 100 : 0
  }

  signature(count: ReferenceCount): string {
    const { caseSensitive, normalized, noPunct, asianSupport } = this.#settings
    return signature(count, {
      case: caseSensitive ? 'mixed' : 'lc',
      tok: 'tercom',
      norm: normalized,
      punct: !noPunct,
      asian: asianSupport,
    })
  }
}

/**
 * TER of a corpus.
 *
 * @param references one stream (`string[]`) or several of them; null where a line has no reference in a stream
 * @throws AlmaError ERR_ALMA_OPTION when there is nothing to score, lengths differ, or an option is unknown
 */
export function ter(hypotheses: readonly string[], references: References, options: TerOptions = {}): TerScore {
  const metric = new TerMetric(options)
  const { lines, count } = referenceSets(hypotheses, references)
  const sums = corpusSums(metric, hypotheses, lines)
  const [edits = 0, referenceLength = 0] = sums
  return { name: 'TER', score: metric.score(sums), edits, referenceLength, signature: metric.signature(count) }
}

/** TER of one sentence against one or more references. */
export function sentenceTer(
  hypothesis: string,
  references: string | readonly string[],
  options: TerOptions = {},
): TerScore {
  return ter([hypothesis], sentenceStreams(references), options)
}

/** Shifts of word sequences, as long as one lessens the edit distance, and the edits that then remain. */
function countEdits(hypothesis: readonly number[], reference: readonly number[]): number {
  if (reference.length === 0) return hypothesis.length
  const edit = new BeamEditDistance(reference)
  let words = hypothesis
  let shifts = 0
  let checked = 0
  for (;;) {
    const best = bestShift(words, reference, edit, checked)
    checked = best.checked
    if (checked >= maxShiftCandidates || best.gain <= 0) break
    shifts++
    words = best.words
  }
  return shifts + edit.distance(words)
}

interface Shift {
  /** Edits saved, which may be negative. */
  readonly gain: number
  readonly words: readonly number[]
  /** Candidates that this sentence has had so far. */
  readonly checked: number
}

/**
 * The shift that saves most; of equals the longest, then the one from furthest left, then to furthest left. Only
 * sequences that match the reference elsewhere are tried, and only where both places hold an error.
 */
function bestShift(
  words: readonly number[],
  reference: readonly number[],
  edit: BeamEditDistance,
  checkedBefore: number,
): Shift {
  const distance = edit.distance(words)
  const { aligned, wrongWords, wrongReference } = alignment(edit.trace())
  let checked = checkedBefore
  let best: (Shift & { length: number; from: number; to: number }) | undefined
  for (const [from, at, length] of matchingSequences(words, reference)) {
    if (!wrongWords.slice(from, from + length).includes(true)) continue
    if (!wrongReference.slice(at, at + length).includes(true)) continue
    const here = aligned[at] ?? -1
    if (here >= from && here < from + length) continue
    let previous = -1
    for (let offset = -1; offset < length; offset++) {
      const before = at + offset
      if (before >= aligned.length) break
      const to = before < 0 ? 0 : (aligned[before] ?? -1) + 1
      if (to === previous) continue
      previous = to
      const shifted = shift(words, from, length, to)
      const gain = distance - edit.distance(shifted)
      checked++
      const order = best && (gain - best.gain || length - best.length || best.from - from || best.to - to)
      if (order === undefined || order > 0) best = { gain, words: shifted, checked, length, from, to }
    }
    if (checked >= maxShiftCandidates) break
  }
  return { gain: best?.gain ?? 0, words: best?.words ?? words, checked }
}

/** Sequences of up to ten words that stand in both, as starts and length. */
function* matchingSequences(
  words: readonly number[],
  reference: readonly number[],
): Generator<readonly [from: number, at: number, length: number]> {
  for (let from = 0; from < words.length; from++) {
    const last = Math.min(reference.length - 1, from + maxShiftDistance)
    for (let at = Math.max(0, from - maxShiftDistance); at <= last; at++) {
      const longest = Math.min(maxShiftSize, words.length - from, reference.length - at)
      for (let length = 1; length <= longest; length++) {
        if (words[from + length - 1] !== reference[at + length - 1]) break
        yield [from, at, length]
      }
    }
  }
}

interface Alignment {
  /** By reference position: the position of the hypothesis word it falls on, or of the last before it (−1: none). */
  readonly aligned: readonly number[]
  readonly wrongWords: readonly boolean[]
  readonly wrongReference: readonly boolean[]
}

function alignment(trace: readonly number[]): Alignment {
  const aligned: number[] = []
  const wrongWords: boolean[] = []
  const wrongReference: boolean[] = []
  for (const step of trace) {
    const wrong = step !== operations.keep
    if (step !== operations.insert) wrongWords.push(wrong)
    if (step === operations.delete) continue
    wrongReference.push(wrong)
    aligned.push(wrongWords.length - 1)
  }
  return { aligned, wrongWords, wrongReference }
}

/** Moves `length` words from `from` to before the word that stood at `to`. */
function shift(words: readonly number[], from: number, length: number, to: number): number[] {
  const moved = words.slice(from, from + length)
  if (to < from) return [...words.slice(0, to), ...moved, ...words.slice(to, from), ...words.slice(from + length)]
  // A target inside the moved words counts on from their start.
  const end = to > from + length ? to : to + length
  return [...words.slice(0, from), ...words.slice(from + length, end), ...moved, ...words.slice(end)]
}
