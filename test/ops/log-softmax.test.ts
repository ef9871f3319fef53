import { describe, expect, it } from 'vitest'
import { ops, Tensor } from '../../lib/runtime/index.js'
import { expectClose, expectError } from '../support/compare.js'
import { itIsTheSameOnAnyThreads, onEachDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'
import { softmax } from '../support/reference.js'

const rowOf = (values: Float32Array, row: number, vocab: number): Float32Array =>
  values.subarray(row * vocab, (row + 1) * vocab)

onEachDevice((device) => {
  describe('logSoftmax', () => {
    it.each([1, 5, 64, 1000, 32_003])('of rows of %i', async (vocab) => {
      const logits = new TestRandom(vocab).normals(3 * vocab, 4)
      for (const dtype of ['f32', 'bf16'] as const) {
        const x = Tensor.from(device(), logits, [3, vocab], dtype)
        const stored = await x.readFloats()
        const got = await ops.logSoftmax(x).readFloats()
        for (let row = 0; row < 3; row++) {
          const values = rowOf(stored, row, vocab)
          const { logSumExp } = softmax(values)
          const expected = Float64Array.from(values, (value) => value - logSumExp)
          expectClose(`row ${row}`, rowOf(got, row, vocab), expected, { maxAbs: 4e-6 })
        }
      }
    })

    it('in place', async () => {
      const x = Tensor.from(device(), Float32Array.of(0, 0, 0, 0), [1, 4])
      expect(ops.logSoftmax(x, x)).toBe(x)
      expectClose(
        'x',
        await x.read(),
        [1, 1, 1, 1].map(() => -Math.log(4)),
        { maxAbs: 1e-7 },
      )
    })

    it('keeps −∞, is exact where numbers are large, and makes a row of NaN, +∞ or nothing but −∞ NaN', async () => {
      const low = Number.NEGATIVE_INFINITY
      const rows = [
        [low, 1e30, low],
        [5e4, 5e4, low],
        [Number.NaN, 1, 2],
        [Number.POSITIVE_INFINITY, 1, 2],
        [low, low, low],
      ]
      const x = Tensor.from(device(), Float32Array.from(rows.flat()), [rows.length, 3])
      const got = await ops.logSoftmax(x).readFloats()
      expect([...got.subarray(0, 3)]).toEqual([low, 0, low])
      expectClose('large', got.subarray(3, 5), [-Math.LN2, -Math.LN2], { maxAbs: 1e-7 })
      expect(got[5]).toBe(low)
      expect([...got.subarray(6)]).toEqual(Array.from({ length: 9 }, () => Number.NaN))
    })

    it('of no rows is nothing, and names what does not fit', async () => {
      expect((await ops.logSoftmax(Tensor.zeros(device(), [0, 7], 'f32')).read()).length).toBe(0)
      const x = Tensor.zeros(device(), [2, 4], 'f32')
      const short = Tensor.zeros(device(), [1, 4], 'f32')
      await expectError(() => ops.logSoftmax(x, short), 'ERR_ALMA_SHAPE', /LogSoftmax: out has 4 elements, 8/)
      const narrow = Tensor.zeros(device(), [2, 4], 'bf16')
      await expectError(() => ops.logSoftmax(narrow, narrow), 'ERR_ALMA_SHAPE', /LogSoftmax: out is bf16/)
    })
  })
})

itIsTheSameOnAnyThreads(async (device) => {
  const x = Tensor.from(device, new TestRandom(5).normals(7 * 3001), [7, 3001])
  return [await ops.logSoftmax(x).readFloats()]
})
