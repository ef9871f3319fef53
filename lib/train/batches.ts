import { countTargets, type TrainingBatch } from '../model/index.js'
import type { TrainingExample } from '../text/index.js'

/** Tokens of a micro-batch when none is asked for: enough rows to keep a matmul busy, activations of a small model below 1 GB. */
export const MICRO_BATCH_TOKENS = 4096

/** A part of a step that goes through the model at once. */
export interface MicroBatch extends TrainingBatch {
  readonly tokens: number
  /** Labels that count. */
  readonly targets: number
}

/** Cuts examples into micro-batches of `size` sequences, or of up to `mostTokens` tokens (one sequence at least). */
export function microBatches(
  examples: readonly TrainingExample[],
  size?: number,
  mostTokens: number = MICRO_BATCH_TOKENS,
): MicroBatch[] {
  const batches: MicroBatch[] = []
  let group: TrainingExample[] = []
  let tokens = 0
  const close = (): void => {
    if (group.length === 0) return
    const batch = { inputIds: group.map(({ inputIds }) => inputIds), labels: group.map(({ labels }) => labels) }
    batches.push({ ...batch, tokens, targets: countTargets(batch) })
    group = []
    tokens = 0
  }
  for (const example of examples) {
    const full = size === undefined ? tokens + example.inputIds.length > mostTokens : group.length >= size
    if (full) close()
    group.push(example)
    tokens += example.inputIds.length
  }
  close()
  return batches
}
