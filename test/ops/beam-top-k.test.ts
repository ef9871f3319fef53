import { describe, expect, it } from 'vitest'
import { type Device, ops, Tensor } from '../../lib/runtime/index.js'
import { expectError } from '../support/compare.js'
import { emulated, itIsTheSameOnAnyThreads, onEachDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'

interface Candidate {
  readonly total: number
  readonly token: number
  readonly parent: number
}

interface Extents {
  readonly groups: number
  readonly beams: number
  readonly vocab: number
  readonly k: number
}

/** By a sort of all candidates. */
function reference(scores: Float32Array, beamScores: Float32Array, extents: Extents): Candidate[] {
  const { groups, beams, vocab, k } = extents
  return Array.from({ length: groups }, (_, group) => {
    const all: Candidate[] = []
    for (let parent = 0; parent < beams; parent++) {
      const row = group * beams + parent
      for (let token = 0; token < vocab; token++) {
        const sum = Math.fround((scores[row * vocab + token] ?? 0) + (beamScores[row] ?? 0))
        all.push({ total: Number.isNaN(sum) ? Number.NEGATIVE_INFINITY : sum, token, parent })
      }
    }
    const order = (a: Candidate, b: Candidate): number =>
      a.total === b.total ? a.token - b.token || a.parent - b.parent : b.total - a.total
    return all.sort(order).slice(0, k)
  }).flat()
}

async function candidates(
  device: Device,
  scores: Float32Array,
  beamScores: Float32Array,
  { groups, beams, vocab, k }: Extents,
  noise?: { streams: readonly number[]; positions: readonly number[]; seed: number },
): Promise<Candidate[]> {
  const x = Tensor.from(device, scores, [groups * beams, vocab])
  const ints = (values: readonly number[]): Tensor => Tensor.from(device, Int32Array.from(values))
  const { totals, tokens, parents } = ops.beamTopK(x, {
    beamScores: Tensor.from(device, beamScores),
    beams,
    k,
    ...(noise && { noise: { stream: ints(noise.streams), position: ints(noise.positions), seed: noise.seed } }),
  })
  const [t, ids, beam] = [await totals.readFloats(), await tokens.readInts(), await parents.readInts()]
  return [...t].map((total, i) => ({ total, token: ids[i] ?? -1, parent: beam[i] ?? -1 }))
}

onEachDevice((device) => {
  describe('beamTopK', () => {
    it.each<Extents>([
      { groups: 1, beams: 1, vocab: 1, k: 1 },
      { groups: 1, beams: 5, vocab: 32_000, k: 10 },
      { groups: 3, beams: 4, vocab: 64, k: 8 },
      { groups: 2, beams: 3, vocab: 5, k: 15 },
      { groups: 4, beams: 2, vocab: 1003, k: 200 },
    ])('takes the best: %o', async (extents) => {
      const { groups, beams, vocab } = extents
      const random = new TestRandom(vocab)
      const scores = random.normals(groups * beams * vocab, 3)
      const beamScores = random.normals(groups * beams, 2)
      const got = await candidates(device(), scores, beamScores, extents)
      expect(got).toEqual(reference(scores, beamScores, extents))
    })

    it('of equal totals the lower token comes first, then the lower beam; NaN and −∞ come last', async () => {
      const extents = { groups: 2, beams: 3, vocab: 40, k: 100 }
      const random = new TestRandom(3)
      const low = Number.NEGATIVE_INFINITY
      // Few different values: nearly everything is a tie.
      const scores = Float32Array.from(random.integers(240, 4), (value) => [low, Number.NaN, 1, 2][value] ?? 0)
      const beamScores = Float32Array.of(1, 0, 1, -1e9, 2, low)
      const got = await candidates(device(), scores, beamScores, extents)
      expect(got).toEqual(reference(scores, beamScores, extents))
    })

    it('of no groups is nothing, and names what does not fit', async () => {
      expect(
        await candidates(device(), new Float32Array(), new Float32Array(), { groups: 0, beams: 2, vocab: 9, k: 3 }),
      ).toEqual([])
      const x = Tensor.zeros(device(), [4, 3], 'f32')
      const beamScores = Tensor.zeros(device(), [4], 'f32')
      const call = (beams: number, k: number) => () => ops.beamTopK(x, { beamScores, beams, k })
      await expectError(call(3, 2), 'ERR_ALMA_SHAPE', /^beamTopK: 4 rows are not groups of 3/)
      await expectError(call(2, 7), 'ERR_ALMA_SHAPE', /BeamTopK: k is more than there are candidates/)
    })

    it('with noise draws without replacement, in proportion to what is left', async () => {
      const extents = { groups: emulated ? 1500 : 20_000, beams: 2, vocab: 3, k: 2 }
      const { groups } = extents
      const group = [0, Math.log(2), Number.NEGATIVE_INFINITY, 1, -1, 0]
      const scores = Float32Array.from({ length: groups * 6 }, (_, i) => group[i % 6] ?? 0)
      const beamScores = Float32Array.from({ length: groups * 2 }, (_, i) => (i % 2) - 1)
      const noise = { streams: [...Array(groups).keys()], positions: Array(groups).fill(7), seed: 1 }
      const got = await candidates(device(), scores, beamScores, extents, noise)
      const weights = group.map((score, i) => Math.exp(score + (i < 3 ? -1 : 0)))
      const total = weights.reduce((sum, w) => sum + w, 0)
      const expected = new Map<string, number>()
      for (const [i, first] of weights.entries()) {
        for (const [j, second] of weights.entries()) {
          if (i !== j && first * second > 0) expected.set(`${i} ${j}`, (first / total) * (second / (total - first)))
        }
      }
      const counts = new Map<string, number>()
      for (let g = 0; g < groups; g++) {
        const pair = got.slice(2 * g, 2 * g + 2)
        const key = pair.map(({ token, parent }) => parent * 3 + token).join(' ')
        counts.set(key, (counts.get(key) ?? 0) + 1)
        for (const { total: sum, token, parent } of pair) {
          expect(sum).toBe(Math.fround((scores[parent * 3 + token] ?? 0) + parent - 1))
        }
      }
      let chiSquare = 0
      for (const [key, p] of expected) chiSquare += ((counts.get(key) ?? 0) - groups * p) ** 2 / (groups * p)
      expect([...counts.keys()].filter((key) => !expected.has(key))).toEqual([])
      // Five standard deviations above the mean of a χ² distribution.
      expect(chiSquare).toBeLessThan(expected.size - 1 + 5 * Math.sqrt(2 * (expected.size - 1)) + 5)
    })

    it('draws a group by its seed, stream and position alone; what is impossible comes last', async () => {
      const extents = { groups: 3, beams: 2, vocab: 50, k: 10 }
      const random = new TestRandom(9)
      const one = random.normals(100)
      const scores = Float32Array.from([...one, ...one, ...one])
      const beamScores = new Float32Array(6)
      const draw = (streams: number[], positions: number[], seed = 5): Promise<Candidate[]> =>
        candidates(device(), scores, beamScores, extents, { streams, positions, seed })
      const all = await draw([1, 2, 1], [3, 3, 4])
      expect((await draw([4, 1, 2], [3, 3, 3])).slice(10)).toEqual(all.slice(0, 20))
      expect(all.slice(0, 10)).not.toEqual(all.slice(10, 20))
      expect(all.slice(0, 10)).not.toEqual(all.slice(20))
      expect(await draw([1, 2, 1], [3, 3, 4], 6)).not.toEqual(all)
      const low = Number.NEGATIVE_INFINITY
      const few = { groups: 1, beams: 2, vocab: 3, k: 4 }
      const noise = { streams: [0], positions: [0], seed: 1 }
      const got = await candidates(device(), Float32Array.of(low, 1, low, low, low, 1), new Float32Array(2), few, noise)
      expect(got.slice(2).map(({ token, parent }) => [token, parent])).toEqual([
        [0, 0],
        [0, 1],
      ])
    })
  })
})

itIsTheSameOnAnyThreads(async (device) => {
  const extents = { groups: 5, beams: 3, vocab: 2000, k: 6 }
  const random = new TestRandom(5)
  const [scores, beamScores] = [random.normals(15 * 2000), random.normals(15)]
  const noise = { streams: [1, 2, 3, 4, 5], positions: [1, 1, 1, 1, 1], seed: 3 }
  const numbers = [
    ...(await candidates(device, scores, beamScores, extents)),
    ...(await candidates(device, scores, beamScores, extents, noise)),
  ]
  return [Float32Array.from(numbers.flatMap(({ total, token, parent }) => [total, token, parent]))]
})
