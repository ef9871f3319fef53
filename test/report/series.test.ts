import { describe, expect, test } from 'vitest'
import { rangeOf, smoothed, thinned, ticks } from '../../lib/report/series.js'

const points = (...ys: number[]) => ys.map((y, x) => ({ x, y }))

describe('series', () => {
  test('ticks are round and enclose the values', () => {
    expect(ticks(0, 1, 5)).toEqual([0, 0.2, 0.4, 0.6, 0.8, 1])
    expect(ticks(2.31, 4.77, 5)).toEqual([2, 2.5, 3, 3.5, 4, 4.5, 5])
    expect(ticks(0, 2e-5, 4)).toEqual([0, 5e-6, 1e-5, 1.5e-5, 2e-5])
    expect(ticks(3, 3, 5).length).toBeGreaterThan(1)
    for (const value of ticks(0.1, 0.7, 6)) expect(String(value).length).toBeLessThan(5)
  })

  test('thinning keeps the end, the mean, and what is not finite only where nothing else is', () => {
    const thin = thinned(points(1, 3, 5, Number.NaN, Number.NaN, Number.NaN, 2, 4), 4)
    expect(thin.map(({ x }) => x)).toEqual([1, 3, 5, 7])
    expect(thin.map(({ y }) => y)).toEqual([2, 5, Number.NaN, 3])
    expect(thinned(points(1, 2), 4)).toEqual(points(1, 2))
  })

  test('smoothing is a mean to both sides that keeps the ends', () => {
    expect(smoothed(points(1, 2, 6, 4, 5), 3).map(({ y }) => y)).toEqual([1, 3, 4, 5, 5])
    expect(smoothed(points(1, Number.NaN, 3, 5, 7), 3).map(({ y }) => y)).toEqual([1, Number.NaN, 4, 5, 7])
  })

  test('a single spike does not flatten a curve; a steady rise is kept', () => {
    const calm = Array.from({ length: 100 }, (_, i) => 1 + (i % 7) / 10)
    const series = (ys: number[]) => [{ name: '', color: 0, points: points(...ys) }]
    expect(rangeOf(series([...calm, 900]))?.high).toBeLessThan(2)
    expect(rangeOf(series(calm.map((_, i) => i)))).toEqual({ low: 0, high: 99 })
    expect(rangeOf(series([Number.NaN]))).toBeUndefined()
  })
})
