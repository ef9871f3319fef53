import { describe, expect, it } from 'vitest'
import { type Device, ops, Tensor } from '../../lib/runtime/index.js'
import { expectClose, expectError } from '../support/compare.js'
import { emulated, itIsTheSameOnAnyThreads, onEachDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'
import { softmax } from '../support/reference.js'

type Settings = Partial<Pick<ops.SampleOptions, 'temperature' | 'topP' | 'topK' | 'seed'>>

/** `rows` draws from one distribution: streams 0, 1, 2, …, all at the same position. */
async function draws(device: Device, logits: Float32Array, rows: number, settings: Settings): Promise<Int32Array> {
  const vocab = logits.length
  const all = new Float32Array(rows * vocab)
  for (let r = 0; r < rows; r++) all.set(logits, r * vocab)
  const stream = Tensor.from(
    device,
    Int32Array.from({ length: rows }, (_, r) => r),
  )
  const position = Tensor.zeros(device, [rows], 'i32')
  using x = Tensor.from(device, all, [rows, vocab])
  return ops.sample(x, { stream, position, seed: 1, ...settings }).readInts()
}

/** What top-k and then top-p leave, renormalised. */
function allowed(logits: Float32Array, { temperature = 1, topK = 0, topP = 1 }: Settings): Float64Array {
  const scaled = Float64Array.from(logits, (x) => x / temperature)
  const order = [...scaled.keys()].sort((a, b) => (scaled[b] ?? 0) - (scaled[a] ?? 0) || a - b)
  const kth = topK > 0 && topK < order.length ? (scaled[order[topK - 1] ?? 0] ?? 0) : Number.NEGATIVE_INFINITY
  const { probabilities } = softmax(scaled.map((x) => (x < kth ? Number.NEGATIVE_INFINITY : x)))
  let cumulative = 0
  const kept = new Float64Array(logits.length)
  for (const id of order) {
    if (cumulative >= topP && cumulative > 0) break
    kept[id] = probabilities[id] ?? 0
    cumulative += kept[id] ?? 0
  }
  const total = kept.reduce((sum, p) => sum + p, 0)
  return kept.map((p) => p / total)
}

onEachDevice((device) => {
  describe('sample', () => {
    it.each<[string, Settings]>([
      ['plain', {}],
      ['cold', { temperature: 0.5 }],
      ['hot', { temperature: 3 }],
      ['top-k 1', { topK: 1 }],
      ['top-k 4', { topK: 4 }],
      ['top-k of the whole vocabulary', { topK: 24 }],
      ['top-p 0.5', { topP: 0.5 }],
      ['top-p of almost nothing', { topP: 1e-6 }],
      ['top-k 6 and top-p 0.8 when hot', { topK: 6, topP: 0.8, temperature: 1.5 }],
    ])('%s: frequencies follow the distribution, and nothing else is drawn', async (_name, settings) => {
      const logits = new TestRandom(11).normals(24, 1.5)
      const rows = emulated ? 1000 : 20_000
      const expected = allowed(logits, settings)
      const counts = new Float64Array(24)
      for (const id of await draws(device(), logits, rows, settings)) counts[id] = (counts[id] ?? 0) + 1
      let chiSquare = 0
      let degrees = -1
      expected.forEach((p, id) => {
        const count = counts[id] ?? 0
        if (p === 0) expect(count, `id ${id} is not allowed`).toBe(0)
        else {
          degrees++
          chiSquare += (count - rows * p) ** 2 / (rows * p)
        }
      })
      // Five standard deviations above the mean of a χ² distribution.
      expect(chiSquare).toBeLessThan(Math.max(0.5, degrees + 5 * Math.sqrt(2 * Math.max(degrees, 0)) + 5))
    })

    it('draws a row by its seed, stream and position alone, not by the batch around it', async () => {
      const vocab = 300
      const random = new TestRandom(2)
      const logits = random.normals(9 * vocab)
      const streams = random.integers(9, 1000)
      const positions = random.integers(9, 1000)
      const run = async (rows: readonly number[], seed = 77): Promise<number[]> => {
        const pick = (values: Int32Array): Tensor =>
          Tensor.from(
            device(),
            Int32Array.from(rows, (r) => values[r] ?? 0),
          )
        const some = Float32Array.from(rows.flatMap((r) => [...logits.subarray(r * vocab, (r + 1) * vocab)]))
        const x = Tensor.from(device(), some, [rows.length, vocab])
        return [...(await ops.sample(x, { stream: pick(streams), position: pick(positions), seed }).read())]
      }
      const all = await run([0, 1, 2, 3, 4, 5, 6, 7, 8])
      expect(await run([7, 2, 5])).toEqual([all[7], all[2], all[5]])
      expect(await run([0, 1, 2, 3, 4, 5, 6, 7, 8])).toEqual(all)
      expect(await run([0, 1, 2, 3, 4, 5, 6, 7, 8], 78)).not.toEqual(all)
    })

    it('gives the log-probability under the unmodified logits', async () => {
      const logits = new TestRandom(3).normals(30, 2)
      const logprob = Tensor.empty(device(), [1], 'f32')
      const zero = Tensor.zeros(device(), [1], 'i32')
      const x = Tensor.from(device(), logits, [1, 30])
      const [id = -1] = await ops
        .sample(x, { stream: zero, position: zero, seed: 4, temperature: 0.3, topK: 5, topP: 0.9, logprob })
        .readInts()
      expectClose('logprob', await logprob.read(), [(logits[id] ?? Number.NaN) - softmax(logits).logSumExp], {
        maxAbs: 1e-5,
      })
    })

    it('keeps ties of the k-th value, and never draws a banned id', async () => {
      const tied = Float32Array.of(5, 5, 5, 5, Number.NEGATIVE_INFINITY, -40)
      expect(new Set(await draws(device(), tied, 500, { topK: 2 }))).toEqual(new Set([0, 1, 2, 3]))
      const banned = Float32Array.of(Number.NEGATIVE_INFINITY, 0, Number.NEGATIVE_INFINITY, 0)
      expect(new Set(await draws(device(), banned, 500, {}))).toEqual(new Set([1, 3]))
    })

    it('names the op and what does not fit', async () => {
      const x = Tensor.zeros(device(), [2, 4], 'f32')
      const two = Tensor.zeros(device(), [2], 'i32')
      const one = Tensor.zeros(device(), [1], 'i32')
      const call = (): Tensor => ops.sample(x, { stream: one, position: two, seed: 1 })
      await expectError(call, 'ERR_ALMA_SHAPE', /Sample: stream has 1 elements, 2 are needed/)
    })
  })
})

itIsTheSameOnAnyThreads(async (device) => {
  return [await draws(device, new TestRandom(5).normals(500), 64, { topP: 0.9, topK: 50 })]
})
