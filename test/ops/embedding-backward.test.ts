import { describe, expect, it } from 'vitest'
import { ops, Tensor } from '../../lib/runtime/index.js'
import { roundAllToBf16 } from '../support/bf16.js'
import { expectClose, expectError } from '../support/compare.js'
import { itIsTheSameOnAnyThreads, onEachDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'

onEachDevice((device) => {
  describe('embeddingBackward', () => {
    it.each([
      [1, 1, 1],
      [5, 7, 40],
      [100, 65, 33],
      [3, 2, 0],
      [32_000, 4, 50],
    ])('table of %i × %i, %i ids, with repetitions', async (tableRows, cols, count) => {
      const random = new TestRandom(tableRows)
      const before = random.normals(tableRows * cols)
      const ids = random.integers(count, Math.min(tableRows, 20))
      for (const dtype of ['f32', 'bf16'] as const) {
        const wide = random.normals(count * cols)
        const dout = dtype === 'bf16' ? roundAllToBf16(wide) : wide
        const expected = Float64Array.from(before)
        dout.forEach((value, i) => {
          const target = (ids[Math.floor(i / cols)] ?? 0) * cols + (i % cols)
          expected[target] = (expected[target] ?? 0) + value
        })
        const dtable = Tensor.from(device(), before, [tableRows, cols])
        ops.embeddingBackward(Tensor.from(device(), dout, [count, cols], dtype), Tensor.from(device(), ids), dtable)
        expectClose(dtype, await dtable.read(), expected, { relativeL2: 1e-6 })
      }
    })

    it('names the op and what does not fit', async () => {
      const ids = Tensor.from(device(), Int32Array.of(0, 1))
      const dout = Tensor.zeros(device(), [2, 3], 'f32')
      const half = Tensor.zeros(device(), [4, 3], 'bf16')
      await expectError(
        () => ops.embeddingBackward(dout, ids, half),
        'ERR_ALMA_SHAPE',
        /EmbeddingBackward: dtable is bf16/,
      )
      const short = Tensor.zeros(device(), [5], 'f32')
      const dtable = Tensor.zeros(device(), [4, 3], 'f32')
      await expectError(() => ops.embeddingBackward(short, ids, dtable), 'ERR_ALMA_SHAPE', /dout has 5 elements, 6 are/)
    })

    it.each([4, -1])('id %i of a table of 4: an error at the next read, and the device goes on', async (id) => {
      const dtable = Tensor.zeros(device(), [4, 1], 'f32')
      const dout = Tensor.from(device(), [1, 2], [2, 1])
      ops.embeddingBackward(dout, Tensor.from(device(), Int32Array.of(id, 0)), dtable)
      await expectError(() => dtable.read(), 'ERR_ALMA_DEVICE', /embedding_?backward/i)
      const fresh = Tensor.zeros(device(), [4, 1], 'f32')
      ops.embeddingBackward(dout, Tensor.from(device(), Int32Array.of(3, 3)), fresh)
      expect([...(await fresh.read())]).toEqual([0, 0, 0, 3])
    })
  })
})

itIsTheSameOnAnyThreads(async (device) => {
  const random = new TestRandom(4)
  const dtable = Tensor.zeros(device, [50, 33], 'f32')
  ops.embeddingBackward(
    Tensor.from(device, random.normals(400 * 33), [400, 33]),
    Tensor.from(device, random.integers(400, 50)),
    dtable,
  )
  return [await dtable.readFloats()]
})
