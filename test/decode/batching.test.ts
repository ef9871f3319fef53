/** What is decoded together does not show in the results, to the bit; and memory is shared, and given back. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DecodingScheduler, type GenerateCall, generateTokens, resolveDecoding } from '../../lib/decode/index.js'
import { Alma, type GenerateOptions, type Generation } from '../../lib/index.js'
import { KeyValueCache } from '../../lib/model/index.js'
import { type Device, Tensor } from '../../lib/runtime/index.js'
import { openDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'

// Of a width that no vector divides, with eight query heads to a key head: no path of a kernel is the only one.
const config = {
  vocabSize: 211,
  hiddenSize: 72,
  intermediateSize: 180,
  numHiddenLayers: 2,
  numAttentionHeads: 8,
  numKeyValueHeads: 1,
  headDim: 18,
  maxPositionEmbeddings: 1024,
  initializerRange: 0.3,
  eosTokenId: [5, 9, 30],
}

const random = new TestRandom(2)
const idsOf = (length: number): number[] => [...random.integers(length, config.vocabSize - 40)].map((id) => id + 40)
const instruction = idsOf(53)
const prompts = [3, 1, 60, 17, 33, 16, 15, 8, 40, 5, 29, 2].map((length, i) =>
  i % 3 === 0 ? idsOf(length) : [...instruction, ...idsOf(length)],
)

const kinds: [string, GenerateOptions][] = [
  ['greedy', {}],
  ['greedy with processors', { repetitionPenalty: 1.2, noRepeatNgramSize: 3, minNewTokens: 4 }],
  ['sampling', { doSample: true, temperature: 1.3, topK: 50, topP: 0.95, seed: 3 }],
  ['three samples', { doSample: true, numReturnSequences: 3, seed: 4 }],
  ['beam search', { numBeams: 4, numReturnSequences: 2 }],
  [
    'beam search of transformers 4.46, with processors',
    { numBeams: 3, compat: 'transformers-4.46', repetitionPenalty: 1.3 },
  ],
  ['beam sampling', { numBeams: 3, doSample: true, topP: 0.9, seed: 3 }],
]

describe.each(['f32', 'bf16'] as const)('weights in %s', (dtype) => {
  let device: Device
  let alma: Alma
  beforeAll(async () => {
    device = openDevice()
    alma = await Alma.create(config, { device, seed: 11, dtype })
  })
  afterAll(async () => {
    await alma?.dispose()
    await device?.dispose()
  })

  const run = (some: readonly number[], options: GenerateOptions, call: GenerateCall = {}): Promise<Generation[]> =>
    generateTokens(
      alma.model,
      some.map((i) => prompts[i] ?? []),
      resolveDecoding({ maxNewTokens: 24, ...options }, alma.config),
      { indices: some, ...call },
    )

  describe.each(kinds)('%s: the same bits', (_name, options) => {
    const all = [...prompts.keys()]
    let alone: Generation[]
    beforeAll(async () => {
      alone = []
      for (const i of all) alone.push(...(await run([i], options, { sharesPrefixes: false })))
      // Answers of different lengths, so that rows leave at different times.
      expect(new Set(alone.map(({ tokenIds }) => tokenIds.length)).size).toBeGreaterThan(1)
    })

    it.each([1, 200, 700, 100_000])('in batches of %i tokens', async (batchTokens) => {
      expect(await run(all, { ...options, batchTokens })).toEqual(alone)
    })

    it('in another order, without sharing prefixes', async () => {
      const backwards = all.toReversed()
      expect(await run(backwards, { ...options, batchTokens: 100_000 }, { sharesPrefixes: false })).toEqual(
        alone.toReversed(),
      )
    })

    it('entering while others are half-way', async () => {
      const early = run([2, 8, 4], { ...options, batchTokens: 100_000 })
      const late: Promise<Generation[]>[] = []
      for (const i of [1, 7, 10]) {
        await device.synchronize()
        await new Promise(setImmediate)
        late.push(run([i], { ...options, batchTokens: 100_000 }))
      }
      const expected = [2, 8, 4, 1, 7, 10].map((i) => alone[i])
      expect([...(await early), ...(await Promise.all(late)).flat()]).toEqual(expected)
    })
  })
})

describe('the cache of a model', () => {
  let device: Device
  let alma: Alma
  beforeAll(async () => {
    device = openDevice()
    alma = await Alma.create(config, { device, seed: 11 })
  })
  afterAll(async () => {
    await alma?.dispose()
    await device?.dispose()
  })
  const statistics = () => DecodingScheduler.of(alma.model).statistics
  const during = async <T>(
    body: () => Promise<T>,
  ): Promise<{ result: T; prefilled: number; copied: number; steps: number }> => {
    const before = statistics()
    const result = await body()
    const after = statistics()
    return {
      result,
      prefilled: after.prefilledTokens - before.prefilledTokens,
      copied: after.copiedBlocks - before.copiedBlocks,
      steps: after.steps - before.steps,
    }
  }

  it('computes what prompts have in common once, in whole blocks', async () => {
    const { blockSize } = statistics()
    const prefix = idsOf(blockSize * 5 + 3)
    const some = Array.from({ length: 10 }, () => [...prefix, ...idsOf(7)])
    const total = some.flat().length
    const decoding = resolveDecoding({ maxNewTokens: 3, batchTokens: 100_000 }, alma.config)
    const shared = await during(() => generateTokens(alma.model, some, decoding))
    expect(shared.prefilled).toBe(total - 9 * blockSize * 5)
    const apart = await during(() => generateTokens(alma.model, some, decoding, { sharesPrefixes: false }))
    expect(apart.prefilled).toBe(total)
    expect(shared.result).toEqual(apart.result)
    // The same prompt twice: all but the last token, in whole blocks.
    const whole = prefix.slice(0, 2 * blockSize)
    const twice = await during(() => generateTokens(alma.model, [whole, whole], decoding))
    expect(twice.prefilled).toBe(3 * blockSize)
  })

  it('copies at most one block when a beam parts from the others', async () => {
    const numBeams = 4
    const options = { numBeams, maxNewTokens: 40, eosTokenId: [] }
    const { copied, steps } = await during(() => alma.generate([idsOf(100)], options))
    // The prompt ends inside a block: three beams leave it at once. Afterwards a step has at most numBeams − 1 forks.
    expect(copied).toBeGreaterThan(0)
    expect(copied).toBeLessThanOrEqual((numBeams - 1) * steps)
  })

  it('decodes all rows of overlapping calls in one step', async () => {
    const options = { maxNewTokens: 20, eosTokenId: [], batchTokens: 100_000 }
    const { steps } = await during(() => Promise.all(prompts.map((prompt) => alma.generate([prompt], options))))
    // The first token comes with the prompt; prompts of more tokens than a pass takes may enter one after the other.
    expect(steps).toBeLessThanOrEqual(19 + 2)
  })

  it('lets waiting prompts in as others finish, and keeps the budget', async () => {
    const options = { maxNewTokens: 16, eosTokenId: [] }
    const many = Array.from({ length: 12 }, () => idsOf(16))
    // A prompt and its answer have 32 tokens: two at a time.
    let most = 0
    const { steps } = await during(() =>
      generateTokens(alma.model, many, resolveDecoding({ ...options, batchTokens: 64 }, alma.config), {
        onProgress: () => {
          most = Math.max(most, statistics().blocksInUse)
        },
      }),
    )
    expect(most * statistics().blockSize).toBeLessThanOrEqual(64)
    expect(steps).toBeGreaterThanOrEqual(15 * 6)
    expect(statistics().blocks).toBe(0)
  })

  it('a hundred of a thousand calls are aborted: the others do not notice, and no block stays in use', async () => {
    const options = { maxNewTokens: 12, batchTokens: 6000 }
    const thousand = Array.from({ length: 1000 }, (_, i) => [...(prompts[i % prompts.length] ?? []), 40 + (i % 170)])
    const expected = await alma.generate(thousand, options)
    await device.synchronize()
    const before = device.memory().allocated
    const controllers = thousand.map(() => new AbortController())
    const reason = new Error('enough')
    const running = thousand.map((prompt, i) =>
      alma.generate([prompt], { ...options, signal: controllers[i]?.signal ?? AbortSignal.abort() }),
    )
    const settled = Promise.allSettled(running)
    const ends = running.map((call) => call.catch(() => {}))
    const aborted = new Set(Array.from({ length: 100 }, (_, i) => (i * 37 + 5) % 1000))
    // While some wait, some have entered and some may be finished.
    let inUse = 0
    for (const [count, i] of [...aborted].entries()) {
      if (count % 10 === 0) await Promise.race([ends[(i * 7) % 100], new Promise((resolve) => setTimeout(resolve, 3))])
      inUse = Math.max(inUse, statistics().blocksInUse)
      controllers[i]?.abort(reason)
    }
    expect(inUse).toBeGreaterThan(0)
    const results = await settled
    let rejected = 0
    for (const [i, result] of results.entries()) {
      if (result.status === 'fulfilled') expect(result.value).toEqual([expected[i]])
      else {
        rejected++
        expect(aborted.has(i)).toBe(true)
        expect(result.reason).toBe(reason)
      }
    }
    expect(rejected).toBeGreaterThan(0)
    expect(statistics().blocksInUse).toBe(0)
    await device.synchronize()
    expect(device.memory().allocated).toBeLessThanOrEqual(before)
  })

  it('frees the blocks of an aborted call at once', async () => {
    const controller = new AbortController()
    const options = { maxNewTokens: 900, eosTokenId: [], numBeams: 3, batchTokens: 100_000 }
    let over = false
    const other = alma.generate([prompts[3] ?? []], { ...options, maxNewTokens: 60 })
    const running = alma.generate([prompts[0] ?? []], { ...options, signal: controller.signal })
    const settled = Promise.allSettled([running]).finally(() => {
      over = true
    })
    while (statistics().blocksInUse < 10 && !over) await new Promise((resolve) => setTimeout(resolve, 1))
    const before = statistics().blocksInUse
    controller.abort()
    expect(statistics().blocksInUse).toBeLessThan(before)
    await settled
    expect((await other)[0]?.tokenIds).toHaveLength(60)
    expect(statistics().blocksInUse).toBe(0)
  })

  it('works on after a failure on the device', async () => {
    const [expected] = await alma.generate([prompts[2] ?? []], { maxNewTokens: 5 })
    // An op that fails beside a call takes the call with it; the next one is whole.
    const running = alma.generate([prompts[2] ?? []], { maxNewTokens: 500, eosTokenId: [] })
    const settled = Promise.allSettled([running])
    const bad = Tensor.from(device, Int32Array.of(-5))
    device.addon.opGatherRows(bad.handle, bad.handle, bad.handle, 1, 1, 1)
    const [outcome] = await settled
    expect(outcome?.status).toBe('rejected')
    await device.synchronize().catch(() => {})
    expect(await alma.generate([prompts[2] ?? []], { maxNewTokens: 5 })).toEqual([expected])
    expect(statistics().blocksInUse).toBe(0)
  })
})

describe('when memory is short', () => {
  // Blocks of the cache are large beside everything else: 64 KiB.
  let device: Device
  let alma: Alma
  beforeAll(async () => {
    device = openDevice()
    alma = await Alma.create({ ...config, numKeyValueHeads: 8, headDim: 64 }, { device, seed: 11 })
  })
  afterAll(async () => {
    await alma?.dispose()
    await device?.dispose()
  })
  const statistics = () => DecodingScheduler.of(alma.model).statistics

  /** Makes the device say that so many blocks of the cache are free beyond what is in use now. */
  const withBlocks = async <T>(blocks: number, body: () => Promise<T>): Promise<T> => {
    await device.synchronize()
    const base = device.memory().allocated
    const bytes = blocks * KeyValueCache.bytes(alma.config, statistics().blockSize, 'f32')
    const real = device.memory.bind(device)
    device.memory = () => {
      const now = real()
      return { ...now, reserved: now.allocated, free: Math.max(0, bytes - (now.allocated - base)) }
    }
    try {
      return await body()
    } finally {
      device.memory = real
    }
  }
  const blockSize = 8

  it('says how many beams fit', async () => {
    // A prompt of two blocks, and three blocks for each beam.
    const prompt = idsOf(2 * blockSize)
    const options = { maxNewTokens: 3 * blockSize, eosTokenId: [] }
    await withBlocks(2 + 3 * 4 + 2, async () => {
      await expect(alma.generate([prompt], { ...options, numBeams: 5 })).rejects.toMatchObject({
        code: 'ERR_ALMA_OUT_OF_MEMORY',
        message: expect.stringMatching(
          /^numBeams 5: the key\/value cache of one prompt with up to 40 tokens takes [\d.]+ MB, [\d.]+ MB are free: 4 beams fit$/,
        ),
      })
      await expect(alma.generate([prompt], { ...options, maxNewTokens: 900 })).rejects.toMatchObject({
        code: 'ERR_ALMA_OUT_OF_MEMORY',
        message: expect.stringMatching(/916 tokens takes .* a smaller maxNewTokens needs less$/),
      })
      const [result] = await alma.generate([prompt], { ...options, numBeams: 4 })
      expect(result?.tokenIds).toHaveLength(3 * blockSize)
    })
    expect(statistics().blocksInUse).toBe(0)
  })

  it('calls that choose differently wait for each other', async () => {
    const some = prompts.slice(0, 6)
    const options = { maxNewTokens: 20, eosTokenId: [] }
    const kindsOf: GenerateOptions[] = [options, { ...options, numBeams: 2 }, { ...options, repetitionPenalty: 1.5 }]
    const runAll = () => Promise.all(kindsOf.flatMap((kind) => some.map((prompt) => alma.generate([prompt], kind))))
    const expected = await runAll()
    // The largest needs 19 blocks: two of different kinds never run together.
    expect(await withBlocks(24, runAll)).toEqual(expected)
    expect(statistics().blocks).toBe(0)
  })
})
