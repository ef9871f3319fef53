/**
 * Is one system better than another, or is it chance? Paired bootstrap resampling (Koehn, 2004), paired approximate
 * randomisation (Riezler and Maxwell, 2005) and bootstrap confidence intervals, with the random numbers, p-values and
 * signatures of sacreBLEU (`significance.py`).
 */
import { setImmediate } from 'node:timers/promises'
import { AlmaError } from '../errors.js'
import { BleuMetric } from './bleu.js'
import { ChrfMetric } from './chrf.js'
import { NumpyRandom } from './numpy-random.js'
import { type References, referenceSets, requireInteger, requireKnownOptions } from './references.js'
import type { SegmentMetric } from './segment-metric.js'

/** `bootstrap` (sacreBLEU's `--paired-bs`) or `randomization` (`--paired-ar`). */
export type SignificanceTest = 'bootstrap' | 'randomization'

export interface SystemOutput {
  readonly name: string
  readonly hypotheses: readonly string[]
}

export interface SamplingOptions {
  /** BLEU and chrF with their defaults unless others are given. */
  readonly metrics?: readonly SegmentMetric[]
  /** Resamples: 1000 by default, 10,000 trials for `randomization`. */
  readonly samples?: number
  /** 12345 by default, as in sacreBLEU. */
  readonly seed?: number
  readonly signal?: AbortSignal
}

export interface CompareOptions extends SamplingOptions {
  /** `'bootstrap'` by default. */
  readonly test?: SignificanceTest
}

export interface Interval {
  /** Mean of the scores of the resamples. */
  readonly mean: number
  /** Half the width of the middle 95 % of them. */
  readonly margin: number
}

export interface SystemScore {
  readonly name: string
  readonly score: number
  /** That a difference to the first system as large as this one is chance; absent for the first system. */
  readonly pValue?: number
  /** With `bootstrap`. */
  readonly interval?: Interval
}

export interface Comparison {
  readonly metric: string
  readonly higherIsBetter: boolean
  readonly signature: string
  /** In the order given; the first is the baseline. */
  readonly systems: readonly SystemScore[]
}

const defaultSamples: Readonly<Record<SignificanceTest, number>> = { bootstrap: 1000, randomization: 10_000 }
const defaultSeed = 12_345

/**
 * Compares systems with the first of them, once for each metric. The work is done in slices: the event loop stays free.
 *
 * @throws AlmaError ERR_ALMA_OPTION when there are fewer than two systems, lengths differ, or an option is unknown; the
 * signal's reason
 */
export async function compareSystems(
  systems: readonly SystemOutput[],
  references: References,
  options: CompareOptions = {},
): Promise<Comparison[]> {
  requireKnownOptions('compare', options, ['metrics', 'samples', 'seed', 'signal', 'test'])
  const { test = 'bootstrap' } = options
  if (!Object.hasOwn(defaultSamples, test)) {
    throw new AlmaError('ERR_ALMA_OPTION', `test is '${test}', but must be one of bootstrap, randomization`)
  }
  const [baseline, ...others] = systems
  if (baseline === undefined || others.length === 0) {
    throw new AlmaError('ERR_ALMA_OPTION', `compare needs two systems or more, not ${systems.length}`)
  }
  const { metrics, samples, seed, slices } = settingsOf(options, test)
  const { count } = referenceSets(baseline.hypotheses, references)
  const comparisons: Comparison[] = []
  for (const metric of metrics) {
    const first = await lineSums(metric, baseline, references, slices)
    const bootstrap = test === 'bootstrap'
    const ownScores = bootstrap ? await resampledScores(metric, first, samples, seed, slices) : undefined
    const scores: SystemScore[] = [
      { name: baseline.name, score: scoreOf(metric, first), ...(ownScores && { interval: intervalOf(ownScores) }) },
    ]
    for (const other of others) {
      const sums = await lineSums(metric, other, references, slices)
      const score = scoreOf(metric, sums)
      const difference = Math.abs((scores[0]?.score ?? 0) - score)
      if (ownScores === undefined) {
        const pValue = await randomizationTest(metric, first, sums, samples, seed, difference, slices)
        scores.push({ name: other.name, score, pValue })
        continue
      }
      const otherScores = await resampledScores(metric, sums, samples, seed, slices)
      const differences = otherScores.map((value, i) => Math.abs(value - (ownScores[i] ?? 0)))
      const mean = differences.reduce((sum, value) => sum + value, 0) / samples
      const pValue = pValueOf(
        differences.map((value) => value - mean),
        difference,
      )
      scores.push({ name: other.name, score, pValue, interval: intervalOf(otherScores) })
    }
    const drawn = bootstrap ? `bs:${samples}` : `ar:${samples}`
    comparisons.push({
      metric: metric.name,
      higherIsBetter: metric.higherIsBetter,
      signature: withSampling(metric.signature(count), drawn, seed),
      systems: scores,
    })
  }
  return comparisons
}

/** The score of one system with its bootstrap confidence interval, once for each metric (sacreBLEU's `--confidence`). */
export async function confidence(
  hypotheses: readonly string[],
  references: References,
  options: SamplingOptions = {},
): Promise<{ metric: string; score: number; interval: Interval; signature: string }[]> {
  requireKnownOptions('confidence', options, ['metrics', 'samples', 'seed', 'signal'])
  const { metrics, samples, seed, slices } = settingsOf(options, 'bootstrap')
  const { count } = referenceSets(hypotheses, references)
  const results = []
  for (const metric of metrics) {
    const sums = await lineSums(metric, { name: 'hypotheses', hypotheses }, references, slices)
    results.push({
      metric: metric.name,
      score: scoreOf(metric, sums),
      interval: intervalOf(await resampledScores(metric, sums, samples, seed, slices)),
      signature: withSampling(metric.signature(count), `bs:${samples}`, seed),
    })
  }
  return results
}

function settingsOf(options: SamplingOptions, test: SignificanceTest) {
  const { metrics = [new BleuMetric(), new ChrfMetric()], seed = defaultSeed, signal } = options
  const samples = options.samples ?? defaultSamples[test]
  requireInteger('samples', samples, 1)
  return { metrics, samples, seed, slices: new TimeSlices(signal) }
}

/** "nrefs:1|bs:1000|seed:12345|case:…" */
function withSampling(signature: string, drawn: string, seed: number): string {
  const [references, ...rest] = signature.split('|')
  return [references, drawn, `seed:${seed}`, ...rest].join('|')
}

/** Lets the event loop run every few milliseconds. */
class TimeSlices {
  readonly #signal: AbortSignal | undefined
  #started = performance.now()

  constructor(signal: AbortSignal | undefined) {
    this.#signal = signal
  }

  /** Undefined while there is time left. */
  pause(): Promise<void> | undefined {
    return performance.now() - this.#started < 5 ? undefined : this.#pause()
  }

  async #pause(): Promise<void> {
    this.#signal?.throwIfAborted()
    await setImmediate()
    this.#signal?.throwIfAborted()
    this.#started = performance.now()
  }
}

/** What each line contributes: rows of `metric.width`. */
async function lineSums(
  metric: SegmentMetric,
  { name, hypotheses }: SystemOutput,
  references: References,
  slices: TimeSlices,
): Promise<Float64Array> {
  let lines: readonly (readonly string[])[]
  try {
    lines = referenceSets(hypotheses, references).lines
  } catch (error) {
    if (!(error instanceof AlmaError)) throw error
    throw new AlmaError(error.code, `${name}: ${error.message}`, { cause: error })
  }
  const { width } = metric
  const sums = new Float64Array(hypotheses.length * width)
  for (const [line, hypothesis] of hypotheses.entries()) {
    metric.add(hypothesis, lines[line] ?? [], sums, line * width)
    await slices.pause()
  }
  return sums
}

function scoreOf(metric: SegmentMetric, lines: Float64Array): number {
  const total = new Float64Array(metric.width)
  for (let i = 0; i < lines.length; i++) {
    const at = i % metric.width
    total[at] = (total[at] ?? 0) + (lines[i] ?? 0)
  }
  return metric.score(total)
}

/** Scores of corpora drawn with replacement; the same draws for every system of the same length and seed. */
async function resampledScores(
  metric: SegmentMetric,
  lines: Float64Array,
  samples: number,
  seed: number,
  slices: TimeSlices,
): Promise<number[]> {
  const { width } = metric
  const count = lines.length / width
  const random = new NumpyRandom(seed)
  const drawn = new Uint32Array(count)
  const total = new Float64Array(width)
  const scores: number[] = []
  for (let sample = 0; sample < samples; sample++) {
    random.fillBelow(count, drawn)
    total.fill(0)
    for (let i = 0; i < count; i++) {
      const row = (drawn[i] ?? 0) * width
      for (let j = 0; j < width; j++) total[j] = (total[j] ?? 0) + (lines[row + j] ?? 0)
    }
    scores.push(metric.score(total))
    await slices.pause()
  }
  return scores
}

/** How often two systems that exchange each line with probability one half differ by more than they really do. */
async function randomizationTest(
  metric: SegmentMetric,
  first: Float64Array,
  second: Float64Array,
  samples: number,
  seed: number,
  difference: number,
  slices: TimeSlices,
): Promise<number> {
  const { width } = metric
  const count = first.length / width
  const keep = new NumpyRandom(seed).booleans()
  const differences: number[] = []
  const [one, other] = [new Float64Array(width), new Float64Array(width)]
  for (let sample = 0; sample < samples; sample++) {
    one.fill(0)
    other.fill(0)
    for (let row = 0; row < count * width; row += width) {
      const [a, b] = keep() ? [first, second] : [second, first]
      for (let j = 0; j < width; j++) {
        one[j] = (one[j] ?? 0) + (a[row + j] ?? 0)
        other[j] = (other[j] ?? 0) + (b[row + j] ?? 0)
      }
    }
    differences.push(Math.abs(metric.score(one) - metric.score(other)))
    await slices.pause()
  }
  return pValueOf(differences, difference)
}

/** The one more in both terms: a test of finitely many samples may never give 0. */
function pValueOf(statistics: readonly number[], observed: number): number {
  const larger = statistics.reduce((count, value) => count + (value > observed ? 1 : 0), 0)
  return (larger + 1) / (statistics.length + 1)
}

function intervalOf(scores: readonly number[]): Interval {
  const sorted = Float64Array.from(scores).sort()
  const lower = Math.floor(sorted.length / 40)
  const [low = 0, high = 0] = [sorted[lower], sorted[sorted.length - lower - 1]]
  return { mean: sorted.reduce((sum, value) => sum + value, 0) / sorted.length, margin: 0.5 * (high - low) }
}
