/** Models of realistic proportions with random weights: nothing has to be downloaded to measure. */
import { type LlamaConfig, normalizeConfig } from '../lib/model/index.js'

/** 1.1 billion weights: 22 layers of width 2048, 32 query heads on 4 key heads, as TinyLlama. */
export const model1B: LlamaConfig = normalizeConfig({
  vocabSize: 32_000,
  hiddenSize: 2048,
  intermediateSize: 5632,
  numHiddenLayers: 22,
  numAttentionHeads: 32,
  numKeyValueHeads: 4,
  maxPositionEmbeddings: 2048,
  tieWordEmbeddings: false,
})

/** 110 million weights: 12 layers of width 768. */
export const model110M: LlamaConfig = normalizeConfig({
  vocabSize: 32_000,
  hiddenSize: 768,
  intermediateSize: 2048,
  numHiddenLayers: 12,
  numAttentionHeads: 12,
  tieWordEmbeddings: true,
})

/** 15 million weights: 6 layers of width 288. */
export const model15M: LlamaConfig = normalizeConfig({
  vocabSize: 32_000,
  hiddenSize: 288,
  intermediateSize: 768,
  numHiddenLayers: 6,
  numAttentionHeads: 6,
  tieWordEmbeddings: true,
})

/** Token ids that are neither special nor all the same. */
export function syntheticIds(config: LlamaConfig, length: number, seed = 1): number[] {
  return Array.from({ length }, (_, i) => 3 + (((i + 1) * 7919 * seed) % (config.vocabSize - 3)))
}
