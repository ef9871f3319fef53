import { countTargets, type TrainingBatch } from '../model/index.js'
import type { TrainingExample } from '../text/index.js'

/** Tokens of a micro-batch when none is asked for: enough rows to keep a matmul busy, activations of a small model below 1 GB. */
export const MICRO_BATCH_TOKENS = 4096

/** A part of a step that goes through the model at once. */
export interface MicroBatch extends TrainingBatch {
  readonly tokens: number
  /** Labels that count. */
  readonly targets: number
  /** Preference pairs; the sequences are then all chosen responses and after them all rejected ones. 0: these are no pairs. */
  readonly pairs: number
  /** Labels that count in chosen responses. */
  readonly chosenTargets: number
}

/** Cuts examples into micro-batches of `size` sequences (or pairs of them), or of up to `mostTokens` tokens (one sequence at least). */
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
    const rejected = group.flatMap((example) => example.rejected ?? [])
    const sequences = [...group, ...rejected]
    const batch = { inputIds: sequences.map(({ inputIds }) => inputIds), labels: sequences.map(({ labels }) => labels) }
    const chosen = countTargets({ inputIds: [], labels: group.map(({ labels }) => labels) })
    const pairs = rejected.length
    batches.push({ ...batch, tokens, targets: countTargets(batch), pairs, chosenTargets: pairs === 0 ? 0 : chosen })
    group = []
    tokens = 0
  }
  for (const example of examples) {
    const length = example.inputIds.length + (example.rejected?.inputIds.length ?? 0)
    const full = size === undefined ? tokens + length > mostTokens : group.length >= size
    if (full) close()
    group.push(example)
    tokens += length
  }
  close()
  return batches
}

/** The ids of all sequences of examples, rejected responses included. */
export function sequencesOf(examples: readonly TrainingExample[]): (readonly number[])[] {
  return examples.flatMap(({ inputIds, rejected }) =>
    rejected === undefined ? [inputIds] : [inputIds, rejected.inputIds],
  )
}
