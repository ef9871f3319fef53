import { describe, expect, it } from 'vitest'
import { ops, Tensor } from '../../lib/runtime/index.js'
import { expectClose, expectError } from '../support/compare.js'
import { itIsTheSameOnAnyThreads, onEachDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'

const low = Number.NEGATIVE_INFINITY

function reference(row: Float32Array, options: ops.WarpScoresOptions): Float64Array {
  const { temperature = 1, topP = 1, topK = 0, keep = 1 } = options
  const scaled = Float64Array.from(row, (x) => (Number.isNaN(x) ? low : x / temperature))
  const order = [...scaled.keys()].sort((a, b) => (scaled[b] ?? 0) - (scaled[a] ?? 0) || a - b)
  const at = (rank: number): number => scaled[order[rank] ?? 0] ?? low
  const kth = topK > 0 ? at(Math.min(Math.max(topK, keep), row.length) - 1) : low
  const left = scaled.map((x) => (x < kth ? low : x))
  const highest = at(0)
  const total = left.reduce((sum, x) => sum + Math.exp(x - highest), 0)
  const kept = new Float64Array(row.length).fill(low)
  let above = 0
  for (const [rank, id] of order.entries()) {
    if (topP < 1 && above >= topP && rank >= keep) break
    kept[id] = left[id] ?? low
    above += Math.exp((left[id] ?? low) - highest) / total
  }
  return kept
}

onEachDevice((device) => {
  describe('warpScores', () => {
    it.each<ops.WarpScoresOptions>([
      {},
      { temperature: 0.7 },
      { topK: 3 },
      { topK: 1, keep: 2 },
      { topK: 500 },
      { topP: 0.5 },
      { topP: 0.001 },
      { topP: 0.001, keep: 2 },
      { topP: 0.3, keep: 7 },
      { topK: 20, topP: 0.9, temperature: 1.7, keep: 2 },
    ])('%o', async (options) => {
      const vocab = 301
      const rows = new TestRandom(4).normals(3 * vocab, 2)
      rows[5] = Number.NaN
      rows[vocab + 7] = low
      const x = Tensor.from(device(), rows, [3, vocab])
      const got = await ops.warpScores(x, options).readFloats()
      for (let row = 0; row < 3; row++) {
        const expected = reference(rows.subarray(row * vocab, (row + 1) * vocab), options)
        expectClose(`row ${row}`, got.subarray(row * vocab, (row + 1) * vocab), expected, { maxAbs: 1e-5 })
      }
    })

    it('keeps what ties with the k-th; in the nucleus the lower of equal tokens', async () => {
      const tied = Float32Array.of(1, 2, 2, 2, 0)
      const topK = await ops.warpScores(Tensor.from(device(), tied, [1, 5]), { topK: 2 }).read()
      expect([...topK]).toEqual([low, 2, 2, 2, low])
      const topP = await ops.warpScores(Tensor.from(device(), tied, [1, 5]), { topP: 0.5 }).read()
      expect([...topP]).toEqual([low, 2, 2, low, low])
    })

    it('leaves a row without hope as it is, and names what does not fit', async () => {
      const none = Tensor.from(device(), Float32Array.of(low, Number.NaN), [1, 2])
      expect([...(await ops.warpScores(none, { topP: 0.5, topK: 1 }).read())]).toEqual([low, low])
      const narrow = Tensor.zeros(device(), [1, 4], 'bf16')
      await expectError(() => ops.warpScores(narrow, {}), 'ERR_ALMA_SHAPE', /WarpScores: scores is bf16/)
      const x = Tensor.zeros(device(), [1, 4], 'f32')
      const cold = (): Tensor => ops.warpScores(x, { temperature: 0 })
      await expectError(cold, 'ERR_ALMA_SHAPE', /WarpScores: temperature is not above 0/)
    })
  })
})

itIsTheSameOnAnyThreads(async (device) => {
  const x = Tensor.from(device, new TestRandom(5).normals(9 * 700), [9, 700])
  return [await ops.warpScores(x, { temperature: 0.8, topK: 50, topP: 0.9, keep: 2 }).readFloats()]
})
