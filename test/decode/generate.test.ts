import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Alma, Device } from '../../lib/index.js'

const name = process.env.ALMA_DEVICE ?? 'cpu'

// Weights this large make the model's choices far from uniform, so that tokens differ between prompts.
const config = {
  vocabSize: 97,
  hiddenSize: 32,
  intermediateSize: 64,
  numHiddenLayers: 2,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
  maxPositionEmbeddings: 2048,
  initializerRange: 0.3,
  eosTokenId: [],
}

/** Reproducible ids from 3 on. */
function promptOf(length: number, seed: number): number[] {
  let state = seed * 7919 + 1
  return Array.from({ length }, () => {
    state = (state * 48271) % 2147483647
    return 3 + (state % (config.vocabSize - 3))
  })
}

const prompts = [5, 1, 17, 9, 30, 2, 12, 5, 44, 3].map((length, seed) => promptOf(length, seed))

/** Greedy decoding the slow way: the whole sequence through the model for every token. */
async function naiveGreedy(
  alma: Alma,
  prompt: readonly number[],
  count: number,
): Promise<{ ids: number[]; sum: number }> {
  const ids: number[] = []
  let sum = 0
  for (let step = 0; step < count; step++) {
    const [logits = new Float32Array()] = await alma.model.logits([[...prompt, ...ids]])
    const row = logits.subarray(-config.vocabSize)
    const most = Math.max(...row)
    const id = row.indexOf(most)
    sum -= Math.log(row.reduce((total, value) => total + Math.exp(value - most), 0))
    ids.push(id)
  }
  return { ids, sum }
}

describe('generate', () => {
  let device: Device
  let alma: Alma
  beforeAll(async () => {
    device = Device.open(name)
    alma = await Alma.create(config, { device, seed: 3, dtype: 'f32' })
  })
  afterAll(async () => {
    await alma?.dispose()
    await device?.dispose()
  })

  it('gives the tokens and log-probabilities of full passes without a cache', async () => {
    const results = await alma.generate(prompts, { maxNewTokens: 12 })
    for (const [index, { tokenIds, sumLogprob, score }] of results.entries()) {
      const { ids, sum } = await naiveGreedy(alma, prompts[index] ?? [], 12)
      expect(tokenIds).toEqual(ids)
      expect(Math.abs(sumLogprob - sum)).toBeLessThan(1e-3)
      expect(score).toBeCloseTo(sumLogprob / 12, 10)
    }
    expect(new Set(results.map(({ tokenIds }) => tokenIds.join())).size).toBeGreaterThan(5)
  })

  it('does not depend on the batch, nor on when its neighbours finish', async () => {
    // An id that ends some answers early and others late, so that rows leave the batch in between.
    const free = await alma.generate(prompts, { maxNewTokens: 40 })
    const counts = new Map<number, number>()
    for (const { tokenIds } of free) for (const id of new Set(tokenIds)) counts.set(id, (counts.get(id) ?? 0) + 1)
    const [eosTokenId = 0] = [...counts].filter(([, count]) => count > 2 && count < 9).map(([id]) => id)
    const options = { maxNewTokens: 40, eosTokenId }
    const alone = []
    for (const prompt of prompts) alone.push(...(await alma.generate([prompt], options)))
    const lengths = new Set(alone.map(({ tokenIds }) => tokenIds.length))
    expect(lengths.size).toBeGreaterThan(2)
    for (const batchTokens of [1, 100, 200, 4096]) {
      const together = await alma.generate(prompts, { ...options, batchTokens })
      expect(together.map(({ tokenIds }) => tokenIds)).toEqual(alone.map(({ tokenIds }) => tokenIds))
      expect(together.map(({ finishReason }) => finishReason)).toEqual(alone.map(({ finishReason }) => finishReason))
      for (const [i, { sumLogprob }] of together.entries()) {
        expect(Math.abs(sumLogprob - (alone[i]?.sumLogprob ?? 0))).toBeLessThan(1e-3)
      }
    }
  })

  it('stops at any of several ends, and counts the end in tokens and score', async () => {
    const [free] = await alma.generate([prompts[4] ?? []], { maxNewTokens: 30 })
    const ids = free?.tokenIds ?? []
    const end = ids[10] ?? 0
    const [ended] = await alma.generate([prompts[4] ?? []], { maxNewTokens: 30, eosTokenId: [96, end] })
    const first = ids.findIndex((id) => id === end || id === 96)
    expect(ended?.tokenIds).toEqual(ids.slice(0, first + 1))
    expect(ended?.finishReason).toBe('eos')
    const [penalised] = await alma.generate([prompts[4] ?? []], { maxNewTokens: 30, eosTokenId: end, lengthPenalty: 2 })
    const { length = 0 } = penalised?.tokenIds ?? []
    expect(penalised?.score).toBeCloseTo((penalised?.sumLogprob ?? 0) / length ** 2, 10)
  })

  it('keeps an end from being chosen before minNewTokens', async () => {
    const [free] = await alma.generate([prompts[2] ?? []], { maxNewTokens: 20 })
    const eosTokenId = free?.tokenIds[2] ?? 0
    for (const minNewTokens of [0, 6]) {
      const [result] = await alma.generate(prompts.slice(2, 4), { maxNewTokens: 20, eosTokenId, minNewTokens })
      const end = result?.tokenIds.indexOf(eosTokenId) ?? -1
      if (minNewTokens === 0) expect(end).toBeLessThan(3)
      else expect(end === -1 || end >= minNewTokens).toBe(true)
    }
  })

  it('cuts an answer to the room that the context leaves', async () => {
    const long = promptOf(config.maxPositionEmbeddings - 3, 5)
    // Beside it short prompts that go on: the long one, finished, must not write into its neighbour's slot, nor behind its history.
    const short = prompts.slice(0, 9)
    const options = { maxNewTokens: 20, repetitionPenalty: 1.1 }
    const [cut, ...others] = await alma.generate([long, ...short], { ...options, batchTokens: 100_000 })
    expect(cut?.tokenIds).toHaveLength(3)
    expect(cut?.finishReason).toBe('length')
    const alone = await alma.generate(short, options)
    expect(others.map(({ tokenIds }) => tokenIds)).toEqual(alone.map(({ tokenIds }) => tokenIds))
    // 2045 tokens are prefilled in several passes: the tokens must be those of one pass.
    const [logits = new Float32Array()] = await alma.model.logits([long])
    const row = logits.subarray(-config.vocabSize)
    const [first] = await alma.generate([long], { maxNewTokens: 1 })
    expect(first?.tokenIds).toEqual([row.indexOf(Math.max(...row))])
  })

  it('prefills many prompts across passes', async () => {
    const many = [900, 300, 700, 50, 1024].map((length, seed) => promptOf(length, seed + 20))
    const together = await alma.generate(many, { maxNewTokens: 4, batchTokens: 100_000 })
    for (const [index, prompt] of many.entries()) {
      const [logits = new Float32Array()] = await alma.model.logits([prompt])
      const row = logits.subarray(-config.vocabSize)
      expect(together[index]?.tokenIds[0]).toBe(row.indexOf(Math.max(...row)))
    }
  })

  it('refuses prompts without room', async () => {
    const full = promptOf(config.maxPositionEmbeddings, 1)
    const error = { code: 'ERR_ALMA_CONTEXT', message: expect.stringMatching(/prompt 1 has 2048 tokens.* 2048 tokens/) }
    await expect(alma.generate([[5], full])).rejects.toMatchObject(error)
    await expect(alma.generate([[5], []])).rejects.toMatchObject({ code: 'ERR_ALMA_OPTION' })
    await expect(alma.generate([[5, 97]])).rejects.toMatchObject({ code: 'ERR_ALMA_OPTION' })
    expect(await alma.generate([])).toEqual([])
  })

  it('draws the same tokens for the same seed, however the call is batched', async () => {
    const options = { maxNewTokens: 20, doSample: true, temperature: 1.5, topK: 40, topP: 0.95 }
    const ids = async (more: object): Promise<readonly (readonly number[])[]> =>
      (await alma.generate(prompts, { ...options, ...more })).map(({ tokenIds }) => tokenIds)
    const first = await ids({ seed: 1 })
    expect(await ids({ seed: 1 })).toEqual(first)
    expect(await ids({ seed: 1, batchTokens: 50 })).toEqual(first)
    expect(await ids({ seed: 2 })).not.toEqual(first)
    // The same prompt twice in a call is drawn twice.
    const [a, b] = await alma.generate([prompts[0] ?? [], prompts[0] ?? []], { ...options, seed: 1 })
    expect(a?.tokenIds).not.toEqual(b?.tokenIds)
  })

  it.each([
    ['greedy', {}],
    ['sampling', { doSample: true, temperature: 1.3, seed: 4 }],
  ])('%s: two steps at once choose what single ones do', async (_name, options) => {
    // An n-gram so long that it never repeats: nothing is banned, but histories go through the host, a token at a time.
    const alone = { ...options, maxNewTokens: 41, noRepeatNgramSize: 1000 }
    const single = await alma.generate(prompts, alone)
    const chained = await alma.generate(prompts, { ...options, maxNewTokens: 41 })
    expect(chained).toEqual(single)
    const ends = single.map(({ tokenIds }) => tokenIds[20] ?? -1)
    const stopped = await alma.generate(prompts, { ...options, maxNewTokens: 41, eosTokenId: ends })
    expect(stopped).toEqual(await alma.generate(prompts, { ...alone, eosTokenId: ends }))
  })

  it('counts padding in the history when padTokenId is given, and only then', async () => {
    // Pad id 50 is penalised for the short prompt, which is padded by the long one.
    const [short = [], long = []] = [prompts[5], prompts[8]]
    const options = { maxNewTokens: 1, repetitionPenalty: 1e6 }
    const [logits = new Float32Array()] = await alma.model.logits([short])
    const penalised = (ids: readonly number[]): number => {
      const row = logits.slice(-config.vocabSize)
      for (const id of new Set(ids)) row[id] = (row[id] ?? 0) < 0 ? (row[id] ?? 0) * 1e6 : (row[id] ?? 0) / 1e6
      return row.indexOf(Math.max(...row))
    }
    const favourite = penalised(short)
    const [, plain] = await alma.generate([long, short], options)
    expect(plain?.tokenIds).toEqual([favourite])
    const [, padded] = await alma.generate([long, short], { ...options, padTokenId: favourite })
    expect(padded?.tokenIds).toEqual([penalised([...short, favourite])])
    expect(padded?.tokenIds).not.toEqual([favourite])
    const [unpadded] = await alma.generate([short], { ...options, padTokenId: favourite })
    expect(unpadded?.tokenIds).toEqual([favourite])
  })

  it('runs calls at the same time', async () => {
    const expected = []
    for (const prompt of prompts) expected.push(await alma.generate([prompt], { maxNewTokens: 15 }))
    expect(await Promise.all(prompts.map((prompt) => alma.generate([prompt], { maxNewTokens: 15 })))).toEqual(expected)
  })

  it('allocates nothing from one token to the next', async () => {
    // Peak memory grows with the cache only: the steps themselves add nothing.
    const peak = async (maxNewTokens: number): Promise<number> => {
      await device.synchronize()
      device.resetPeakMemory()
      const before = device.memory().allocated
      await alma.generate([prompts[1] ?? []], { maxNewTokens })
      return device.memory().peak - before
    }
    const [few, many] = [await peak(100), await peak(101)]
    // 2 layers × keys and values × 2 heads × 8 × 4 bytes a token; the allocator rounds up.
    expect(many - few).toBeLessThan(16_384)
  })

  it('frees its memory when it is aborted, and stays usable', async () => {
    await alma.generate([prompts[0] ?? []], { maxNewTokens: 2000 })
    await device.synchronize()
    const before = device.memory().allocated
    const controller = new AbortController()
    const reason = new Error('enough')
    const running = alma.generate(prompts, { maxNewTokens: 2000, batchTokens: 100_000, signal: controller.signal })
    setTimeout(() => controller.abort(reason), 30)
    await expect(running).rejects.toBe(reason)
    expect(device.memory().allocated).toBeLessThanOrEqual(before)
    const [result] = await alma.generate([prompts[0] ?? []], { maxNewTokens: 3 })
    expect(result?.tokenIds).toHaveLength(3)
    await expect(alma.generate([[5]], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  })

  it('names options that are wrong', async () => {
    const wrong: [object, RegExp][] = [
      [{ max_new_tokens: 5 }, /"max_new_tokens"; did you mean "maxNewTokens"/],
      [{ maxNewToken: 5 }, /did you mean "maxNewTokens"/],
      [{ from: 'de' }, /unknown option "from"; the options are maxNewTokens/],
      [{ maxNewTokens: 0 }, /maxNewTokens: expected an integer of at least 1, got 0/],
      [{ maxNewTokens: '5' }, /maxNewTokens.*got "5"/],
      [{ numBeams: 0 }, /numBeams: expected an integer from 1 to 48, got 0/],
      [{ numBeams: 49 }, /numBeams: expected an integer from 1 to 48, got 49/],
      [{ numReturnSequences: 2 }, /numReturnSequences: expected at most numBeams, which is 1 \(doSample/],
      [{ numReturnSequences: 5, numBeams: 4 }, /numReturnSequences: expected at most numBeams, which is 4, got 5/],
      [{ numReturnSequences: 3, numBeams: 2, doSample: true }, /numReturnSequences: expected at most numBeams/],
      [{ compat: 'fairseq' }, /compat: expected transformers, transformers-4.46, transformers-4.35, got "fairseq"/],
      [{ prefixTokenIds: [5, 97] }, /prefixTokenIds\[1\]: expected an integer from 0 to 96, got 97/],
      [{ prefixTokenIds: 5 }, /prefixTokenIds: expected an array of token ids/],
      [{ padLength: -1 }, /padLength/],
      [{ temperature: 0 }, /temperature.*above 0/],
      [{ topP: 1.5 }, /topP/],
      [{ topK: -1 }, /topK/],
      [{ seed: 0.5 }, /seed/],
      [{ repetitionPenalty: 0 }, /repetitionPenalty/],
      [{ noRepeatNgramSize: -1 }, /noRepeatNgramSize/],
      [{ minNewTokens: -1 }, /minNewTokens/],
      [{ batchTokens: 0 }, /batchTokens/],
      [{ eosTokenId: 97 }, /eosTokenId.*from 0 to 96/],
      [{ padTokenId: -1 }, /padTokenId/],
      [{ doSample: 'yes' }, /doSample.*true or false/],
      [{ earlyStopping: 3 }, /earlyStopping/],
      [{ lengthPenalty: Number.NaN }, /lengthPenalty/],
      [{ signal: {} }, /signal.*AbortSignal/],
    ]
    for (const [options, message] of wrong) {
      await expect(alma.generate([[5]], options), JSON.stringify(options)).rejects.toMatchObject({
        code: 'ERR_ALMA_OPTION',
        message: expect.stringMatching(message),
      })
    }
  })
})
