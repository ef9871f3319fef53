/** What a stage of training needs of a device's memory, counted before anything is allocated, and a choice that fits. */
import { AlmaError } from '../errors.js'
import { llamaParameterShapes } from '../model/config.js'
import {
  type ActivationCheckpointing,
  defaultLora,
  type LlamaConfig,
  type LoraConfig,
  loraModules,
  loraTargets,
} from '../model/index.js'
import { ropePositions } from '../model/rope-table.js'
import { MICRO_BATCH_TOKENS } from './batches.js'
import { type MemoryByPart, type MemoryPart, MemoryTrace, memoryParts } from './memory-trace.js'
import { type MicroBatchShape, traceMicroBatch } from './micro-batch-trace.js'
import { ARENA_ALIGNMENT, isNorm } from './parameter-arena.js'

/** Part of what is free that a run may use: the rest is for tables, batches under way and the gaps between blocks. */
const USABLE = 0.97
/** Fewer tokens in a micro-batch keep a GPU's matmuls waiting; computing activations again is then cheaper. */
const FEW_TOKENS = 1024
/** Scratch of a GPU's kernels: partial sums of matmuls whose depth is split, lists of attention tiles. */
const GPU_WORKSPACE = 64 * 2 ** 20

export type CheckpointingOption = 'auto' | ActivationCheckpointing

/** What decides how much memory a micro-batch takes. */
export interface TrainingShape {
  readonly config: LlamaConfig
  /** Of the weights. */
  readonly dtype: 'f32' | 'bf16'
  /** Of activations; default that of the weights. */
  readonly activationDtype?: 'f32' | 'bf16'
  /** Train low-rank updates only: no gradients and moments for the weights. */
  readonly lora?: Pick<LoraConfig, 'rank' | 'dropout' | 'targetModules'>
  /** bf16 weights without f32 master weights. */
  readonly stochasticRounding?: boolean
  /** Whether the device is a GPU, whose kernels have scratch memory. */
  readonly gpu?: boolean
}

export interface MicroBatchSize {
  /** At most. */
  readonly tokens: number
  readonly sequences: number
  /** Tokens with a loss; default: all but the last of each sequence. */
  readonly targets?: number
  readonly activationCheckpointing: ActivationCheckpointing
}

/** Bytes at the moment when most is in use. */
export type MemoryNeed = MemoryByPart & { readonly total: number }

/** Bytes of a step with such micro-batches. The weights count as well, although they are in memory before. */
export function memoryNeed(shape: TrainingShape, micro: MicroBatchSize): MemoryNeed {
  const trace = new MemoryTrace()
  const { tokens, sequences, targets = Math.max(1, tokens - sequences), activationCheckpointing } = micro
  traceState(trace, shape, tokens)
  const pass: MicroBatchShape = {
    config: shape.config,
    elementSize: elementSize(shape),
    tokens,
    sequences,
    targets,
    activationCheckpointing,
    ...(shape.lora && {
      lora: {
        modules: new Set(shape.lora.targetModules === 'all-linear' ? loraTargets : shape.lora.targetModules),
        rank: shape.lora.rank,
        dropout: shape.lora.dropout > 0,
      },
    }),
  }
  // Blocks that the first pass freed serve the second one, and some are larger than asked for.
  for (let i = 0; i < 2; i++) traceMicroBatch(trace, pass)
  return { ...trace.peakParts, total: trace.peak }
}

/** What stays for the whole stage. */
function traceState(trace: MemoryTrace, shape: TrainingShape, tokens: number): void {
  const { config, dtype, lora, gpu = false } = shape
  const stored = dtype === 'bf16' ? 2 : 4
  const weights = [...llamaParameterShapes(config)].map(([name, extents]) => ({ name, count: product(extents) }))
  let trained = weights
  if (lora !== undefined) {
    for (const { count } of weights) trace.allocate(stored * count, 'weights')
    trained = [...loraModules(config, lora)].flatMap(([name, [out, inner]]) =>
      [inner, out].map((width) => ({ name, count: width * lora.rank })),
    )
  }
  // Low-rank updates have the dtype of activations.
  const size = lora === undefined ? stored : elementSize(shape)
  for (const ofNorms of [false, true]) {
    const counts = trained.filter(({ name }) => isNorm(name) === ofNorms).map(({ count }) => count)
    const count = counts.reduce((sum, each) => sum + Math.ceil(each / ARENA_ALIGNMENT) * ARENA_ALIGNMENT, 0)
    trace.allocate(size * count, 'weights')
    trace.allocate(4 * count, 'gradients')
    for (let moment = 0; moment < 2; moment++) trace.allocate(4 * count, 'moments')
    const master = size === 2 && !(shape.stochasticRounding === true && !ofNorms)
    if (master) trace.allocate(4 * count, 'masterWeights')
  }
  // Tables of angles, and the scalars of the optimizer and the trainer.
  const positions = ropePositions(Math.min(tokens, config.maxPositionEmbeddings))
  for (let table = 0; table < 2; table++) trace.allocate(2 * positions * config.headDim, 'workspace')
  for (let scalar = 0; scalar < 9; scalar++) trace.allocate(4, 'workspace')
  if (gpu) trace.allocate(GPU_WORKSPACE + 8 * tokens * config.numAttentionHeads, 'workspace')
}

/** Bytes of an activation. */
const elementSize = ({ dtype, activationDtype = dtype }: TrainingShape): number => (activationDtype === 'bf16' ? 2 : 4)

const product = (extents: readonly number[]): number => extents.reduce((a, b) => a * b, 1)

/** What a stage asks for. */
export interface MemoryRequest extends TrainingShape {
  /** Tokens of the longest sequence. */
  readonly longest: number
  /** Sequences of a step. */
  readonly batchSize: number
  /** Sequences of a micro-batch; absent: to be chosen. */
  readonly microBatchSize?: number
  /** Tokens of a micro-batch, where an earlier part of the run chose them; absent: to be chosen. */
  readonly microBatchTokens?: number
  readonly activationCheckpointing: CheckpointingOption
  /** Bytes that the run may have, the weights included. */
  readonly available: number
}

/** How a stage is trained, and what it needs. */
export interface MemoryPlan {
  readonly need: MemoryNeed
  readonly available: number
  /** Sequences of a micro-batch, or as many as fit into so many tokens (one at least). */
  readonly microBatchSize?: number
  readonly microBatchTokens: number
  readonly activationCheckpointing: ActivationCheckpointing
}

/**
 * What is chosen: the first that fits of: as many tokens as possible down to 1,024 with everything kept or with norms computed again; then down to one
 * sequence with whole layers computed again. The choice changes how gradients are summed up, so a run that resumes must keep the tokens;
 * what is computed again changes no bit.
 *
 * @param where how messages name the stage.
 * @throws AlmaError ERR_ALMA_OUT_OF_MEMORY that says what would fit.
 */
export function planMemory(request: MemoryRequest, where: string): MemoryPlan {
  const sizes = microBatchesOf(request)
  const large = sizes.filter(({ microBatchTokens }, index) => index === 0 || microBatchTokens >= FEW_TOKENS)
  const modes = modesOf(request.activationCheckpointing)
  const light = modes.filter((mode) => mode !== 'full')
  const choices = [
    ...large.flatMap((size) => light.map((mode) => ({ size, mode }))),
    ...(modes.includes('full')
      ? sizes.map((size) => ({ size, mode: 'full' as const }))
      : sizes.slice(large.length).flatMap((size) => light.map((mode) => ({ size, mode })))),
  ]
  let plan: MemoryPlan | undefined
  for (const { size, mode } of choices) {
    plan = planned(request, size, mode)
    if (fits(plan)) return plan
  }
  const least = plan as MemoryPlan
  throw new AlmaError(
    'ERR_ALMA_OUT_OF_MEMORY',
    `${where}: training needs ${describeNeed(least.need)} with ${describeChoice(least)}, and ${gigabytes(request.available)} ` +
      `can be had; ${whatWouldFit(request)}`,
  )
}

const fits = ({ need, available }: MemoryPlan): boolean => need.total <= USABLE * available

interface MicroBatchChoice {
  readonly microBatchSize?: number
  readonly microBatchTokens: number
}

function planned(request: MemoryRequest, size: MicroBatchChoice, mode: ActivationCheckpointing): MemoryPlan {
  const { longest, batchSize, available } = request
  // A sequence that is longer than the limit goes through alone.
  const tokens = Math.min(Math.max(size.microBatchTokens, longest), batchSize * longest)
  const sequences = size.microBatchSize ?? Math.max(1, Math.floor(tokens / longest))
  const need = memoryNeed(request, { tokens, sequences, activationCheckpointing: mode })
  return { need, available, ...size, activationCheckpointing: mode }
}

const modesOf = (option: CheckpointingOption): readonly ActivationCheckpointing[] =>
  option === 'auto' ? ['none', 'selective', 'full'] : [option]

/** From many tokens to few. */
function microBatchesOf({ microBatchSize, microBatchTokens, longest, batchSize }: MemoryRequest): MicroBatchChoice[] {
  if (microBatchSize !== undefined) {
    return [{ microBatchSize, microBatchTokens: Math.min(microBatchSize, batchSize) * longest }]
  }
  if (microBatchTokens !== undefined) return [{ microBatchTokens }]
  const sizes: MicroBatchChoice[] = []
  for (let tokens = MICRO_BATCH_TOKENS; tokens > longest / 2; tokens /= 2) sizes.push({ microBatchTokens: tokens })
  return sizes.length === 0 ? [{ microBatchTokens: longest }] : sizes
}

/** For a request that nothing fits as it is. */
function whatWouldFit(request: MemoryRequest): string {
  const ideas = [
    ...smallerSizes(request),
    ...otherOptions(request).map(([name, options]): Idea => [name, { ...request, ...options }]),
  ]
  const fitting = ideas.flatMap(([name, idea]) => {
    const size = microBatchesOf(idea).at(-1) as MicroBatchChoice
    const plan = planned(idea, size, modesOf(idea.activationCheckpointing).at(-1) as ActivationCheckpointing)
    return fits(plan) ? [`${name} (${gigabytes(plan.need.total)})`] : []
  })
  return fitting.length === 0 ? 'nothing would fit but a smaller model' : `what would fit: ${fitting.join(', or ')}`
}

type Idea = readonly [name: string, request: MemoryRequest]

/** The largest half, quarter, … of a micro-batch that fits. */
function smallerSizes(request: MemoryRequest): Idea[] {
  const mode = modesOf(request.activationCheckpointing).at(-1) as ActivationCheckpointing
  for (let size = Math.floor((request.microBatchSize ?? 1) / 2); size >= 1; size = Math.floor(size / 2)) {
    const smaller = { ...request, microBatchSize: size }
    if (fits(planned(smaller, microBatchesOf(smaller)[0] as MicroBatchChoice, mode))) {
      return [[`microBatchSize ${size}`, smaller]]
    }
  }
  return []
}

function otherOptions(request: MemoryRequest): [name: string, options: Partial<MemoryRequest>][] {
  const { dtype, lora, stochasticRounding, longest } = request
  const auto = { activationCheckpointing: 'auto' } as const
  const short = FEW_TOKENS / 8
  const others: [string, Partial<MemoryRequest>][] = []
  if (request.activationCheckpointing !== 'auto') others.push(["activationCheckpointing 'auto'", auto])
  if (longest > short) others.push([`sequences of at most ${short} tokens`, { ...auto, longest: short }])
  if (dtype === 'bf16' && lora === undefined && stochasticRounding !== true) {
    others.push(['stochasticRounding', { ...auto, stochasticRounding: true }])
  }
  if (lora === undefined) others.push(['lora', { ...auto, lora: defaultLora }])
  return others
}

/** For the terminal: what is needed, of how much, and what was chosen. */
export function describePlan(plan: MemoryPlan): string {
  return `${describeNeed(plan.need)} of ${gigabytes(plan.available)}; ${describeChoice(plan)}`
}

/** `3.4 GB (weights 1.1, gradients 1.1, moments 0.9, activations 0.3)`. */
function describeNeed(need: MemoryNeed): string {
  const parts = memoryParts.filter((part) => need[part] > 0)
  return `${gigabytes(need.total)} (${parts.map((part) => `${partNames[part]} ${gigabytes(need[part])}`).join(', ')})`
}

/** `micro-batches of 4,096 tokens, activation checkpointing none`. */
function describeChoice({ microBatchSize, microBatchTokens, activationCheckpointing }: MemoryPlan): string {
  const size =
    microBatchSize === undefined
      ? `${microBatchTokens.toLocaleString('en')} tokens`
      : `${microBatchSize} ${microBatchSize === 1 ? 'sequence' : 'sequences'}`
  return `micro-batches of ${size}, activation checkpointing ${activationCheckpointing}`
}

const partNames: Readonly<Record<MemoryPart, string>> = {
  weights: 'weights',
  gradients: 'gradients',
  moments: 'moments',
  masterWeights: 'master weights',
  activations: 'activations',
  logits: 'logits',
  workspace: 'workspace',
}

/** Decimal, as memory is sold: 141 GB is 141 · 10⁹ bytes. Small amounts in MB. */
function gigabytes(bytes: number): string {
  return bytes < 1e9 ? `${(bytes / 1e6).toPrecision(3)} MB` : `${(bytes / 1e9).toFixed(1)} GB`
}
