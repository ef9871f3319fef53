/**
 * LoRA (Hu et al. 2021): y = x · Wᵀ + scaling · dropout(x) · Aᵀ · Bᵀ beside a frozen W. Names and meanings are those of PEFT's LoraConfig.
 */
import { AlmaError } from '../errors.js'
import { ops, Tensor } from '../runtime/index.js'
import type { LlamaConfig } from './config.js'
import { llamaParameterShapes } from './config.js'
import type { LlamaForCausalLM } from './llama.js'
import { Parameter } from './parameter.js'

export interface LoraConfig {
  /** Rank of the update. Default 16. */
  readonly rank: number
  /** The update is scaled by alpha / rank. Default 32. */
  readonly alpha: number
  /** Probability that an element of a module's input is dropped in training. Default 0.05. */
  readonly dropout: number
  /** Scale by alpha / √rank instead (Kalajdzievski 2023). Default false. */
  readonly useRslora: boolean
  /** Names such as `'down_proj'`, or `'all-linear'`: all but the output layer. Default `['down_proj']`, as ALMA. */
  readonly targetModules: readonly string[] | 'all-linear'
}

/** ALMA's and ALMA-R's. */
export const defaultLora: LoraConfig = {
  rank: 16,
  alpha: 32,
  dropout: 0.05,
  useRslora: false,
  targetModules: ['down_proj'],
}

/** The linear modules of a LLaMA layer, as PEFT's `all-linear` finds them. */
export const loraTargets = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'] as const

export function loraScaling({ alpha, rank, useRslora }: Pick<LoraConfig, 'alpha' | 'rank' | 'useRslora'>): number {
  return alpha / (useRslora ? Math.sqrt(rank) : rank)
}

/** Modules of a model that a config names, with the extents of their weights: `model.layers.0.mlp.down_proj` → [out, in]. */
export function loraModules(
  config: LlamaConfig,
  lora: Pick<LoraConfig, 'targetModules'>,
): Map<string, [number, number]> {
  const names: readonly string[] = lora.targetModules === 'all-linear' ? loraTargets : lora.targetModules
  const modules = new Map<string, [number, number]>()
  for (const [name, [out = 0, inner = 0]] of llamaParameterShapes(config)) {
    const module = name.replace(/\.weight$/, '')
    if (names.some((target) => module.startsWith('model.layers.') && module.endsWith(`.${target}`))) {
      modules.set(module, [out, inner])
    }
  }
  return modules
}

/** What dropout masks depend on besides the element: the same in a backward pass as in its forward pass. */
export interface DropoutState {
  readonly seed: number
  /** i32 [1], another number for every micro-batch. */
  readonly step: Tensor
}

/** The update of one Linear. */
export class LoraPair {
  /** [rank, inFeatures]. */
  readonly a: Parameter
  /** [outFeatures, rank]. */
  readonly b: Parameter
  readonly scaling: number
  readonly #probability: number
  readonly #index: number
  /** Set while training; without it nothing is dropped. */
  dropoutState: DropoutState | undefined

  constructor(a: Parameter, b: Parameter, options: { scaling: number; dropout: number; index: number }) {
    this.a = a
    this.b = b
    this.scaling = options.scaling
    this.#probability = options.dropout
    this.#index = options.index
  }

  /** The same tensors with another dropout. */
  withDropout(dropout: number): LoraPair {
    return new LoraPair(this.a, this.b, { scaling: this.scaling, dropout, index: this.#index })
  }

  get rank(): number {
    return this.a.tensor.shape[0] ?? 0
  }

  /** y += scaling · dropout(x) · Aᵀ · Bᵀ. */
  addTo(y: Tensor, x: Tensor, training: boolean, invariance: ops.Invariance): void {
    const inner = this.#inner(x, training, invariance)
    using flat = y.view([inner.shape[0] ?? 0, this.b.tensor.shape[0] ?? 0])
    if (invariance === 'none') {
      ops.matmul(inner, this.b.tensor, { layout: 'nt', out: flat, accumulate: true })
    } else {
      const update = ops.matmul(inner, this.b.tensor, { layout: 'nt', invariance })
      ops.add(flat, update, flat)
      update.dispose()
    }
    inner.dispose()
  }

  /** weight ± scaling · B · A as a new tensor of the weight's dtype; the sum is formed in f32 and rounded once. */
  mergedWith(weight: Tensor, sign: 1 | -1 = 1): Tensor {
    const { device, shape, dtype } = weight
    using update = ops.matmul(this.b.tensor, this.a.tensor, { out: Tensor.empty(device, shape, 'f32') })
    ops.scale(update, sign * this.scaling, update)
    const merged = ops.cast(weight, Tensor.empty(device, shape, 'f32'))
    ops.add(merged, update, merged)
    if (dtype === 'f32') return merged
    using sum = merged
    return ops.cast(sum, Tensor.empty(device, shape, dtype))
  }

  /** Adds the gradients of A and B. */
  backwardWeights(dy: Tensor, x: Tensor): void {
    const inner = this.#inner(x, true, 'none')
    ops.matmul(dy, inner, { layout: 'tn', out: this.b.requiredGradient, accumulate: true })
    inner.dispose()
    using dinner = this.#dinner(dy)
    const dropped = this.#dropped(x, true)
    ops.matmul(dinner, dropped, { layout: 'tn', out: this.a.requiredGradient, accumulate: true })
    if (dropped !== x) dropped.dispose()
  }

  /** dx += what comes through the update. */
  backwardInput(dy: Tensor, dx: Tensor): void {
    using dinner = this.#dinner(dy)
    const state = this.#dropout()
    if (state === undefined) {
      ops.matmul(dinner, this.a.tensor, { out: dx, accumulate: true })
      return
    }
    using through = ops.matmul(dinner, this.a.tensor)
    ops.dropout(through, { ...state, accumulate: true, out: dx })
  }

  #inner(x: Tensor, training: boolean, invariance: ops.Invariance): Tensor {
    const dropped = this.#dropped(x, training)
    const inner = ops.matmul(dropped, this.a.tensor, { layout: 'nt', invariance })
    if (dropped !== x) dropped.dispose()
    return ops.scale(inner, this.scaling, inner)
  }

  #dinner(dy: Tensor): Tensor {
    const dinner = ops.matmul(dy, this.b.tensor)
    return ops.scale(dinner, this.scaling, dinner)
  }

  #dropped(x: Tensor, training: boolean): Tensor {
    const state = training ? this.#dropout() : undefined
    return state === undefined ? x : ops.dropout(x, state)
  }

  #dropout(): { probability: number; seed: number; step: Tensor } | undefined {
    const state = this.dropoutState
    if (state === undefined || this.#probability === 0) return undefined
    // Every module has masks of its own.
    return { probability: this.#probability, seed: state.seed + this.#index * 2 ** 32, step: state.step }
  }
}

/** A set of updates for one base model. */
export class LoraAdapter {
  readonly config: LoraConfig
  /** By module: `model.layers.0.mlp.down_proj`. */
  readonly pairs: ReadonlyMap<string, LoraPair>

  constructor(config: LoraConfig, pairs: ReadonlyMap<string, LoraPair>) {
    this.config = config
    this.pairs = pairs
  }

  /** New updates that change nothing yet: A as PEFT initialises it (uniform, Kaiming with a = √5), B zero; in the dtype of activations. */
  static create(base: LlamaForCausalLM, config: LoraConfig, seed: number): LoraAdapter {
    const { device, activationDtype: dtype } = base
    const modules = loraModules(base.config, config)
    requireModules(config, modules)
    const pairs = new Map<string, LoraPair>()
    // Numbered among all modules: what an adapter draws does not depend on whether it was loaded or made.
    const all = [...loraModules(base.config, { targetModules: 'all-linear' }).keys()]
    for (const [module, [out, inner]] of modules) {
      const index = all.indexOf(module)
      const random = uniform(seed + index * 2 ** 32)
      const bound = 1 / Math.sqrt(inner)
      const a = Float32Array.from({ length: config.rank * inner }, () => (2 * random() - 1) * bound)
      pairs.set(
        module,
        pairOf(module, config, index, [
          Tensor.from(device, a, [config.rank, inner], dtype),
          Tensor.zeros(device, [out, config.rank], dtype),
        ]),
      )
    }
    return new LoraAdapter(config, pairs)
  }

  *parameters(): IterableIterator<Parameter> {
    for (const { a, b } of this.pairs.values()) {
      yield a
      yield b
    }
  }

  /** For the passes of a training step; undefined: nothing is dropped. */
  set dropoutState(state: DropoutState | undefined) {
    for (const pair of this.pairs.values()) pair.dropoutState = state
  }

  dispose(): void {
    for (const parameter of this.parameters()) parameter.dispose()
  }
}

/** `base_model.model.model.layers.0.mlp.down_proj.lora_A.weight`, as PEFT names the tensors in its files. */
export const peftName = (module: string, part: 'A' | 'B'): string => `base_model.model.${module}.lora_${part}.weight`

export function pairOf(module: string, config: LoraConfig, index: number, [a, b]: readonly [Tensor, Tensor]): LoraPair {
  return new LoraPair(new Parameter(peftName(module, 'A'), a), new Parameter(peftName(module, 'B'), b), {
    scaling: loraScaling({ ...config, rank: a.shape[0] ?? config.rank }),
    dropout: config.dropout,
    index,
  })
}

/** @throws AlmaError ERR_ALMA_OPTION for a target that no module has */
function requireModules(config: LoraConfig, modules: ReadonlyMap<string, unknown>): void {
  if (config.targetModules === 'all-linear') return
  for (const target of config.targetModules) {
    if (![...modules.keys()].some((module) => module.endsWith(`.${target}`))) {
      throw new AlmaError(
        'ERR_ALMA_OPTION',
        `lora.targetModules: the model has no module "${target}"; there are ${loraTargets.join(', ')}`,
      )
    }
  }
}

/** Numbers from 0 to below 1 (splitmix32): the same for the same seed on every device. */
function uniform(seed: number): () => number {
  let state = (seed ^ Math.imul(Math.floor(seed / 2 ** 32), 0x85ebca6b)) >>> 0
  return () => {
    state = (state + 0x9e3779b9) >>> 0
    let mixed = state ^ (state >>> 16)
    mixed = Math.imul(mixed, 0x21f0aaad)
    mixed ^= mixed >>> 15
    mixed = Math.imul(mixed, 0x735a2d97)
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32
  }
}
