/** Beam search against a slow one, written after transformers' BeamSearchScorer, over passes without a cache. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Alma, type Device, type GenerateOptions } from '../../lib/index.js'
import { openDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'
import { softmax } from '../support/reference.js'

const vocabSize = 60
const config = {
  vocabSize,
  hiddenSize: 32,
  intermediateSize: 64,
  numHiddenLayers: 2,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
  maxPositionEmbeddings: 256,
  initializerRange: 0.35,
}
const eosTokenIds = [7, 11]
const random = new TestRandom(6)
const prompts = [4, 19, 1, 33, 8].map((length) => [...random.integers(length, vocabSize)])

interface Beam {
  readonly tokens: readonly number[]
  readonly score: number
}

interface Settings {
  readonly numBeams: number
  readonly lengthPenalty: number
  readonly earlyStopping: boolean | 'never'
  readonly maxNewTokens: number
  readonly repetitionPenalty: number
  readonly minNewTokens: number
  /** Tokens that lengths count beside the generated ones: prompt and pads, or 0. */
  readonly counted: number
  /** Whether the length of a finished answer counts its EOS. */
  readonly countsEos: boolean
}

/** Finished answers, best first: the length-normalised score, and the sum. */
async function slowBeamSearch(
  alma: Alma,
  prompt: readonly number[],
  settings: Settings,
): Promise<(Beam & { sum: number })[]> {
  const { numBeams, lengthPenalty, earlyStopping, maxNewTokens, counted } = settings
  let beams: Beam[] = [{ tokens: [], score: 0 }]
  const finished: (Beam & { sum: number })[] = []
  const add = (tokens: readonly number[], sum: number, length: number): void => {
    finished.push({ tokens, sum, score: sum / (counted + length) ** lengthPenalty })
    if (finished.length <= numBeams) return
    const worst = Math.min(...finished.map(({ score }) => score))
    finished.splice(
      finished.findIndex(({ score }) => score === worst),
      1,
    )
  }
  for (let step = 1; step <= maxNewTokens; step++) {
    const candidates: { tokens: readonly number[]; token: number; total: number }[] = []
    for (const { tokens, score } of beams) {
      const [logits = new Float32Array()] = await alma.model.logits([[...prompt, ...tokens]])
      const row = logits.subarray(-vocabSize)
      const { logSumExp } = softmax(row)
      const seen = new Set([...prompt, ...tokens])
      row.forEach((x, token) => {
        let logprob = x - logSumExp
        if (seen.has(token)) logprob *= settings.repetitionPenalty
        if (step <= settings.minNewTokens && eosTokenIds.includes(token)) logprob = Number.NEGATIVE_INFINITY
        candidates.push({ tokens, token, total: score + logprob })
      })
    }
    candidates.sort((a, b) => b.total - a.total)
    candidates.length = (1 + eosTokenIds.length) * numBeams
    beams = []
    for (const [rank, { tokens, token, total }] of candidates.entries()) {
      if (!eosTokenIds.includes(token)) beams.push({ tokens: [...tokens, token], score: total })
      else if (rank < numBeams) add([...tokens, 7], total, step - 1 + (settings.countsEos ? 1 : 0))
      if (beams.length === numBeams) break
    }
    if (finished.length >= numBeams) {
      if (earlyStopping === true) return best(finished)
      const length = earlyStopping === 'never' && lengthPenalty > 0 ? maxNewTokens : step
      const attainable = (candidates[0]?.total ?? Number.NaN) / (counted + length) ** lengthPenalty
      if (Math.min(...finished.map(({ score }) => score)) >= attainable) return best(finished)
    }
  }
  for (const { tokens, score } of beams) add(tokens, score, maxNewTokens)
  return best(finished)
}

const best = (finished: readonly (Beam & { sum: number })[]): (Beam & { sum: number })[] =>
  [...finished].sort((a, b) => b.score - a.score)

describe('beam search', () => {
  let device: Device
  let alma: Alma
  beforeAll(async () => {
    device = openDevice()
    alma = await Alma.create(config, { device, seed: 21, dtype: 'f32' })
  })
  afterAll(async () => {
    await alma?.dispose()
    await device?.dispose()
  })

  const cases: GenerateOptions[] = [
    { lengthPenalty: 1, earlyStopping: false },
    { lengthPenalty: 2, earlyStopping: 'never', maxNewTokens: 14 },
    { lengthPenalty: -0.5, earlyStopping: 'never' },
    { lengthPenalty: 0.7, earlyStopping: true, repetitionPenalty: 1.4 },
    { lengthPenalty: 1.5, earlyStopping: false, minNewTokens: 6 },
  ]
  const lengths = new Set<number>()
  describe.each(['transformers-4.46', 'transformers-4.35'] as const)('%s', (compat) => {
    it.each(cases)('%o', async (options) => {
      const { lengthPenalty = 1, earlyStopping = false, maxNewTokens = 20 } = options
      const old = compat === 'transformers-4.35'
      // What is processed sees pads too; with them only the lengths are compared.
      const padded = old && options.repetitionPenalty === undefined
      const results = await alma.generate(prompts, {
        ...options,
        maxNewTokens,
        numBeams: 4,
        numReturnSequences: 4,
        compat,
        eosTokenId: eosTokenIds,
        ...(padded && { padTokenId: 0, padLength: 40 }),
      })
      for (const [i, prompt] of prompts.entries()) {
        const expected = await slowBeamSearch(alma, prompt, {
          numBeams: 4,
          lengthPenalty,
          earlyStopping,
          maxNewTokens,
          repetitionPenalty: options.repetitionPenalty ?? 1,
          minNewTokens: options.minNewTokens ?? 0,
          counted: old ? (padded ? 40 : prompt.length) : 0,
          countsEos: !old,
        })
        const { candidates = [] } = results[i] ?? {}
        expect(candidates.map(({ tokenIds }) => tokenIds)).toEqual(expected.map(({ tokens }) => tokens))
        for (const [rank, { score, sumLogprob, tokenIds }] of candidates.entries()) {
          expect(score / (expected[rank]?.score ?? Number.NaN)).toBeCloseTo(1, 5)
          expect(sumLogprob / (expected[rank]?.sum ?? Number.NaN)).toBeCloseTo(1, 5)
          lengths.add(tokenIds.length)
        }
      }
    })
  })

  it('ended in many places above', () => {
    expect(lengths.size).toBeGreaterThan(5)
  })

  it('with more beams finds answers that are as good or better', async () => {
    const options = { maxNewTokens: 12, eosTokenId: [], lengthPenalty: 0 }
    const greedy = await alma.generate(prompts, options)
    const wide = await alma.generate(prompts, { ...options, numBeams: 16 })
    const gains = wide.map(({ score }, i) => score - (greedy[i]?.score ?? Number.NaN))
    expect(Math.max(...gains)).toBeGreaterThan(0.1)
    expect(gains.reduce((sum, gain) => sum + gain, 0)).toBeGreaterThan(0)
  })

  it('gives a prefix that was asked for, and scores what follows it', async () => {
    for (const more of [
      {},
      { numBeams: 3 },
      { numBeams: 3, numReturnSequences: 2, compat: 'transformers-4.46' as const },
    ]) {
      const prefixTokenIds = [33, 44, 55]
      const options = { maxNewTokens: 9, eosTokenId: eosTokenIds, ...more }
      const forced = await alma.generate(prompts, { ...options, prefixTokenIds })
      const appended = await alma.generate(
        prompts.map((prompt) => [...prompt, ...prefixTokenIds]),
        options,
      )
      for (const [i, { tokenIds, score, candidates }] of forced.entries()) {
        expect(tokenIds).toEqual([...prefixTokenIds, ...(appended[i]?.tokenIds ?? [])])
        expect(score).toBe(appended[i]?.score)
        for (const candidate of candidates ?? []) expect(candidate.tokenIds.slice(0, 3)).toEqual(prefixTokenIds)
      }
    }
    const full = { prefixTokenIds: Array.from({ length: 255 }, () => 40) }
    await expect(alma.generate([[1]], full)).rejects.toMatchObject({
      code: 'ERR_ALMA_CONTEXT',
      message: expect.stringMatching(/prompt 0 has 256 tokens \(255 of them the beginning of the answer\)/),
    })
  })

  it('samples beams: without noise at a temperature near 0, differently with another seed', async () => {
    const options = { numBeams: 3, maxNewTokens: 10, eosTokenId: [] }
    const drawn = { ...options, doSample: true, seed: 1 }
    const cold = await alma.generate(prompts, { ...drawn, temperature: 0.01 })
    const searched = await alma.generate(prompts, options)
    expect(cold.map(({ tokenIds }) => tokenIds)).toEqual(searched.map(({ tokenIds }) => tokenIds))
    const [a, b, c] = [
      await alma.generate(prompts, drawn),
      await alma.generate(prompts, drawn),
      await alma.generate(prompts, { ...drawn, seed: 2 }),
    ]
    expect(b).toEqual(a)
    expect(c).not.toEqual(a)
  })
})
