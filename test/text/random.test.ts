import { describe, expect, it } from 'vitest'
import { interleave } from '../../lib/text/interleave.js'
import { Random } from '../../lib/text/random.js'
import { shuffled } from '../../lib/text/shuffle.js'

async function* items<T>(list: readonly T[]): AsyncGenerator<T> {
  yield* list
}

async function collect<T>(source: AsyncIterable<T>, limit = Number.POSITIVE_INFINITY): Promise<T[]> {
  const list: T[] = []
  for await (const item of source) {
    list.push(item)
    if (list.length >= limit) break
  }
  return list
}

describe('Random', () => {
  it("gives the first numbers of the authors' xoshiro128** for the state 1, 2, 3, 4", () => {
    const random = Random.fromState([1, 2, 3, 4])
    const expected = [
      11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849, 3729100597, 4258142804,
    ]
    expect(expected.map(() => random.uint32())).toEqual(expected)
  })

  it('is the same for the same seed, and goes on from a saved state', () => {
    const a = new Random(42)
    const b = new Random(42)
    const draw = (r: Random): number[] => Array.from({ length: 5 }, () => r.float())
    expect(draw(a)).toEqual(draw(b))
    const saved = JSON.parse(JSON.stringify(a.state()))
    expect(draw(Random.fromState(saved))).toEqual(draw(a))
    expect(draw(new Random(43))).not.toEqual(draw(new Random(42)))
  })

  it('is uniform', () => {
    const random = new Random(7)
    const counts = [0, 0, 0, 0, 0, 0]
    for (let i = 0; i < 60_000; i++) {
      const face = random.below(6)
      counts[face] = (counts[face] ?? 0) + 1
    }
    // Standard deviation of a count: 91.
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(500)
    expect(random.below(1)).toBe(0)
    expect(() => random.below(0)).toThrow(expect.objectContaining({ code: 'ERR_ALMA_OPTION' }))
    expect(() => new Random(0.5)).toThrow(expect.objectContaining({ code: 'ERR_ALMA_OPTION' }))
    expect(() => Random.fromState([0, 0, 0, 0])).toThrow(expect.objectContaining({ code: 'ERR_ALMA_OPTION' }))
  })
})

describe('shuffled', () => {
  const list = Array.from({ length: 100 }, (_, i) => i)
  const shuffle = (bufferSize: number, seed: number, skip?: number): Promise<number[]> =>
    collect(shuffled(() => items(list), { bufferSize, seed, ...(skip === undefined ? {} : { skip }) }))

  it.each([1, 7, 99, 100, 1000])('has every item once with a buffer of %i', async (bufferSize) => {
    const out = await shuffle(bufferSize, 42)
    expect(out.toSorted((a, b) => a - b)).toEqual(list)
    if (bufferSize === 1) expect(out).toEqual(list)
    else expect(out).not.toEqual(list)
  })

  it('never holds an item back for less than the buffer allows', async () => {
    const out = await shuffle(10, 1)
    for (const [at, item] of out.entries()) expect(item - at).toBeLessThan(10)
  })

  it('depends on the seed only', async () => {
    expect(await shuffle(20, 1)).toEqual(await shuffle(20, 1))
    expect(await shuffle(20, 1)).not.toEqual(await shuffle(20, 2))
  })

  it('goes on where an earlier run stopped', async () => {
    const whole = await shuffle(20, 5)
    for (const done of [0, 1, 50, 85, 99, 100, 200]) expect(await shuffle(20, 5, done)).toEqual(whole.slice(done))
  })

  it('refuses a buffer of nothing', async () => {
    await expect(shuffle(0, 1)).rejects.toMatchObject({ code: 'ERR_ALMA_OPTION' })
  })
})

describe('interleave', () => {
  const named = (name: string, count: number) => (pass: number) =>
    items(Array.from({ length: count }, (_, i) => `${name}${pass}.${i}`))
  const sources = [named('a', 30), named('b', 5), named('c', 60)]
  const options = { probabilities: [0.3, 0.1, 0.6], seed: 42 }

  it('mixes by probability', async () => {
    const mixed = await collect(
      interleave([named('a', 1e5), named('b', 1e5)], { probabilities: [3, 1], seed: 1 }),
      20_000,
    )
    const share = mixed.filter(({ source }) => source === 0).length / mixed.length
    expect(Math.abs(share - 0.75)).toBeLessThan(0.02)
  })

  it('ends when every source has ended, in order within each, beginning again those that end early', async () => {
    const mixed = await collect(interleave(sources, options))
    for (const [source, count] of [30, 5, 60].entries()) {
      const own = mixed.filter((item) => item.source === source).map(({ item }) => item)
      expect(own.length).toBeGreaterThanOrEqual(count)
      const name = 'abc'[source] ?? ''
      expect(own).toEqual(own.map((_, i) => `${name}${Math.floor(i / count)}.${i % count}`))
    }
  })

  it('goes on from a state saved after any item', async () => {
    const whole = await collect(interleave(sources, options))
    for (const done of [0, 1, 17, whole.length - 1, whole.length]) {
      const first = interleave(sources, options)
      const iterator = first[Symbol.asyncIterator]()
      for (let i = 0; i < done; i++) await iterator.next()
      const state = JSON.parse(JSON.stringify(first.state()))
      expect(await collect(interleave(sources, { ...options, state }))).toEqual(whole.slice(done))
    }
  })

  it('names what is wrong', async () => {
    await expect(collect(interleave([named('a', 0)], { seed: 1 }))).resolves.toEqual([])
    await expect(collect(interleave([named('a', 0), named('b', 1e9)], { seed: 1 }))).rejects.toThrow(
      /source 0 has no items/,
    )
    for (const probabilities of [[1], [1, 0], [1, -1], [1, Number.NaN]])
      expect(() => interleave([named('a', 1), named('b', 1)], { seed: 1, probabilities })).toThrow(/probabilities/)
    expect(() => interleave([], { seed: 1 })).toThrow(/at least one/)
  })
})
