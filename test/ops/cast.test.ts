import { describe, expect, it } from 'vitest'
import { ops, Tensor } from '../../lib/runtime/index.js'
import { bf16Bits, roundAllToBf16 } from '../support/bf16.js'
import { expectClose, expectError } from '../support/compare.js'
import { onEachDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'

const special = [
  0,
  -0,
  1,
  -1,
  1 + 2 ** -8,
  1 + 3 * 2 ** -8,
  1 + 2 ** -8 + 2 ** -20,
  3.4e38,
  -3.4e38,
  1e-40,
  -1e-45,
  2 ** -126,
]

onEachDevice((device) => {
  describe('cast', () => {
    it.each([0, 1, 15, 16, 33, 100_001])('%i elements to bf16 and back, nearest even', async (count) => {
      const values = new TestRandom(count).normals(count, 100)
      const half = ops.cast(Tensor.from(device(), values), Tensor.empty(device(), [count], 'bf16'))
      const back = ops.cast(half, Tensor.empty(device(), [count], 'f32'))
      expectClose('values', await back.read(), roundAllToBf16(values), { maxAbs: 0 })
    })

    it('rounds ties, subnormals, the largest numbers, infinities and NaN as the format says', async () => {
      const values = Float32Array.of(...special, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN)
      const half = ops.cast(Tensor.from(device(), values), Tensor.empty(device(), [values.length], 'bf16'))
      const bits = new Uint16Array((await half.readBytes()).buffer)
      expect([...bits.subarray(0, -1)]).toEqual([...values.subarray(0, -1)].map(bf16Bits))
      expect((await half.readFloats()).at(-1)).toBeNaN()
    })

    it('of equal dtypes is a copy', async () => {
      const values = new TestRandom(3).normals(77)
      for (const dtype of ['f32', 'bf16'] as const) {
        const from = Tensor.from(device(), values, [77], dtype)
        const copy = ops.cast(from, Tensor.empty(device(), [77], dtype))
        expect(await copy.readBytes()).toEqual(await from.readBytes())
      }
      const ids = Int32Array.of(1, -2, 2 ** 31 - 1)
      expect(await ops.cast(Tensor.from(device(), ids), Tensor.empty(device(), [3], 'i32')).read()).toEqual(ids)
    })

    it('names the op and what does not fit', async () => {
      const ids = Tensor.zeros(device(), [3], 'i32')
      const floats = Tensor.zeros(device(), [3], 'f32')
      await expectError(() => ops.cast(ids, floats), 'ERR_ALMA_SHAPE', /Cast: .*i32 to f32/)
      await expectError(() => ops.cast(floats, Tensor.zeros(device(), [2], 'f32')), 'ERR_ALMA_SHAPE', /Cast: out has 2/)
    })
  })
})
