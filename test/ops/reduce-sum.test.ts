import { describe, expect, it } from 'vitest'
import { ops, Tensor } from '../../lib/runtime/index.js'
import { roundAllToBf16 } from '../support/bf16.js'
import { expectClose, expectError } from '../support/compare.js'
import { itIsTheSameOnAnyThreads, onEachDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'

const sum = (values: Float32Array, power: number): number => values.reduce((total, x) => total + x ** power, 0)

onEachDevice((device) => {
  describe('reduceSum', () => {
    it.each([0, 1, 15, 17, 1000, 300_001])('%i elements, and their squares', async (count) => {
      const wide = new TestRandom(count).normals(count)
      for (const dtype of ['f32', 'bf16'] as const) {
        const values = dtype === 'bf16' ? roundAllToBf16(wide) : wide
        const x = Tensor.from(device(), values, [count], dtype)
        expectClose('sum', await ops.reduceSum(x).read(), [sum(values, 1)], { maxAbs: 1e-5 * Math.sqrt(count + 1) })
        expectClose('squares', await ops.reduceSum(x, { squares: true }).read(), [sum(values, 2)], { relativeL2: 1e-6 })
      }
    })

    it('adds to out with accumulate', async () => {
      const out = Tensor.from(device(), [10])
      const x = Tensor.from(device(), [1, 2, 3])
      ops.reduceSum(x, { out, accumulate: true })
      ops.reduceSum(x, { out, accumulate: true, squares: true })
      expect([...(await out.read())]).toEqual([30])
    })

    it('keeps small numbers beside large ones: the sum is formed in float64', async () => {
      const values = new Float32Array(100_001).fill(1e-3)
      values[0] = 1e6
      expectClose('sum', await ops.reduceSum(Tensor.from(device(), values)).read(), [sum(values, 1)], {
        relativeL2: 1e-7,
      })
    })

    it('names the op and what does not fit', async () => {
      const x = Tensor.zeros(device(), [3], 'f32')
      const out = Tensor.zeros(device(), [1], 'bf16')
      await expectError(() => ops.reduceSum(x, { out }), 'ERR_ALMA_SHAPE', /ReduceSum: out is bf16, expected f32/)
    })
  })

  describe('globalNorm', () => {
    it('is the norm over all tensors together', async () => {
      const parts = [1, 1000, 33].map((count) => new TestRandom(count).normals(count))
      const total = Math.sqrt(parts.reduce((squares, part) => squares + sum(part, 2), 0))
      const tensors = parts.map((part) => Tensor.from(device(), part))
      const { norm, coefficient } = ops.globalNorm(tensors, { maxNorm: 1 })
      expectClose('norm', await norm.read(), [total], { relativeL2: 1e-6 })
      expectClose('coefficient', await coefficient.read(), [1 / (total + 1e-6)], { relativeL2: 1e-6 })
      await expectError(() => ops.globalNorm([]), 'ERR_ALMA_SHAPE', /^globalNorm: no gradients/)
    })
  })
})

itIsTheSameOnAnyThreads(async (device) => {
  const x = Tensor.from(device, new TestRandom(5).normals(200_003))
  return [await ops.reduceSum(x).readFloats(), await ops.reduceSum(x, { squares: true }).readFloats()]
})
