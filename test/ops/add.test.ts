import { describe, expect, it } from 'vitest'
import { ops, Tensor } from '../../lib/runtime/index.js'
import { roundAllToBf16 } from '../support/bf16.js'
import { expectClose, expectError } from '../support/compare.js'
import { onEachDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'

onEachDevice((device) => {
  describe('add', () => {
    it.each([0, 1, 15, 17, 70_001])('%i elements, also in the place of either', async (count) => {
      const random = new TestRandom(count)
      for (const dtype of ['f32', 'bf16'] as const) {
        const round = (values: Float32Array): Float32Array => (dtype === 'bf16' ? roundAllToBf16(values) : values)
        const a = round(random.normals(count))
        const b = round(random.normals(count))
        const sum = round(a.map((x, i) => x + (b[i] ?? Number.NaN)))
        const from = (values: Float32Array): Tensor => Tensor.from(device(), values, [count], dtype)
        const [x, y] = [from(a), from(b)]
        expectClose('a + b', await ops.add(x, y).read(), sum, { maxAbs: 0 })
        expectClose('over a', await ops.add(from(a), y, x).read(), sum, { maxAbs: 0 })
        const again = from(a)
        expectClose('over b', await ops.add(again, y, y).read(), sum, { maxAbs: 0 })
        ops.add(again, again, again)
        expectClose(
          'a + a over a',
          await again.read(),
          a.map((value) => 2 * value),
          { maxAbs: 0 },
        )
      }
    })

    it('names the op and what does not fit', async () => {
      const four = Tensor.zeros(device(), [4], 'f32')
      await expectError(
        () => ops.add(four, Tensor.zeros(device(), [3], 'f32')),
        'ERR_ALMA_SHAPE',
        /Add: b has 3 elements/,
      )
      await expectError(
        () => ops.add(four, Tensor.zeros(device(), [4], 'bf16')),
        'ERR_ALMA_SHAPE',
        /Add: a and b differ/,
      )
      const ids = Tensor.zeros(device(), [4], 'i32')
      await expectError(() => ops.add(ids, ids), 'ERR_ALMA_SHAPE', /Add: a is i32, expected f32 or bf16/)
    })
  })
})

describe('tensors of two devices', () => {
  it('do not meet in an op', async () => {
    const { openDevice } = await import('../support/devices.js')
    const [first, second] = [openDevice(1), openDevice(1)]
    const call = (): Tensor => ops.add(Tensor.zeros(first, [4], 'f32'), Tensor.zeros(second, [4], 'f32'))
    await expectError(call, 'ERR_ALMA_SHAPE', /Add: b is on another device/)
    await Promise.all([first.dispose(), second.dispose()])
    expect(first.disposed).toBe(true)
  })
})
