/**
 * Minimum Bayes risk decoding: of many candidates, not the likeliest but the one that agrees best with all of them (Eikema and
 * Aziz, 2020), by the expected chrF or BLEU of {@link expectedScores}.
 */
import { optionError, requireInteger, requireKnownOptions } from '../decode/index.js'
import { expectedScores, type UtilityMetric } from '../metrics/expected-score.js'
import { findLanguage } from '../text/index.js'
import type { TranslateOptions, Translation } from './options.js'

export interface MinimumBayesRisk {
  /** Candidates drawn for a text; with `numBeams` the beams are the candidates, and this is their number. Default 32. */
  readonly samples?: number
  /** What agreement is measured by. Default `'chrf'`. */
  readonly metric?: UtilityMetric
}

const DEFAULT_SAMPLES = 32

/** @throws AlmaError ERR_ALMA_OPTION */
export function requireMinimumBayesRisk(mbr: MinimumBayesRisk | undefined, { numBeams = 1 }: TranslateOptions): void {
  if (mbr === undefined) return
  requireKnownOptions('mbr', mbr, ['samples', 'metric'])
  const { samples, metric } = mbr
  if (samples !== undefined) requireInteger('mbr.samples', samples, 1, numBeams > 1 ? numBeams : 1024)
  if (metric !== undefined && metric !== 'chrf' && metric !== 'bleu')
    throw optionError('mbr.metric', '"chrf" or "bleu"', metric)
}

/** Options that give the candidates to choose from. */
export function candidateOptions(options: TranslateOptions): TranslateOptions {
  const { mbr, numBeams = 1, doSample } = options
  if (mbr === undefined) return options
  const numReturnSequences = mbr.samples ?? (numBeams > 1 ? numBeams : DEFAULT_SAMPLES)
  return { ...options, numReturnSequences, doSample: numBeams > 1 ? (doSample ?? false) : true }
}

/** The candidate with the highest expected score; `candidates` are sorted by it, as many as were asked for. */
export function chooseByRisk(translation: Translation, options: TranslateOptions): Translation {
  const { mbr, to, numReturnSequences = 1 } = options
  const { candidates, source } = translation
  if (mbr === undefined || candidates === undefined) return translation
  const language = typeof to === 'string' ? findLanguage(to) : to
  const utilities = expectedScores(
    candidates.map(({ text }) => text),
    { ...(mbr.metric !== undefined && { metric: mbr.metric }), chinese: language?.code === 'zh' },
  )
  const sorted = candidates
    .map((candidate, i) => ({ ...candidate, utility: utilities[i] ?? 0 }))
    .sort((a, b) => b.utility - a.utility || b.score - a.score)
  const [best] = sorted
  if (best === undefined) return translation
  return { source, ...best, ...(numReturnSequences > 1 && { candidates: sorted.slice(0, numReturnSequences) }) }
}
