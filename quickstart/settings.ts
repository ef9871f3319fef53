/** Sizes of the quick start: what two processor cores learn in a few minutes. */

export interface QuickstartSettings {
  readonly trainPairs: number
  readonly heldOutPairs: number
  readonly validationPairs: number
  readonly monolingualSentences: number
  readonly vocabSize: number
  readonly hiddenSize: number
  readonly intermediateSize: number
  readonly layers: number
  readonly heads: number
  readonly blockSize: number
  readonly monolingualSteps: number
  readonly monolingualBatch: number
  readonly parallelSteps: number
  readonly parallelBatch: number
  readonly learningRate: number
  readonly betas: readonly [number, number]
}

const full: QuickstartSettings = {
  trainPairs: 12_000,
  heldOutPairs: 400,
  validationPairs: 100,
  monolingualSentences: 20_000,
  vocabSize: 1400,
  hiddenSize: 128,
  intermediateSize: 384,
  layers: 3,
  heads: 4,
  blockSize: 128,
  monolingualSteps: 150,
  monolingualBatch: 16,
  parallelSteps: 1000,
  parallelBatch: 32,
  // Two hundred times ALMA's: a small model from random weights, not a large one that has read the internet.
  learningRate: 4e-3,
  // A shorter memory of the second moment than 0.999, whose average would span the whole run.
  betas: [0.9, 0.98],
}

/** With `--fast`: every part runs, in seconds, but nothing is learnt well. */
const fast: QuickstartSettings = {
  ...full,
  trainPairs: 3000,
  heldOutPairs: 20,
  validationPairs: 20,
  monolingualSentences: 2000,
  monolingualSteps: 10,
  parallelSteps: 30,
}

export function settingsFor({ isFast }: { readonly isFast: boolean }): QuickstartSettings {
  return isFast ? fast : full
}
