/** Held-out quality of one model: BLEU and chrF over both directions together, and the loss of the references. */
import type { Alma } from '../lib/index.js'
import { metrics } from '../lib/metrics/index.js'
import { parallelExample } from '../lib/text/index.js'
import { validationLoss } from '../lib/train/evaluation.js'
import type { Pair } from './corpus/generate.js'

export interface QuickstartResult {
  readonly name: string
  readonly bleu: number
  readonly chrf: number
  /** Mean over the reference tokens, nats. */
  readonly loss: number
}

/** Longest translation that a held-out sentence can need; an untrained model would never stop by itself. */
const MAX_NEW_TOKENS = 48

export async function measure(alma: Alma, name: string, heldOut: readonly Pair[]): Promise<QuickstartResult> {
  const german = heldOut.map(({ de }) => de)
  const english = heldOut.map(({ en }) => en)
  const toEnglish = await alma.translate(german, { from: 'de', to: 'en', maxNewTokens: MAX_NEW_TOKENS })
  const toGerman = await alma.translate(english, { from: 'en', to: 'de', maxNewTokens: MAX_NEW_TOKENS })
  const hypotheses = [...toEnglish, ...toGerman].map(({ text }) => text)
  const references = [...english, ...german]
  const examples = heldOut.flatMap(({ de, en }) => [
    parallelExample(alma.tokenizer, { source: de, target: en, from: 'de', to: 'en' }),
    parallelExample(alma.tokenizer, { source: en, target: de, from: 'en', to: 'de' }),
  ])
  return {
    name,
    bleu: metrics.bleu(hypotheses, references).score,
    chrf: metrics.chrf(hypotheses, references).score,
    loss: await validationLoss(alma.model, examples),
  }
}
