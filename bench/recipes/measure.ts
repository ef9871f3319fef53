/** Quality on the test sets: loss of the references, BLEU and chrF of greedy translations. */
import type { Alma } from '../../lib/index.js'
import { metrics } from '../../lib/metrics/index.js'
import type { Pair, RecipeData } from './data.js'
import type { RecipeSettings } from './settings.js'

export interface DirectionResult {
  /** Nats a token of the references; absent where no model was asked. */
  readonly loss?: number
  readonly bleu: number
  readonly chrf: number
}

export interface RecipeResult {
  readonly name: string
  readonly 'de-en': DirectionResult
  readonly 'en-de': DirectionResult
  /** Steps and input tokens of the stages, in their order. */
  readonly stages: readonly { readonly kind: string; readonly steps: number; readonly tokens: number }[]
  readonly seconds: number
  readonly examples: readonly { readonly source: string; readonly translation: string; readonly reference: string }[]
}

type Measured = Pick<RecipeResult, 'de-en' | 'en-de' | 'examples'>

const EXAMPLES = 3

export async function measure(
  alma: Alma,
  data: RecipeData,
  settings: RecipeSettings,
  signal: AbortSignal,
): Promise<Measured> {
  const { maxNewTokens } = settings
  const examples: RecipeResult['examples'][number][] = []
  const direction = async (pairs: readonly Pair[], from: 'de' | 'en', to: 'de' | 'en'): Promise<DirectionResult> => {
    const corpus = pairs.map((pair) => ({ source: pair[from], target: pair[to] }))
    const { bleu, chrf, loss, sentences } = await alma.evaluate(corpus, { from, to, maxNewTokens, signal })
    examples.push(...sentences.slice(0, EXAMPLES))
    return { bleu: bleu.score, chrf: chrf.score, ...(loss !== undefined && { loss }) }
  }
  return {
    'de-en': await direction(data.test['de-en'], 'de', 'en'),
    'en-de': await direction(data.test['en-de'], 'en', 'de'),
    examples: examples.map(({ source, translation, reference }) => ({ source, translation, reference })),
  }
}

/** What leaving the text as it is would score: names and numbers make it more than nothing. */
export function copyBaseline({ test }: RecipeData): RecipeResult {
  const direction = (pairs: readonly Pair[], from: 'de' | 'en', to: 'de' | 'en'): DirectionResult => {
    const sources = pairs.map((pair) => pair[from])
    const references = pairs.map((pair) => pair[to])
    return { bleu: metrics.bleu(sources, references).score, chrf: metrics.chrf(sources, references).score }
  }
  return {
    name: 'source copied',
    'de-en': direction(test['de-en'], 'de', 'en'),
    'en-de': direction(test['en-de'], 'en', 'de'),
    stages: [],
    seconds: 0,
    examples: [],
  }
}
