/** p-values, intervals and signatures of sacreBLEU for the systems of every file in the folder. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { BleuMetric, ChrfMetric, compareSystems, confidence, TerMetric } from '../../lib/metrics/index.js'
import { NumpyRandom } from '../../lib/metrics/numpy-random.js'

interface Recorded {
  references: string[][]
  systems: { name: string; hypotheses: string[] }[]
  tests: {
    test: 'bs' | 'ar'
    samples: number
    metric: string
    signature: string
    systems: { score: number; p: number | null; mean: number | null; ci: number | null }[]
  }[]
}

const folder = join(import.meta.dirname, '..', 'fixtures', 'significance')
const metricsByName = { BLEU: BleuMetric, chrF2: ChrfMetric, TER: TerMetric }

describe.each(readdirSync(folder))('%s', (file) => {
  const { references, systems, tests } = JSON.parse(readFileSync(join(folder, file), 'utf8')) as Recorded
  it.each(tests)('$metric, $test of $samples', async ({ test, samples, metric, signature, systems: expected }) => {
    const Metric = metricsByName[metric as keyof typeof metricsByName]
    const [comparison] = await compareSystems(systems, references, {
      test: test === 'bs' ? 'bootstrap' : 'randomization',
      samples,
      metrics: [new Metric()],
    })
    expect(comparison?.signature).toBe(signature)
    expect(comparison?.metric).toBe(metric)
    expect(comparison?.systems.map(({ name }) => name)).toEqual(systems.map(({ name }) => name))
    for (const [i, { score, p, mean, ci }] of expected.entries()) {
      const got = comparison?.systems[i]
      expect(got?.score).toBeCloseTo(score, 9)
      expect(got?.pValue ?? null).toBe(p)
      // sacreBLEU resamples in single precision.
      if (mean === null || ci === null) expect(got?.interval).toBeUndefined()
      else {
        expect(got?.interval?.mean).toBeCloseTo(mean, 3)
        expect(got?.interval?.margin).toBeCloseTo(ci, 3)
      }
    }
  })

  it('gives one system its interval alone', async () => {
    const [first] = systems
    const recorded = tests.find(({ test, metric }) => test === 'bs' && metric === 'BLEU')
    const [result] = await confidence(first?.hypotheses ?? [], references, {
      samples: recorded?.samples ?? 0,
      metrics: [new BleuMetric()],
    })
    expect(result?.interval.mean).toBeCloseTo(recorded?.systems[0]?.mean ?? Number.NaN, 3)
    expect(result?.signature).toBe(recorded?.signature)
  })
})

describe('compareSystems', () => {
  const systems = [
    { name: 'a', hypotheses: ['one two', 'three'] },
    { name: 'b', hypotheses: ['one', 'three'] },
  ]
  const references = ['one two', 'three']

  it('refuses what cannot be compared, naming it', async () => {
    await expect(compareSystems(systems.slice(1), references)).rejects.toThrow(/two systems or more, not 1/)
    const short = { name: 'short', hypotheses: ['one'] }
    await expect(compareSystems([...systems, short], references)).rejects.toThrow(
      /short: reference stream 0 has 2 lines, but there are 1 hypotheses/,
    )
    await expect(compareSystems(systems, references, { test: 'sign' as 'bootstrap' })).rejects.toMatchObject({
      code: 'ERR_ALMA_OPTION',
    })
    await expect(compareSystems(systems, references, { samples: 0 })).rejects.toThrow(/samples/)
    await expect(compareSystems(systems, references, { seed: -1 })).rejects.toThrow(/seed/)
  })

  it('can be aborted', async () => {
    const controller = new AbortController()
    const running = compareSystems(systems, references, { samples: 1e7, signal: controller.signal })
    controller.abort(new Error('enough'))
    await expect(running).rejects.toThrow('enough')
  })
})

describe('NumpyRandom', () => {
  // NumPy: default_rng(seed).choice(150, 6), then integers(2, size=40, dtype=bool) and choice(3000000000, 4)
  it.each([
    [0, [127, 95, 76, 40, 46, 6]],
    [12345, [104, 34, 118, 47, 30, 119]],
    [2 ** 40 + 7, [30, 124, 91, 38, 2, 23]],
  ])('gives the numbers of seed %i', (seed, integers) => {
    const out = new Uint32Array(6)
    new NumpyRandom(seed).fillBelow(150, out)
    expect([...out]).toEqual(integers)
  })

  it('gives booleans bit by bit, and large integers, after other draws', () => {
    const random = new NumpyRandom(12345)
    random.fillBelow(150, new Uint32Array(12))
    const next = random.booleans()
    const bits = Array.from({ length: 40 }, () => (next() ? 1 : 0)).join('')
    expect(bits).toBe('1011100110100111111000101000100110001100')
    const large = new Uint32Array(4)
    random.fillBelow(3_000_000_000, large)
    expect([...large]).toEqual([639429039, 560202556, 687406213, 2018268131])
  })
})
