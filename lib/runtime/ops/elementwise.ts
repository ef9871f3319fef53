/** Ops on every element by itself. */
import type { Tensor } from '../tensor.js'
import { like, seedWords } from './arguments.js'

/** out[i] = value. */
export function fill(out: Tensor, value: number): Tensor {
  out.device.addon.opFill(out.handle, out.count, value)
  return out
}

/**
 * Normal random numbers of mean 0: element i is a function of the seed and of `first` + i alone.
 * Seeds are integers from 0 to 2⁵³ − 1.
 */
export function fillNormal(out: Tensor, standardDeviation: number, seed: number, first = 0): Tensor {
  out.device.addon.opFillNormal(out.handle, out.count, standardDeviation, ...seedWords(seed), first)
  return out
}

/** The elements of `input` in the dtype of `out`. */
export function cast(input: Tensor, out: Tensor): Tensor {
  input.device.addon.opCast(input.handle, out.handle, input.count)
  return out
}

/** a + b, element by element; `out` may be either. */
export function add(a: Tensor, b: Tensor, out: Tensor = like(a)): Tensor {
  a.device.addon.opAdd(a.handle, b.handle, out.handle, a.count)
  return out
}

/** factor · x; `out` may be `x`. */
export function scale(x: Tensor, factor: number, out: Tensor = like(x)): Tensor {
  x.device.addon.opScale(x.handle, out.handle, x.count, factor)
  return out
}

export interface DropoutOptions {
  /** Of an element to be dropped; from 0 to below 1. */
  readonly probability: number
  /** From 0 to 2⁵³ − 1. */
  readonly seed: number
  /** i32 [1]. The mask is a function of seed, step and the element's index. */
  readonly step: Tensor
  /** Add to `out`. Default false. */
  readonly accumulate?: boolean
  /** May be `x`. */
  readonly out?: Tensor
}

/** Inverted dropout: x / (1 − probability) where an element is kept, 0 elsewhere. The gradient is the same op on the gradient. */
export function dropout(x: Tensor, options: DropoutOptions): Tensor {
  const { probability, seed, step, accumulate = false, out = like(x) } = options
  x.device.addon.opDropout(x.handle, out.handle, step.handle, x.count, probability, ...seedWords(seed), accumulate)
  return out
}

/** x[i] += by, for 'i32'. */
export function increment(x: Tensor, by = 1): Tensor {
  x.device.addon.opIncrement(x.handle, x.count, by)
  return x
}
