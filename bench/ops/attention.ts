import { ops, Tensor } from '../../lib/runtime/index.js'
import { type BenchContext, ceilingOf, deviceSeconds, figure } from '../harness.js'

interface Problem {
  readonly lengths: readonly number[]
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
}

const problems: readonly Problem[] = [
  { lengths: [256, 256, 256, 256], heads: 12, kvHeads: 12, headDim: 64 },
  { lengths: [1024], heads: 12, kvHeads: 12, headDim: 64 },
  { lengths: [512, 512], heads: 8, kvHeads: 2, headDim: 128 },
]

/** Causal attention, forward and backward: GFLOP/s beside the multiply-adds that the processor can do in registers. */
export async function attentionBench({ device, report }: BenchContext): Promise<void> {
  report.section('attention')
  for (const { lengths, heads, kvHeads, headDim } of problems) {
    const peak = await ceilingOf(device, 'fma')
    const tokens = lengths.reduce((sum, length) => sum + length, 0)
    const random = (count: number, seed: number): Tensor =>
      ops.fillNormal(Tensor.empty(device, [tokens, count, headDim], 'f32'), 1, seed)
    using q = random(heads, 1)
    using k = random(kvHeads, 2)
    using v = random(kvHeads, 3)
    using dout = random(heads, 4)
    using out = Tensor.empty(device, q.shape, 'f32')
    using dq = Tensor.empty(device, q.shape, 'f32')
    using dk = Tensor.empty(device, k.shape, 'f32')
    using dv = Tensor.empty(device, v.shape, 'f32')
    using logSumExp = Tensor.empty(device, [tokens, heads], 'f32')
    let start = 0
    using cuSeqlensQ = Tensor.from(device, Int32Array.of(0, ...lengths.map((length) => (start += length))))
    const forward = await deviceSeconds(device, () => {
      ops.attention(q, k, v, { cuSeqlensQ }, { out, logSumExp })
    })
    const backward = await deviceSeconds(device, () => {
      ops.attentionBackward(dout, { q, k, v, out, logSumExp }, { cuSeqlensQ }, { dq, dk, dv })
    })
    // Of the length × length square only the lower triangle counts, in two products forward and five backward.
    const pairs = lengths.reduce((sum, length) => sum + (length * (length + 1)) / 2, 0)
    const product = 2 * pairs * heads * headDim
    const shape = `${lengths.length} × ${lengths[0]}, ${heads}/${kvHeads} heads of ${headDim}`
    const add = (name: string, products: number, seconds: number): void => {
      const value = (products * product) / seconds / 1e9
      report.add(figure({ name, shape, value, unit: 'GFLOP/s', ceiling: peak / 1e9 }))
    }
    add('attention', 2, forward)
    add('attention backward', 5, backward)
  }
}
