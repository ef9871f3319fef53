import { describe, expect, it } from 'vitest'
import { ops, Tensor } from '../../lib/runtime/index.js'
import { expectClose, expectError } from '../support/compare.js'
import { onEachDevice } from '../support/devices.js'

onEachDevice((device) => {
  describe('clipCoefficient', () => {
    it.each([
      ['below the limit', 4, 3, 2, 1],
      ['above the limit', 100, 1, 10, 1 / (10 + 1e-6)],
      ['at the limit', 4, 2, 2, 2 / (2 + 1e-6)],
      ['nothing to clip', 0, 1, 0, 1],
      ['no limit', 1e6, 0, 1e3, 1],
      ['a negative limit', 1e6, -1, 1e3, 1],
      ['infinite', Number.POSITIVE_INFINITY, 1, Number.POSITIVE_INFINITY, 0],
      ['not a number', Number.NaN, 1, Number.NaN, 0],
      ['infinite without a limit', Number.POSITIVE_INFINITY, 0, Number.POSITIVE_INFINITY, 0],
    ])('%s', async (_name, squares, maxNorm, norm, coefficient) => {
      const normTensor = Tensor.empty(device(), [1], 'f32')
      const out = Tensor.empty(device(), [1], 'f32')
      ops.clipCoefficient(Tensor.from(device(), [squares]), normTensor, out, maxNorm)
      const [gotNorm] = await normTensor.readFloats()
      if (Number.isNaN(norm)) expect(gotNorm).toBeNaN()
      else expectClose('norm', [gotNorm ?? Number.NaN], [norm], { maxAbs: 1e-6 * (1 + Math.min(norm, 1e30)) })
      expectClose('coefficient', await out.read(), [coefficient], { maxAbs: 1e-7 })
    })

    it('names the op and what does not fit', async () => {
      const one = Tensor.zeros(device(), [1], 'f32')
      const none = Tensor.zeros(device(), [0], 'f32')
      await expectError(() => ops.clipCoefficient(one, none, one, 1), 'ERR_ALMA_SHAPE', /ClipCoefficient: norm has 0/)
    })
  })
})
