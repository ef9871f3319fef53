import { describe, expect, test } from 'vitest'
import { learningRateAt, warmupSteps } from '../../lib/train/schedule.js'

describe('learning rate', () => {
  test('rises linearly from 0 in the warm-up of every schedule', () => {
    for (const schedule of ['cosine', 'inverse_sqrt', 'linear', 'constant'] as const) {
      const options = { schedule, learningRate: 0.01, warmupSteps: 4, totalSteps: 20 }
      expect([0, 1, 2, 3, 4].map((step) => learningRateAt(step, options))).toEqual([0, 0.0025, 0.005, 0.0075, 0.01])
    }
  })

  test('cosine falls to half in the middle and to 0 at the end', () => {
    const options = { schedule: 'cosine', learningRate: 2e-5, warmupSteps: 10, totalSteps: 110 } as const
    expect(learningRateAt(60, options)).toBeCloseTo(1e-5, 12)
    expect(learningRateAt(110, options)).toBeCloseTo(0, 12)
    expect(learningRateAt(35, options)).toBeCloseTo(2e-5 * 0.5 * (1 + Math.cos(Math.PI / 4)), 12)
  })

  test('inverse square root has the warm-up as its timescale, and 10,000 steps without one', () => {
    const options = { schedule: 'inverse_sqrt', learningRate: 1, warmupSteps: 100, totalSteps: 1000 } as const
    expect(learningRateAt(400, options)).toBeCloseTo(0.5, 12)
    expect(learningRateAt(900, options)).toBeCloseTo(1 / 3, 12)
    expect(learningRateAt(30_000, { ...options, warmupSteps: 0 })).toBeCloseTo(0.5, 12)
  })

  test('linear falls to 0, constant stays', () => {
    const options = { learningRate: 1, warmupSteps: 0, totalSteps: 8 } as const
    expect(learningRateAt(6, { ...options, schedule: 'linear' })).toBe(0.25)
    expect(learningRateAt(7, { ...options, schedule: 'constant' })).toBe(1)
  })

  test('the warm-up is rounded up to whole steps', () => {
    expect(warmupSteps(459, 0.01)).toBe(5)
    expect(warmupSteps(100, 0.01)).toBe(1)
    expect(warmupSteps(100, 0)).toBe(0)
  })
})
