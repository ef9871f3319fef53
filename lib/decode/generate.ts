/** From prompts to generated tokens. */
import type { LlamaForCausalLM } from '../model/index.js'
import { KeyValueCache } from '../model/index.js'
import { planBatches } from './batch-plan.js'
import { DecodingBatch } from './decoding-batch.js'
import type { ResolvedDecoding } from './options.js'
import { type Generation, type Sequence, sequencesOf } from './sequence.js'

export interface GenerateProgress {
  /** Prompts whose answers are complete. */
  readonly completed: number
  readonly total: number
  /** Tokens generated so far. */
  readonly tokens: number
}

export interface GenerateCall {
  /** Number of each prompt within a larger call: its random numbers depend on it. Default 0, 1, 2, … */
  readonly indices?: readonly number[]
  readonly onProgress?: ((progress: GenerateProgress) => void) | undefined
}

/**
 * Continues every prompt (token ids), in batches of similar lengths; results are in the order of the prompts and do not depend on
 * the batches (unless `padTokenId` is given).
 *
 * @throws AlmaError ERR_ALMA_OPTION, ERR_ALMA_CONTEXT, ERR_ALMA_OUT_OF_MEMORY; the reason of the signal.
 */
export async function generateTokens(
  model: LlamaForCausalLM,
  prompts: readonly (readonly number[])[],
  decoding: ResolvedDecoding,
  call: GenerateCall = {},
): Promise<Generation[]> {
  const { indices, onProgress } = call
  const sequences = sequencesOf(prompts, model.config, decoding, indices)
  model.checkTokenIds(prompts)
  let completed = 0
  let tokens = 0
  for (const group of planBatches(sequences, tokenBudget(model, decoding))) {
    for await (const advanced of decodeBatch(model, group, decoding)) {
      tokens += advanced.length
      const done = advanced.filter(({ finishReason }) => finishReason !== undefined).length
      completed += done
      if (done > 0) onProgress?.({ completed, total: prompts.length, tokens })
    }
  }
  return sequences.map((sequence) => sequence.result(decoding.lengthPenalty))
}

/** The tokens that follow one prompt, as they are generated. Leaving the loop frees the memory. */
export async function* streamTokens(
  model: LlamaForCausalLM,
  prompt: readonly number[],
  decoding: ResolvedDecoding,
  index = 0,
): AsyncGenerator<number, void, undefined> {
  const sequences = sequencesOf([prompt], model.config, decoding, [index])
  model.checkTokenIds([prompt])
  for await (const advanced of decodeBatch(model, sequences, decoding)) {
    for (const { generated } of advanced) {
      const id = generated.at(-1)
      if (id !== undefined) yield id
    }
  }
}

/** After every token: the sequences that got one. Memory is freed when the loop is left, and at once on abort. */
async function* decodeBatch(
  model: LlamaForCausalLM,
  sequences: readonly Sequence[],
  decoding: ResolvedDecoding,
): AsyncGenerator<Sequence[], void, undefined> {
  const { signal } = decoding
  signal?.throwIfAborted()
  const batch = new DecodingBatch(model, sequences, decoding)
  // Also while the consumer of a stream is busy elsewhere.
  const release = (): void => batch.dispose()
  signal?.addEventListener('abort', release, { once: true })
  try {
    await batch.prefill()
    for (;;) {
      yield await batch.collect()
      signal?.throwIfAborted()
      if (batch.finished) return
      batch.step()
    }
  } catch (error) {
    signal?.throwIfAborted()
    throw error
  } finally {
    signal?.removeEventListener('abort', release)
    batch.dispose()
    // A graph lets go of its memory behind the step in progress: whoever sees the result finds the memory free.
    if (!model.device.disposed) await model.device.synchronize().catch(() => {})
  }
}

/** The caller's budget, or less: the caches of a batch take at most half of the memory that is free. */
function tokenBudget(model: LlamaForCausalLM, { batchTokens }: ResolvedDecoding): number {
  const { free, reserved, allocated } = model.device.memory()
  const perToken = KeyValueCache.bytes(model.config, 1, model.activationDtype)
  const affordable = Math.floor((free + reserved - allocated) / 2 / perToken)
  return Math.max(1, Math.min(batchTokens, affordable))
}
