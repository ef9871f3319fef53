import type { LlamaForCausalLM, Parameter } from '../model/index.js'
import { type Device, ops, Tensor } from '../runtime/index.js'

/** Parameters begin at multiples of 16 elements, one cache line of f32: kernels then never share a line between two of them. */
export const ARENA_ALIGNMENT = 16

/**
 * The parameters of one kind of weight decay, with gradients and moments, each as one piece of memory: zeroing, the norm and the
 * optimizer step are then one op each. The gaps between parameters are zero and stay zero.
 */
export class ParameterArena {
  readonly decay: boolean
  readonly parameters: readonly Parameter[]
  readonly param: Tensor
  /** f32 copy of bf16 parameters, which the optimizer really changes. Without one it rounds stochastically. */
  readonly master: Tensor | undefined
  readonly grad: Tensor
  readonly expAvg: Tensor
  readonly expAvgSq: Tensor
  readonly #offsets: readonly number[]

  constructor(
    device: Device,
    parameters: readonly Parameter[],
    { decay, master }: { readonly decay: boolean; readonly master: boolean },
  ) {
    this.decay = decay
    this.parameters = parameters
    const offsets: number[] = []
    let size = 0
    for (const { tensor } of parameters) {
      offsets.push(size)
      size += Math.ceil(tensor.count / ARENA_ALIGNMENT) * ARENA_ALIGNMENT
    }
    this.#offsets = offsets
    const dtype = parameters[0]?.tensor.dtype ?? 'f32'
    this.param = Tensor.zeros(device, [size], dtype)
    for (const [index, parameter] of parameters.entries()) {
      const moved = this.part(this.param, index)
      ops.cast(parameter.tensor, moved)
      parameter.tensor.dispose()
      parameter.tensor = moved
    }
    // Twice the weights are in memory until now; where they were before must make room for what comes.
    device.releaseCachedMemory()
    this.grad = Tensor.zeros(device, [size], 'f32')
    this.expAvg = Tensor.zeros(device, [size], 'f32')
    this.expAvgSq = Tensor.zeros(device, [size], 'f32')
    for (const [index, parameter] of parameters.entries()) parameter.gradient = this.part(this.grad, index)
    this.master = dtype === 'bf16' && master ? ops.cast(this.param, Tensor.empty(device, [size], 'f32')) : undefined
  }

  /** The part of one of the arena's tensors that belongs to parameter `index`, as a view. */
  part(whole: Tensor, index: number): Tensor {
    const shape = this.parameters[index]?.tensor.shape ?? []
    return whole.view(shape, this.#offsets[index] ?? 0)
  }

  /** What a checkpoint must hold to go on exactly, by name: weights (f32), and both moments. */
  *state(): IterableIterator<[name: string, part: Tensor]> {
    for (const [index, { name }] of this.parameters.entries()) {
      yield [`param.${name}`, this.part(this.master ?? this.param, index)]
      yield [`exp_avg.${name}`, this.part(this.expAvg, index)]
      yield [`exp_avg_sq.${name}`, this.part(this.expAvgSq, index)]
    }
  }

  /** After the master weights were replaced. */
  publishMaster(): void {
    if (this.master !== undefined) ops.cast(this.master, this.param)
  }

  /** Frees gradients and moments. The parameters keep their memory. */
  dispose(): void {
    for (const parameter of this.parameters) {
      parameter.gradient?.dispose()
      parameter.gradient = undefined
    }
    for (const tensor of [this.param, this.master, this.grad, this.expAvg, this.expAvgSq]) tensor?.dispose()
  }
}

/** Norms (`*norm.weight`) have no weight decay, as in ALMA. */
export const isNorm = (name: string): boolean => name.endsWith('norm.weight')

/**
 * Two arenas, with and without weight decay. Without `master`, bf16 weights have no f32 copies and are rounded stochastically; norms, which
 * are few and near 1, have copies all the same.
 */
export function arenasOf(
  model: LlamaForCausalLM,
  { master = true }: { readonly master?: boolean } = {},
): ParameterArena[] {
  const all = [...model.parameters()]
  return [
    new ParameterArena(
      model.device,
      all.filter(({ name }) => !isNorm(name)),
      { decay: true, master },
    ),
    new ParameterArena(
      model.device,
      all.filter(({ name }) => isNorm(name)),
      { decay: false, master: true },
    ),
  ]
}
