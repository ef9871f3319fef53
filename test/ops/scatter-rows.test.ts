import { describe, expect, it } from 'vitest'
import { ops, Tensor } from '../../lib/runtime/index.js'
import { roundAllToBf16 } from '../support/bf16.js'
import { expectClose, expectError } from '../support/compare.js'
import { onEachDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'

onEachDevice((device) => {
  describe('scatterRows', () => {
    it.each([
      ['f32', 'f32'],
      ['bf16', 'bf16'],
      ['f32', 'bf16'],
      ['bf16', 'f32'],
    ] as const)('%s into %s: the named rows and no others', async (from, to) => {
      const [tableRows, cols] = [40, 17]
      const rows = Int32Array.of(39, 0, 7, 8, 20)
      const values = roundAllToBf16(new TestRandom(1).normals(rows.length * cols))
      const table = ops.fill(Tensor.empty(device(), [tableRows, cols], to), -5)
      ops.scatterRows(Tensor.from(device(), values, [rows.length, cols], from), Tensor.from(device(), rows), table)
      const expected = new Float32Array(tableRows * cols).fill(-5)
      rows.forEach((row, i) => {
        expected.set(values.subarray(i * cols, (i + 1) * cols), row * cols)
      })
      expectClose('table', await table.read(), expected, { maxAbs: 0 })
    })

    it('of no rows changes nothing', async () => {
      const table = Tensor.from(device(), [1, 2, 3, 4], [2, 2])
      ops.scatterRows(Tensor.empty(device(), [0, 2], 'f32'), Tensor.from(device(), new Int32Array()), table)
      expect([...(await table.read())]).toEqual([1, 2, 3, 4])
    })

    it('names the op and what does not fit', async () => {
      const table = Tensor.zeros(device(), [3, 2], 'f32')
      const input = Tensor.zeros(device(), [2, 2], 'f32')
      await expectError(
        () => ops.scatterRows(input, input.view([2]), table),
        'ERR_ALMA_SHAPE',
        /ScatterRows: rows is f32/,
      )
    })

    it.each([3, -1])('row %i of a table of 3: an error at the next read, and the device goes on', async (row) => {
      const table = Tensor.from(device(), [1, 2, 3], [3, 1])
      const input = Tensor.from(device(), [9], [1, 1])
      ops.scatterRows(input, Tensor.from(device(), Int32Array.of(row)), table)
      await expectError(() => table.read(), 'ERR_ALMA_DEVICE', /scatter_?rows/i)
      ops.scatterRows(input, Tensor.from(device(), Int32Array.of(1)), table)
      expect([...(await table.read())]).toEqual([1, 9, 3])
    })
  })
})
