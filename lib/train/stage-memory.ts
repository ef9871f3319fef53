/** The memory plan of a stage on the device at hand. */
import { AlmaError } from '../errors.js'
import type { LlamaForCausalLM } from '../model/index.js'
import { MICRO_BATCH_TOKENS } from './batches.js'
import { type MemoryPlan, planMemory } from './memory-plan.js'
import type { ResolvedStage } from './stages.js'

/**
 * Plans before anything is allocated.
 *
 * @param index of the stage.
 * @param microBatchTokens what an earlier part of the run chose: a run that resumes keeps it, because its sums depend on it.
 * @throws AlmaError ERR_ALMA_OUT_OF_MEMORY, ERR_ALMA_OPTION
 */
export function planStage(
  model: LlamaForCausalLM,
  stage: ResolvedStage,
  index: number,
  microBatchTokens?: number,
): MemoryPlan {
  const { device, config, activationDtype } = model
  const weights = [...model.namedParameters()].map(([, tensor]) => tensor)
  const dtype = weights[0]?.dtype === 'bf16' ? 'bf16' : 'f32'
  const { lora, stochasticRounding = false, microBatchSize } = stage
  if (stochasticRounding && dtype !== 'bf16') {
    throw new AlmaError(
      'ERR_ALMA_OPTION',
      `stages[${index}]: "stochasticRounding" is for bf16 weights, these are ${dtype}`,
    )
  }
  return planMemory(
    {
      config,
      dtype,
      activationDtype: activationDtype === 'bf16' ? 'bf16' : 'f32',
      gpu: device.name !== 'cpu',
      ...(lora && { lora }),
      stochasticRounding,
      longest: longestUnit(stage, config.maxPositionEmbeddings),
      batchSize: stage.batchSize,
      ...(microBatchSize !== undefined && { microBatchSize }),
      ...(microBatchTokens !== undefined && { microBatchTokens }),
      activationCheckpointing: stage.activationCheckpointing ?? 'auto',
      available: availableMemory(device, weights),
    },
    `stages[${index}]`,
  )
}

/** Tokens of the longest sequence that a stage can have, or of the longest pair of them: a pair is not cut up. */
function longestUnit(stage: ResolvedStage, context: number): number {
  if (stage.kind === 'preference') return 2 * Math.min(stage.maxLength, context)
  return Math.min(stage.kind === 'monolingual' ? stage.blockSize : stage.maxSourceLength + stage.maxNewTokens, context)
}

/** What is free, with what is only kept for reuse, and with the model's own weights. */
function availableMemory(
  device: LlamaForCausalLM['device'],
  weights: readonly { readonly byteLength: number }[],
): number {
  const { free, reserved, allocated } = device.memory()
  const own = weights.reduce((sum, { byteLength }) => sum + byteLength, 0)
  // Weights that are files in memory are not among what is allocated; their pages are free for the system to take.
  return free + reserved - allocated + Math.min(own, allocated)
}

/** What a checkpoint without a record of it was trained with. */
export const earlierMicroBatchTokens = MICRO_BATCH_TOKENS
