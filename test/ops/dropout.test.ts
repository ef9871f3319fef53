import { describe, expect, it } from 'vitest'
import { ops, Tensor } from '../../lib/runtime/index.js'
import { expectClose, expectError } from '../support/compare.js'
import { itIsTheSameOnAnyThreads, onEachDevice } from '../support/devices.js'
import { philox } from '../support/philox.js'
import { TestRandom } from '../support/random.js'

function expectedDropout(x: ArrayLike<number>, probability: number, seed: number, step: number): Float64Array {
  const key = [seed >>> 0, Math.floor(seed / 2 ** 32)] as const
  const p = Math.fround(probability)
  return Float64Array.from(x, (value, i) => {
    const word = philox(key, [Math.floor(i / 4), 0, step >>> 0, 2])[i % 4] ?? 0
    return word >= Math.floor(p * 2 ** 32) ? value / (1 - p) : 0
  })
}

onEachDevice((device) => {
  describe('dropout', () => {
    it('has the values of known answers of Philox behind it', () => {
      // kat_vectors of the authors' Random123: philox4x32-10.
      expect(philox([0, 0], [0, 0, 0, 0])).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8])
    })

    it.each([
      [1, 0.5, 1, 1],
      [7, 0.05, 42, 3],
      [1000, 0.3, 2 ** 40 + 5, 70_000],
      [9001, 0.9, 3, -1],
      [16, 0, 1, 1],
    ])('of %i elements with probability %d, seed %i, step %i', async (count, probability, seed, at) => {
      const values = new TestRandom(count).normals(count)
      const x = Tensor.from(device(), values)
      const step = Tensor.from(device(), Int32Array.of(at))
      const expected = expectedDropout(values, probability, seed, at)
      expectClose('y', await ops.dropout(x, { probability, seed, step }).read(), expected, { relativeL2: 1e-6 })
      const out = Tensor.from(device(), new Float32Array(count).fill(2))
      ops.dropout(x, { probability, seed, step, accumulate: true, out })
      expectClose(
        'accumulated',
        await out.read(),
        expected.map((y) => y + 2),
        { relativeL2: 1e-6 },
      )
      ops.dropout(x, { probability, seed, step, out: x })
      expectClose('in place', await x.read(), expected, { relativeL2: 1e-6 })
    })

    it('drops NaN, works in bf16, and on nothing', async () => {
      const step = Tensor.from(device(), Int32Array.of(1))
      const x = Tensor.from(device(), new Float32Array(64).fill(Number.NaN), [64], 'bf16')
      const got = await ops.dropout(x, { probability: 0.5, seed: 1, step }).readFloats()
      const expected = expectedDropout(new Float32Array(64).fill(1), 0.5, 1, 1)
      expect([...got].map(Number.isNaN)).toEqual([...expected].map((y) => y !== 0))
      const none = Tensor.empty(device(), [0], 'f32')
      expect((await ops.dropout(none, { probability: 0.5, seed: 1, step }).read()).length).toBe(0)
    })

    it('refuses a probability of 1, and another dtype for the result', async () => {
      const step = Tensor.from(device(), Int32Array.of(1))
      const x = Tensor.zeros(device(), [4], 'f32')
      await expectError(
        () => ops.dropout(x, { probability: 1, seed: 1, step }),
        'ERR_ALMA_SHAPE',
        /probability is not from 0/,
      )
      const out = Tensor.zeros(device(), [4], 'bf16')
      await expectError(
        () => ops.dropout(x, { probability: 0.5, seed: 1, step, out }),
        'ERR_ALMA_SHAPE',
        /x and out differ/,
      )
    })
  })

  describe('scale', () => {
    it.each(['f32', 'bf16'] as const)('%s, also in place', async (dtype) => {
      const values = new TestRandom(3).integers(1001, 100).map((x) => x - 50)
      const x = Tensor.from(device(), Float32Array.from(values), [values.length], dtype)
      const expected = Array.from(values, (value) => value * -0.5)
      expect([...(await ops.scale(x, -0.5).readFloats())]).toEqual(expected.map((y) => (y === 0 ? -0 : y)))
      ops.scale(x, -0.5, x)
      expectClose('in place', await x.readFloats(), expected, { maxAbs: 0 })
    })
  })
})

itIsTheSameOnAnyThreads(async (device) => {
  const x = Tensor.from(device, new TestRandom(8).normals(40_001))
  const step = Tensor.from(device, Int32Array.of(9))
  return [await ops.dropout(x, { probability: 0.1, seed: 5, step }).readFloats()]
})
