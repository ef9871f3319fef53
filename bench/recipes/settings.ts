/** Sizes of the experiment: what a device at hand learns in a reasonable time. */

export interface RecipeSettings {
  readonly vocabSize: number
  readonly hiddenSize: number
  readonly intermediateSize: number
  readonly layers: number
  readonly heads: number
  readonly maxPositionEmbeddings: number
  /** Longest side of a training pair, characters: a small model learns little from long sentences, which cost the most. */
  readonly longestSide: number
  /** Sentences of each direction of the test set that are translated and scored. */
  readonly testSentences: number
  readonly maxNewTokens: number
  readonly monolingual: StageSettings & { readonly blockSize: number }
  readonly parallel: StageSettings & { readonly epochs: number }
  readonly lora: { readonly rank: number; readonly alpha: number; readonly learningRate: number }
  /** `pairs` of the training text, in both directions. */
  readonly preference: StageSettings & { readonly pairs: number }
}

interface StageSettings {
  /** Sequences a step. */
  readonly batchSize: number
  readonly learningRate: number
}

export type RecipeSize = 'tiny' | 'small' | 'large'

/** The rates are far above ALMA's: these models begin with random weights instead of those of LLaMA-2. */
export const recipeSettings: Readonly<Record<RecipeSize, RecipeSettings>> = {
  /** Seconds: every part runs, nothing is learnt. */
  tiny: {
    vocabSize: 600,
    hiddenSize: 32,
    intermediateSize: 96,
    layers: 2,
    heads: 2,
    maxPositionEmbeddings: 512,
    longestSide: 60,
    testSentences: 8,
    maxNewTokens: 16,
    monolingual: { batchSize: 8, learningRate: 2e-3, blockSize: 64 },
    parallel: { batchSize: 32, learningRate: 2e-3, epochs: 1 },
    lora: { rank: 4, alpha: 8, learningRate: 1e-2 },
    preference: { batchSize: 4, learningRate: 3e-4, pairs: 8 },
  },
  /** A few minutes a row on two processor cores: 1.1 million weights, and small batches for many steps. */
  small: {
    vocabSize: 2000,
    hiddenSize: 128,
    intermediateSize: 384,
    layers: 4,
    heads: 4,
    maxPositionEmbeddings: 512,
    longestSide: 160,
    testSentences: 300,
    maxNewTokens: 96,
    monolingual: { batchSize: 16, learningRate: 2e-3, blockSize: 128 },
    parallel: { batchSize: 16, learningRate: 3e-3, epochs: 1 },
    lora: { rank: 16, alpha: 32, learningRate: 1e-2 },
    preference: { batchSize: 16, learningRate: 3e-4, pairs: 600 },
  },
  /** For a GPU: 110 million weights, whole sentences, several passes over the pairs. */
  large: {
    vocabSize: 16_000,
    hiddenSize: 768,
    intermediateSize: 2048,
    layers: 12,
    heads: 12,
    maxPositionEmbeddings: 1024,
    longestSide: 1000,
    testSentences: 2037,
    maxNewTokens: 256,
    monolingual: { batchSize: 64, learningRate: 6e-4, blockSize: 512 },
    parallel: { batchSize: 128, learningRate: 6e-4, epochs: 3 },
    lora: { rank: 64, alpha: 128, learningRate: 2e-3 },
    preference: { batchSize: 64, learningRate: 5e-5, pairs: 9000 },
  },
}
