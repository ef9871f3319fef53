import { describe, expect, it } from 'vitest'
import { type DType, ops, Tensor } from '../../lib/runtime/index.js'
import { expectError } from '../support/compare.js'
import { onEachDevice } from '../support/devices.js'

const counting = (count: number): Float32Array => Float32Array.from({ length: count }, (_, i) => i)

onEachDevice((device) => {
  describe('copyBlocks', () => {
    const pairsOf = (pairs: readonly (readonly [number, number])[]): Tensor =>
      Tensor.from(device(), Int32Array.from(pairs.flat()), [pairs.length, 2])

    it.each<DType>(['f32', 'bf16', 'i32'])('in every table, and nothing else changes: %s', async (dtype) => {
      const data = counting(2 * 5 * 6)
      const table = Tensor.from(device(), dtype === 'i32' ? Int32Array.from(data) : data, [2, 5, 3, 2], dtype)
      const pairs = pairsOf([
        [0, 4],
        [-1, 2],
        [0, 1],
      ])
      expect(ops.copyBlocks(table, pairs)).toBe(table)
      const expected = [...data]
      for (const group of [0, 30]) {
        for (const to of [1, 4]) {
          for (let i = 0; i < 6; i++) expected[group + to * 6 + i] = group + i
        }
      }
      expect([...(await table.read())]).toEqual(expected)
    })

    it('of no pairs, and of pairs that are all passed over, changes nothing', async () => {
      const table = Tensor.from(device(), counting(6), [1, 3, 2])
      ops.copyBlocks(table, pairsOf([]))
      ops.copyBlocks(table, pairsOf([[-1, 99]]))
      expect([...(await table.read())]).toEqual([...counting(6)])
    })

    it.each([
      [3, 0],
      [0, 3],
      [0, -1],
    ] as const)('block %i to %i of three: an error at the next read, and the device goes on', async (from, to) => {
      const table = Tensor.from(device(), counting(6), [1, 3, 2])
      ops.copyBlocks(table, pairsOf([[from, to]]))
      await expectError(() => table.read(), 'ERR_ALMA_DEVICE', /copy_?blocks: block/i)
      expect([...(await ops.copyBlocks(table, pairsOf([[2, 0]])).read())]).toEqual([4, 5, 2, 3, 4, 5])
    })
  })
})
