/** Translation metrics with the numbers and signatures of sacreBLEU. */
import { BleuMetric, bleu, sentenceBleu } from './bleu.js'
import { ChrfMetric, chrf, sentenceChrf } from './chrf.js'
import { sentencePieceTokenizer } from './sentencepiece-tokenizer.js'
import { compareSystems, confidence } from './significance.js'
import { sentenceTer, TerMetric, ter } from './ter.js'

export {
  BleuMetric,
  type BleuOptions,
  type BleuScore,
  type BleuSmoothing,
  type BleuTokenizer,
  bleu,
  type PieceTokenizer,
  sentenceBleu,
} from './bleu.js'
export { ChrfMetric, type ChrfOptions, type ChrfScore, chrf, sentenceChrf } from './chrf.js'
export type { References } from './references.js'
export type { SegmentMetric } from './segment-metric.js'
export { sentencePieceTokenizer } from './sentencepiece-tokenizer.js'
export { sacreBleuVersion } from './signature.js'
export {
  type CompareOptions,
  type Comparison,
  compareSystems,
  confidence,
  type Interval,
  type SamplingOptions,
  type SignificanceTest,
  type SystemOutput,
  type SystemScore,
} from './significance.js'
export { sentenceTer, TerMetric, type TerOptions, type TerScore, ter } from './ter.js'

/** The metrics under one name: `metrics.bleu(hypotheses, references, options)`. */
export const metrics = {
  bleu,
  sentenceBleu,
  chrf,
  sentenceChrf,
  ter,
  sentenceTer,
  compare: compareSystems,
  confidence,
  BleuMetric,
  ChrfMetric,
  TerMetric,
  sentencePieceTokenizer,
} as const
