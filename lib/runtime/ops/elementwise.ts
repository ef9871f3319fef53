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

/** x[i] += by, for 'i32'. */
export function increment(x: Tensor, by = 1): Tensor {
  x.device.addon.opIncrement(x.handle, x.count, by)
  return x
}
