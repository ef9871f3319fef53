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
  readonly monolingualRate: number
  readonly parallelEpochs: number
  readonly parallelBatch: number
  readonly parallelRate: number
}

const full: QuickstartSettings = {
  trainPairs: 12_000,
  heldOutPairs: 400,
  validationPairs: 100,
  monolingualSentences: 20_000,
  vocabSize: 1400,
  hiddenSize: 192,
  intermediateSize: 512,
  layers: 4,
  heads: 6,
  blockSize: 128,
  monolingualSteps: 200,
  monolingualBatch: 16,
  monolingualRate: 2e-3,
  parallelEpochs: 3,
  parallelBatch: 64,
  parallelRate: 2e-3,
}

/** With `--fast`: every part runs, in seconds, but nothing is learnt well. */
const fast: QuickstartSettings = {
  ...full,
  trainPairs: 3000,
  heldOutPairs: 20,
  validationPairs: 20,
  monolingualSentences: 2000,
  monolingualSteps: 10,
  parallelEpochs: 1,
}

export function settingsFor({ isFast }: { readonly isFast: boolean }): QuickstartSettings {
  return isFast ? fast : full
}
