import { describe, expect, it } from 'vitest'
import { ops, Tensor } from '../../lib/runtime/index.js'
import { expectError } from '../support/compare.js'
import { onEachDevice } from '../support/devices.js'

onEachDevice((device) => {
  describe('appendTokens', () => {
    it('writes behind each row’s own end, and the ends move', async () => {
      const history = Tensor.from(
        device(),
        Int32Array.from({ length: 12 }, () => -1),
        [3, 4],
      )
      const length = Tensor.from(device(), Int32Array.of(0, 2, 3))
      ops.appendTokens(Tensor.from(device(), Int32Array.of(7, 8, 9)), history, length)
      expect([...(await history.read())]).toEqual([7, -1, -1, -1, -1, -1, 8, -1, -1, -1, -1, 9])
      expect([...(await length.read())]).toEqual([1, 3, 4])
    })

    it('of no rows changes nothing', async () => {
      const none = Tensor.from(device(), new Int32Array())
      ops.appendTokens(none, none, none)
      await device().synchronize()
    })

    it('names the op and what does not fit', async () => {
      const ids = Tensor.zeros(device(), [3], 'i32')
      const history = Tensor.zeros(device(), [3, 4], 'i32')
      const two = Tensor.zeros(device(), [2], 'i32')
      await expectError(
        () => ops.appendTokens(ids, history, two),
        'ERR_ALMA_SHAPE',
        /AppendTokens: historyLength has 2/,
      )
    })

    it.each([2, -1])(
      'a row that is full, or of length %i: an error at the next read, and the device goes on',
      async (length) => {
        const history = Tensor.zeros(device(), [1, 2], 'i32')
        const ids = Tensor.from(device(), Int32Array.of(5))
        ops.appendTokens(ids, history, Tensor.from(device(), Int32Array.of(length)))
        await expectError(() => history.read(), 'ERR_ALMA_DEVICE', /append_?tokens/i)
        ops.appendTokens(ids, history, Tensor.from(device(), Int32Array.of(1)))
        expect([...(await history.read())]).toEqual([0, 5])
      },
    )
  })
})
