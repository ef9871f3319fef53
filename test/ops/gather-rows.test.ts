import { describe, expect, it } from 'vitest'
import { ops, Tensor } from '../../lib/runtime/index.js'
import { roundAllToBf16 } from '../support/bf16.js'
import { expectClose, expectError } from '../support/compare.js'
import { onEachDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'

const pick = (table: Float32Array, rows: ArrayLike<number>, cols: number): Float32Array =>
  Float32Array.from(
    { length: rows.length * cols },
    (_, i) => table[(rows[Math.floor(i / cols)] ?? 0) * cols + (i % cols)] ?? 0,
  )

onEachDevice((device) => {
  describe('gatherRows', () => {
    it.each([
      [1, 1, 1],
      [10, 7, 4],
      [100, 65, 33],
      [3, 2, 0],
      [512, 128, 300],
    ])('table of %i × %i, %i rows', async (tableRows, cols, count) => {
      const random = new TestRandom(tableRows)
      const table = roundAllToBf16(random.normals(tableRows * cols))
      const rows = random.integers(count, tableRows)
      for (const [from, to] of [
        ['f32', 'f32'],
        ['bf16', 'bf16'],
        ['bf16', 'f32'],
        ['f32', 'bf16'],
      ] as const) {
        const out = Tensor.empty(device(), [count, cols], to)
        ops.gatherRows(Tensor.from(device(), table, [tableRows, cols], from), Tensor.from(device(), rows), out)
        expectClose(`${from} to ${to}`, await out.read(), pick(table, rows, cols), { maxAbs: 0 })
      }
    })

    it('takes the same row twice, and integers', async () => {
      const table = Tensor.from(device(), Int32Array.of(1, 2, 3, 4, 5, 6), [3, 2])
      const out = ops.gatherRows(table, Tensor.from(device(), Int32Array.of(2, 0, 2)))
      expect(out.shape).toEqual([3, 2])
      expect([...(await out.read())]).toEqual([5, 6, 1, 2, 5, 6])
    })

    it('names the op and what does not fit', async () => {
      const table = Tensor.zeros(device(), [3, 2], 'f32')
      const rows = Tensor.from(device(), Int32Array.of(0, 1))
      const out = Tensor.zeros(device(), [3], 'f32')
      await expectError(
        () => ops.gatherRows(table, rows, out),
        'ERR_ALMA_SHAPE',
        /GatherRows: out has 3 elements, 4 are/,
      )
      await expectError(() => ops.gatherRows(table, table), 'ERR_ALMA_SHAPE', /GatherRows: rows is f32, expected i32/)
    })

    it.each([3, -1])('row %i of a table of 3: an error at the next read, and the device goes on', async (row) => {
      const table = Tensor.from(device(), [1, 2, 3], [3, 1])
      const out = ops.gatherRows(table, Tensor.from(device(), Int32Array.of(0, row)))
      await expectError(() => out.read(), 'ERR_ALMA_DEVICE', /gather_?rows/i)
      const again = ops.gatherRows(table, Tensor.from(device(), Int32Array.of(2)))
      expect([...(await again.read())]).toEqual([3])
    })
  })
})
