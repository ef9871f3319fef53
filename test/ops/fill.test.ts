import { describe, expect, it } from 'vitest'
import { ops, Tensor } from '../../lib/runtime/index.js'
import { roundToBf16 } from '../support/bf16.js'
import { expectError } from '../support/compare.js'
import { onEachDevice } from '../support/devices.js'

onEachDevice((device) => {
  describe('fill', () => {
    it.each([0, 1, 15, 17, 100_003])('%i elements of every dtype', async (count) => {
      for (const [dtype, value, stored] of [
        ['f32', -2.5, -2.5],
        ['bf16', 3.1234, roundToBf16(3.1234)],
        ['i32', -7, -7],
      ] as const) {
        const tensor = ops.fill(Tensor.empty(device(), [count], dtype), value)
        const values = await tensor.read()
        expect(values.length).toBe(count)
        expect(values.every((x) => x === stored)).toBe(true)
      }
    })

    it('writes a view and nothing beside it', async () => {
      const whole = Tensor.zeros(device(), [10], 'f32')
      ops.fill(whole.view([3], 4), 1)
      expect([...(await whole.read())]).toEqual([0, 0, 0, 0, 1, 1, 1, 0, 0, 0])
    })

    it('writes infinities and NaN', async () => {
      for (const value of [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN]) {
        expect([...(await ops.fill(Tensor.empty(device(), [2], 'f32'), value).read())]).toEqual([value, value])
      }
    })

    it('names the op and what does not fit', async () => {
      const tensor = Tensor.zeros(device(), [3], 'f32')
      const call = (): void => device().addon.opFill(tensor.handle, 4, 0)
      await expectError(call, 'ERR_ALMA_SHAPE', /Fill: out has 3 elements, 4 are needed/)
    })
  })
})
