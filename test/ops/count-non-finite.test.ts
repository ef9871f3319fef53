import { describe, expect, it } from 'vitest'
import { ops, Tensor } from '../../lib/runtime/index.js'
import { expectError } from '../support/compare.js'
import { onEachDevice } from '../support/devices.js'

onEachDevice((device) => {
  describe('countNonFinite', () => {
    it.each([0, 1, 33, 100_003])('%i elements, added to what was counted before', async (count) => {
      for (const dtype of ['f32', 'bf16'] as const) {
        const values = new Float32Array(count).fill(-1e38)
        const bad = [0, 5, count - 1, count >> 1].filter((i, at, all) => i < count && i >= 0 && all.indexOf(i) === at)
        bad.forEach((index, i) => {
          values[index] = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY][i % 3] ?? 0
        })
        const out = Tensor.from(device(), Int32Array.of(100))
        ops.countNonFinite(Tensor.from(device(), values, [count], dtype), out)
        expect([...(await out.read())]).toEqual([100 + bad.length])
      }
    })

    it('names the op and what does not fit', async () => {
      const out = Tensor.zeros(device(), [1], 'f32')
      await expectError(
        () => ops.countNonFinite(out, out),
        'ERR_ALMA_SHAPE',
        /CountNonFinite: out is f32, expected i32/,
      )
    })
  })
})
