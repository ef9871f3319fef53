/** Translation metrics with the numbers and signatures of sacreBLEU. */
import { bleu, sentenceBleu } from './bleu.js'
import { chrf, sentenceChrf } from './chrf.js'
import { sentenceTer, ter } from './ter.js'

export { type BleuOptions, type BleuScore, type BleuSmoothing, type BleuTokenizer, bleu, sentenceBleu } from './bleu.js'
export { type ChrfOptions, type ChrfScore, chrf, sentenceChrf } from './chrf.js'
export type { References } from './references.js'
export { sacreBleuVersion } from './signature.js'
export { sentenceTer, type TerOptions, type TerScore, ter } from './ter.js'

/** The metrics under one name: `metrics.bleu(hypotheses, references, options)`. */
export const metrics = { bleu, sentenceBleu, chrf, sentenceChrf, ter, sentenceTer } as const
