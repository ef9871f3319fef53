/** What the ops have in common: absent tensors, results like an argument, extents, messages. */
import { AlmaError } from '../../errors.js'
import { countOf, Tensor } from '../tensor.js'

const ABSENT = -1
export const handleOf = (tensor: Tensor | undefined): number => (tensor === undefined ? ABSENT : tensor.handle)
export const like = (tensor: Tensor): Tensor => Tensor.empty(tensor.device, tensor.shape, tensor.dtype)

export function mismatch(op: string, what: string): AlmaError {
  return new AlmaError('ERR_ALMA_SHAPE', `${op}: ${what}`)
}

/** The last extent, and the product of the ones before it. */
export function rowsAndColumns(tensor: Tensor): [rows: number, cols: number] {
  const cols = tensor.shape.at(-1) ?? 1
  return [cols === 0 ? countOf(tensor.shape.slice(0, -1)) : tensor.count / cols, cols]
}

export function headsOf(op: string, name: string, tensor: Tensor): [tokens: number, heads: number, headDim: number] {
  const [tokens, heads, headDim] = tensor.shape
  if (tokens === undefined || heads === undefined || headDim === undefined || tensor.shape.length !== 3) {
    throw mismatch(op, `${name} has shape [${tensor.shape.join(', ')}], expected [tokens, heads, headDim]`)
  }
  return [tokens, heads, headDim]
}

/** Positions of a rotary table [maxPositions, headDim / 2]. */
export function maxPositionsOf(table: Tensor, headDim: number): number {
  return headDim === 0 ? 0 : table.count / (headDim / 2)
}

/** A weight of a product has shape [rows, cols]. */
export function checkWeight(op: string, name: string, weight: Tensor, rows: number, cols: number): void {
  const [foundRows, foundCols] = rowsAndColumns(weight)
  if (foundRows === rows && foundCols === cols) return
  throw mismatch(op, `${name} has shape [${weight.shape.join(', ')}], expected [${rows}, ${cols}]`)
}

/** A seed as two 32-bit words. */
export function seedWords(seed: number): [low: number, high: number] {
  return [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0]
}

/**
 * Which order of summation an op takes. `'none'` (default): the fastest for the call. With the others a row's bits do not depend on the
 * other rows of the call nor on their number: `'manyRows'` is one fixed order, fast for prompts, `'fewRows'` one for decoding steps.
 */
export type Invariance = 'none' | 'manyRows' | 'fewRows'

export const invarianceCode: Readonly<Record<Invariance, number>> = { none: 0, manyRows: 1, fewRows: 2 }
