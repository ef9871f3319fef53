/** A few weights of a base model, kept in its adapters' files: extents alone do not tell two models of one family apart. */
import type { LlamaForCausalLM } from './llama.js'

const MATRICES = 16
const ELEMENTS = 8

/** One rounding to bf16 is half of this, relative; the model may have been trained and used in different dtypes. */
const RELATIVE = 2 ** -7
const ABSOLUTE = 1e-6

/** By parameter: neighbours in the middle of each of some matrices. */
export type BaseSample = Readonly<Record<string, readonly number[]>>

export async function sampleBase(model: LlamaForCausalLM): Promise<BaseSample> {
  const matrices = [...model.namedParameters()].filter(([, { shape }]) => shape.length === 2)
  const stride = Math.max(1, Math.floor(matrices.length / MATRICES))
  const chosen = matrices.filter((_, index) => index % stride === 0).slice(0, MATRICES)
  const sample: Record<string, number[]> = {}
  for (const [name, tensor] of chosen) {
    const count = Math.min(ELEMENTS, tensor.count)
    using part = tensor.view([count], Math.floor((tensor.count - count) / 2))
    sample[name] = [...(await part.readFloats())]
  }
  return sample
}

/** The first parameter in which two samples differ by more than roundings, or undefined. */
export function firstDifference(a: BaseSample, b: BaseSample): string | undefined {
  const close = (x: number, y: number): boolean =>
    Math.abs(x - y) <= RELATIVE * Math.max(Math.abs(x), Math.abs(y)) + ABSOLUTE
  for (const [name, values] of Object.entries(a)) {
    const others = Object.hasOwn(b, name) ? (b[name] ?? []) : []
    if (values.length !== others.length || !values.every((x, i) => close(x, others[i] ?? Number.NaN))) return name
  }
  return undefined
}
