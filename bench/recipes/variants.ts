/** The rows of the table: which stages a model goes through. */
import type { MonolingualStage, ParallelStage, PreferenceStage, Stage } from '../../lib/index.js'
import type { RecipeData } from './data.js'
import type { RecipeSettings } from './settings.js'

export interface Variant {
  readonly name: string
  readonly stages: readonly Stage[]
  /** The row whose model this one begins with. Default: random weights. */
  readonly from?: string
  /** A preference stage behind the others, on what the model makes of training sentences then. */
  readonly preference?: Omit<PreferenceStage, 'data'>
}

/** @param monolingualTokens of the whole monolingual text. */
export function variantsOf(
  data: RecipeData,
  settings: RecipeSettings,
  monolingualTokens: number,
  seed: number,
): Variant[] {
  const second = parallelStage(data, settings, seed)
  const share = (part: number): Variant => ({
    name: `stage 1 (${100 * part} %), stage 2`,
    stages: [monolingualStage(data, settings, Math.floor(part * monolingualTokens), seed), second],
  })
  const [quarter, whole] = [share(0.25), share(1)]
  const first: Variant = { name: 'stage 1 (25 %)', stages: quarter.stages.slice(0, 1) }
  const { learningRate, ...lora } = settings.lora
  const adapted: ParallelStage = { ...second, learningRate, lora: { ...lora, targetModules: 'all-linear' } }
  return [
    { name: 'stage 2 alone', stages: [second] },
    first,
    { name: `${first.name}, stage 2 by LoRA`, from: first.name, stages: [adapted] },
    quarter,
    share(0.5),
    whole,
    { name: `${whole.name}, CPO`, from: whole.name, stages: [], preference: preferenceStage(settings, seed) },
  ]
}

export function preferenceStage(
  { preference: { batchSize, learningRate } }: RecipeSettings,
  seed: number,
): Omit<PreferenceStage, 'data'> {
  return { kind: 'preference', batchSize, learningRate, warmupRatio: 0.05, drop: ['identicalSides'], seed }
}

export function monolingualStage(
  { monolingual, documents }: Pick<RecipeData, 'monolingual' | 'documents'>,
  { monolingual: { batchSize, learningRate, blockSize } }: RecipeSettings,
  maxTokens: number,
  seed: number,
): MonolingualStage {
  const german = documents.de / (documents.de + documents.en)
  return {
    kind: 'monolingual',
    sources: [
      { path: monolingual.de, language: 'de', probability: german },
      { path: monolingual.en, language: 'en', probability: 1 - german },
    ],
    blockSize,
    batchSize,
    learningRate,
    maxTokens,
    drop: [],
    warmupRatio: 0.05,
    betas: [0.9, 0.98],
    seed,
  }
}

export function parallelStage(data: RecipeData, settings: RecipeSettings, seed: number): ParallelStage {
  const { batchSize, learningRate, epochs } = settings.parallel
  return {
    kind: 'parallel',
    pairs: [{ path: data.train, from: 'de', to: 'en' }],
    validation: [{ path: data.validation, from: 'de', to: 'en' }],
    batchSize,
    learningRate,
    epochs,
    drop: [], // as ALMA's own code
    maxNewTokens: settings.maxNewTokens,
    predictWithGenerate: true,
    predictSamples: Math.min(50, settings.testSentences),
    schedule: 'cosine',
    warmupRatio: 0.05,
    betas: [0.9, 0.98],
    seed,
  }
}
