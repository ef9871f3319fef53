import { type Device, type ops, Tensor } from '../../lib/runtime/index.js'

/** The rotary frequencies, one for each pair of columns. */
export const frequenciesOf = (headDim: number, theta = 10_000): Float64Array =>
  Float64Array.from({ length: headDim / 2 }, (_, i) => theta ** ((-2 * i) / headDim))

/** Cosines and sines of the positions 0 … count − 1, with angles formed in float64. */
export function ropeTable(device: Device, frequencies: ArrayLike<number>, count: number): ops.RopeTable {
  const half = frequencies.length
  const angles = Float64Array.from(
    { length: count * half },
    (_, i) => Math.floor(i / half) * (frequencies[i % half] ?? 0),
  )
  return {
    cosine: Tensor.from(device, Float32Array.from(angles, Math.cos), [count, half]),
    sine: Tensor.from(device, Float32Array.from(angles, Math.sin), [count, half]),
  }
}
