/** Matrix products. */
import { Tensor } from '../tensor.js'
import { type Invariance, invarianceCode, mismatch, rowsAndColumns } from './arguments.js'

export interface MatmulOptions {
  /**
   * 'nn': a [m, k] · b [k, n] · 'nt': a [m, k] · b [n, k]ᵀ (a linear layer's forward) · 'tn': a [k, m]ᵀ · b [k, n] (its weight gradient).
   * Default 'nn'. Leading extents are flattened into rows.
   */
  readonly layout?: 'nn' | 'nt' | 'tn'
  /** Add to `out` instead of overwriting it. */
  readonly accumulate?: boolean
  /** With 'nt' and without `accumulate`: see {@link Invariance}. */
  readonly invariance?: Invariance
  /** Operands in f32 may be rounded to bf16, both of them, where the device multiplies pairs of bf16: it is twice as fast then. */
  readonly mayRound?: boolean
  readonly out?: Tensor
}

const layoutCode = { nn: 0, nt: 1, tn: 2 } as const

/**
 * Matrix product, accumulated in f32. The result has the dtype of `a` unless `out` is given. Where the device multiplies pairs of bf16, an operand
 * in f32 beside one in bf16 may be rounded to bf16; not with `invariance: 'fewRows'`.
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const { layout = 'nn', accumulate = false, invariance = 'none', mayRound = false } = options
  const [aRows, aCols] = rowsAndColumns(a)
  const [bRows, bCols] = rowsAndColumns(b)
  const [m, k] = layout === 'tn' ? [aCols, aRows] : [aRows, aCols]
  const [n, kOfB] = layout === 'nt' ? [bRows, bCols] : [bCols, bRows]
  if (k !== kOfB) {
    throw mismatch('matmul', `'${layout}' of [${a.shape.join(', ')}] and [${b.shape.join(', ')}]: ${k} ≠ ${kOfB}`)
  }
  if (accumulate && options.out === undefined) throw mismatch('matmul', 'accumulate needs an out')
  const shape = layout === 'tn' ? [m, n] : [...a.shape.slice(0, -1), n]
  const out = options.out ?? Tensor.empty(a.device, shape, a.dtype)
  if (out.count !== m * n) throw mismatch('matmul', `out has shape [${out.shape.join(', ')}], expected [${m}, ${n}]`)
  const order = invarianceCode[invariance]
  a.device.addon.opMatmul(a.handle, b.handle, out.handle, m, n, k, layoutCode[layout], accumulate, order, mayRound)
  return out
}
