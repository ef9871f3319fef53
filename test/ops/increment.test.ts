import { describe, expect, it } from 'vitest'
import { ops, Tensor } from '../../lib/runtime/index.js'
import { expectError } from '../support/compare.js'
import { onEachDevice } from '../support/devices.js'

onEachDevice((device) => {
  describe('increment', () => {
    it.each([0, 1, 5, 1000])('%i elements', async (count) => {
      const x = Tensor.from(
        device(),
        Int32Array.from({ length: count }, (_, i) => i),
      )
      ops.increment(x)
      ops.increment(x, -3)
      expect([...(await x.read())]).toEqual(Array.from({ length: count }, (_, i) => i - 2))
    })

    it('names the op and what does not fit', async () => {
      const floats = Tensor.zeros(device(), [3], 'f32')
      await expectError(() => ops.increment(floats), 'ERR_ALMA_SHAPE', /Increment: x is f32, expected i32/)
      const ids = Tensor.zeros(device(), [3], 'i32')
      await expectError(() => ops.increment(ids, 0.5), 'ERR_ALMA_SHAPE', /Increment: by is not a 32-bit integer/)
    })
  })
})
