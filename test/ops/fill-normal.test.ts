import { describe, expect, it } from 'vitest'
import { ops, Tensor } from '../../lib/runtime/index.js'
import { roundAllToBf16 } from '../support/bf16.js'
import { expectClose } from '../support/compare.js'
import { itIsTheSameOnAnyThreads, onEachDevice, openDevice } from '../support/devices.js'

onEachDevice((device) => {
  const draw = (count: number, seed: number, first = 0, deviation = 1): Promise<Float32Array> =>
    ops.fillNormal(Tensor.empty(device(), [count], 'f32'), deviation, seed, first).readFloats()

  describe('fillNormal', () => {
    it('has the moments and the tails of a normal distribution', async () => {
      const count = 200_000
      const values = await draw(count, 1, 0, 2)
      const moment = (power: number): number => values.reduce((sum, x) => sum + (x / 2) ** power, 0) / count
      // Standard errors: 0.0022, 0.0032, 0.0087 and 0.022; five of them are allowed.
      expect(Math.abs(moment(1))).toBeLessThan(0.011)
      expect(Math.abs(moment(2) - 1)).toBeLessThan(0.016)
      expect(Math.abs(moment(3))).toBeLessThan(0.044)
      expect(Math.abs(moment(4) - 3)).toBeLessThan(0.11)
      const beyond = (limit: number): number => values.filter((x) => Math.abs(x / 2) > limit).length / count
      expect(beyond(1)).toBeCloseTo(0.3173, 2)
      expect(beyond(3)).toBeCloseTo(0.0027, 3)
      expect(values.every(Number.isFinite)).toBe(true)
    })

    it('has no correlation between neighbours', async () => {
      const values = await draw(100_000, 2)
      for (const lag of [1, 2, 3, 4, 8]) {
        let sum = 0
        for (let i = lag; i < values.length; i++) sum += (values[i] ?? 0) * (values[i - lag] ?? 0)
        expect(Math.abs(sum / values.length), `lag ${lag}`).toBeLessThan(0.016)
      }
    })

    it('is a function of the seed and the index alone', async () => {
      const whole = await draw(1000, 42)
      for (const [first, count] of [
        [0, 1],
        [1, 10],
        [3, 500],
        [997, 3],
      ] as const) {
        expectClose(`from ${first}`, await draw(count, 42, first), whole.slice(first, first + count), { maxAbs: 0 })
      }
      expect([...(await draw(1000, 43))]).not.toEqual([...whole])
    })

    it('uses all 53 bits of the seed', async () => {
      const seeds = [0, 1, 2 ** 32, 2 ** 32 + 1, 2 ** 53 - 1]
      const firsts = await Promise.all(seeds.map(async (seed) => (await draw(4, seed)).join(' ')))
      expect(new Set(firsts).size).toBe(seeds.length)
    })

    it('scales by the standard deviation and rounds to bf16', async () => {
      const wide = await draw(1001, 5, 0, 0.02)
      const half = ops.fillNormal(Tensor.empty(device(), [1001], 'bf16'), 0.02, 5)
      expectClose('bf16', await half.readFloats(), roundAllToBf16(wide), { relativeL2: 1e-4 })
      const unit = await draw(1001, 5)
      expectClose(
        'scaled',
        wide,
        unit.map((x) => x * 0.02),
        { relativeL2: 1e-6 },
      )
    })

    it('is the same on every instruction set, to rounding', async () => {
      const portable = openDevice(1, device().name === 'cpu' ? 'portable' : undefined)
      try {
        const reference = ops.fillNormal(Tensor.empty(portable, [5000], 'f32'), 1, 9)
        expectClose('values', await draw(5000, 9), await reference.readFloats(), { maxAbs: 1e-5 })
      } finally {
        await portable.dispose()
      }
    })

    it('of nothing is nothing', async () => {
      expect((await draw(0, 1)).length).toBe(0)
    })
  })
})

itIsTheSameOnAnyThreads(async (device) => {
  return [await ops.fillNormal(Tensor.empty(device, [50_001], 'f32'), 1, 3).readFloats()]
})
