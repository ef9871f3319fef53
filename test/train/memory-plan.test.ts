/** What training needs of a device's memory: the arithmetic, the choice, and the device's own count. */
import { rmSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Alma } from '../../lib/index.js'
import { normalizeConfig } from '../../lib/model/index.js'
import { type MemoryPlan, type MemoryRequest, memoryNeed, planMemory } from '../../lib/train/memory-plan.js'
import { type TinyData, tinyAlma, tinyData } from './support.js'

const llama7b = normalizeConfig({
  vocabSize: 32_000,
  hiddenSize: 4096,
  intermediateSize: 11_008,
  numHiddenLayers: 32,
  numAttentionHeads: 32,
  maxPositionEmbeddings: 4096,
})
const parameters = 6_738_415_616
const GB = 1e9

describe('a 7B model', () => {
  const full: MemoryRequest = {
    config: llama7b,
    dtype: 'bf16',
    gpu: true,
    longest: 512,
    batchSize: 256,
    activationCheckpointing: 'auto',
    available: 141 * GB,
  }

  test('the state is 18 bytes a weight: bf16 weights, f32 gradients, master weights and two moments', () => {
    const need = memoryNeed(full, { tokens: 512, sequences: 1, activationCheckpointing: 'none' })
    const a = (bytes: number): [number, number] => [bytes * parameters, bytes * parameters * 1.001]
    for (const [part, bytes] of [
      ['weights', 2],
      ['gradients', 4],
      ['masterWeights', 4],
      ['moments', 8],
    ] as const) {
      const [least, most] = a(bytes)
      expect(need[part], part).toBeGreaterThanOrEqual(least)
      expect(need[part], part).toBeLessThan(most)
    }
    const stochastic = { ...full, stochasticRounding: true }
    const without = memoryNeed(stochastic, { tokens: 512, sequences: 1, activationCheckpointing: 'none' })
    expect(need.total - without.total).toBeGreaterThan(3.999 * parameters)
  })

  test.each([
    // Bytes of a token and layer: 6 hidden and 2 intermediate widths, log-sum-exps; with the two normalised inputs; the layer's input.
    ['selective', 93_312],
    ['none', 109_704],
    ['full', 8192],
  ] as const)('activations of %s grow by %d bytes a token and layer', (activationCheckpointing, bytes) => {
    const at = (layers: number): number =>
      memoryNeed(
        { ...full, config: { ...llama7b, numHiddenLayers: layers } },
        { tokens: 8192, sequences: 16, activationCheckpointing },
      ).activations
    expect(Math.abs((at(32) - at(16)) / 16 / 8192 / bytes - 1)).toBeLessThan(0.07)
  })

  test('a full fine-tune fits 141 GB', () => {
    const plan = planMemory(full, 'stages[0]')
    expect(plan.need.total).toBeLessThan(141 * GB)
    expect(plan).toMatchObject({ microBatchTokens: 4096, activationCheckpointing: 'none' })
  })

  test('LoRA fits 24 GB', () => {
    const lora = { rank: 16, dropout: 0.05, targetModules: 'all-linear' } as const
    const plan = planMemory({ ...full, lora, available: 24 * GB }, 'stages[0]')
    expect(plan.need.total).toBeLessThan(24 * GB)
    expect(plan.need.gradients).toBeLessThan(0.2 * GB)
    expect(plan).toMatchObject({ microBatchTokens: 2048, activationCheckpointing: 'none' })
  })
})

describe('the choice', () => {
  const config = normalizeConfig({
    vocabSize: 1000,
    hiddenSize: 256,
    intermediateSize: 512,
    numHiddenLayers: 8,
    numAttentionHeads: 4,
  })
  const request: MemoryRequest = {
    config,
    dtype: 'f32',
    longest: 256,
    batchSize: 64,
    activationCheckpointing: 'auto',
    available: 1e12,
  }
  const at = (available: number, overrides: Partial<MemoryRequest> = {}) => {
    const { microBatchTokens, activationCheckpointing } = planMemory(
      { ...request, available, ...overrides },
      'stages[0]',
    )
    return [microBatchTokens, activationCheckpointing]
  }
  const needs = (tokens: number, activationCheckpointing: 'none' | 'selective' | 'full', more = {}): number =>
    memoryNeed({ ...request, ...more }, { tokens, sequences: tokens / 256, activationCheckpointing }).total

  test('keeps everything where there is room, and computes more again the less there is', () => {
    const seen = new Set<string>()
    let previous = Number.POSITIVE_INFINITY
    for (let available = needs(4096, 'none') * 1.1; available > needs(256, 'full'); available *= 0.98) {
      const plan = (() => {
        try {
          return planMemory({ ...request, available }, 'stages[0]')
        } catch {
          return undefined
        }
      })()
      if (plan === undefined) break
      expect(plan.need.total).toBeLessThanOrEqual(available)
      expect(plan.need.total).toBeLessThanOrEqual(previous)
      previous = plan.need.total
      seen.add(`${plan.microBatchTokens} ${plan.activationCheckpointing}`)
    }
    const order = ['4096 none', '4096 selective', '2048 none', '2048 selective', '1024 none', '1024 selective']
    expect([...seen].slice(0, 6)).toEqual(order)
    expect([...seen].at(-1)).toMatch(/^256 full$/)
  })

  test('keeps what the stage says, and what the run began with', () => {
    expect(at(1e12, { activationCheckpointing: 'full' })).toEqual([4096, 'full'])
    expect(at(1e12, { microBatchSize: 2 })).toEqual([512, 'none'])
    expect(at(1e12, { microBatchTokens: 1024 })).toEqual([1024, 'none'])
    const little = needs(4096, 'selective')
    expect(at(little)[0]).toBeLessThan(4096)
    expect(at(little, { microBatchTokens: 4096 })).toEqual([4096, 'full'])
  })

  test.each([
    [{ microBatchSize: 16 }, 4096, 'what would fit: microBatchSize 8 ('],
    [{ activationCheckpointing: 'none', microBatchTokens: 4096 }, 4096, "activationCheckpointing 'auto' ("],
    [{ batchSize: 1, longest: 2048 }, 2048, 'sequences of at most 128 tokens ('],
    [{ batchSize: 1, dtype: 'bf16', longest: 64 }, 64, 'stochasticRounding ('],
    [{ batchSize: 1, longest: 64 }, 64, 'what would fit: lora ('],
  ] as const)('where %j does not fit it says what would', (overrides, tokens, advice) => {
    const mode = 'activationCheckpointing' in overrides ? 'none' : 'full'
    const available = needs(tokens, mode, overrides) * 0.99
    try {
      planMemory({ ...request, ...overrides, available }, 'stages[3]')
      expect.unreachable()
    } catch (error) {
      expect(error).toMatchObject({ code: 'ERR_ALMA_OUT_OF_MEMORY' })
      expect(String(error)).toMatch(/stages\[3\]: training needs [\d.]+ [MG]B \(weights [\d.]+ MB, gradients /)
      expect(String(error)).toContain(advice)
    }
  })

  test('says so where nothing would fit', () => {
    expect(() => planMemory({ ...request, available: 1000 }, 'stages[0]')).toThrow(
      'nothing would fit but a smaller model',
    )
  })
})

describe("the device's own count", () => {
  let data: TinyData
  beforeAll(async () => {
    data = await tinyData()
  })
  afterAll(() => rmSync(data.folder, { recursive: true, force: true }))

  const lora = { rank: 8, targetModules: 'all-linear', dropout: 0.1 } as const
  test.each([
    ['f32', { activationCheckpointing: 'none' }],
    ['f32', { activationCheckpointing: 'selective' }],
    ['f32', { activationCheckpointing: 'full' }],
    ['bf16', { activationCheckpointing: 'auto' }],
    ['bf16', { stochasticRounding: true }],
    ['f32', { lora }],
    ['bf16', { lora, activationCheckpointing: 'selective' }],
    ['f32', { lora: { rank: 4, dropout: 0 }, activationCheckpointing: 'full' }],
  ] as const)('%s weights, %j: the peak is what was planned, within five per cent', async (dtype, overrides) => {
    await using alma = await Alma.create(
      {
        vocabSize: 600,
        hiddenSize: 128,
        intermediateSize: 320,
        numHiddenLayers: 5,
        numAttentionHeads: 4,
        numKeyValueHeads: 2,
        maxPositionEmbeddings: 128,
        bosTokenId: 1,
        eosTokenId: 2,
      },
      { tokenizer: data.tokenizer, device: 'cpu', seed: 5, dtype },
    )
    let plan: MemoryPlan | undefined
    let peak = 0
    alma.device.resetPeakMemory()
    await alma.finetune(
      {
        kind: 'monolingual',
        sources: [{ path: data.english, language: 'en' }],
        blockSize: 64,
        batchSize: 16,
        microBatchSize: 8,
        maxSteps: 2,
        ...overrides,
      },
      {
        onProgress: (event) => {
          if (event.type === 'memory') plan = event.plan
          if (event.type === 'step') peak = event.memory.peak
        },
      },
    )
    const total = plan?.need.total ?? 0
    expect(peak / total, `peak ${peak}, planned ${JSON.stringify(plan?.need)}`).toBeGreaterThan(0.95)
    expect(peak / total, `peak ${peak}, planned ${JSON.stringify(plan?.need)}`).toBeLessThan(1.05)
  })

  test('sequences of different lengths need no more than was planned for the longest', async () => {
    await using alma = await tinyAlma(data, 5, 'f32', 'cpu')
    let plan: MemoryPlan | undefined
    let peak = 0
    alma.device.resetPeakMemory()
    await alma.finetune(
      {
        kind: 'parallel',
        pairs: [{ path: data.train, from: 'de', to: 'en' }],
        maxSourceLength: 40,
        maxNewTokens: 20,
        batchSize: 16,
        microBatchSize: 8,
        maxSteps: 12,
      },
      {
        onProgress: (event) => {
          if (event.type === 'memory') plan = event.plan
          if (event.type === 'step') peak = event.memory.peak
        },
      },
    )
    expect(peak).toBeGreaterThan(0)
    expect(peak).toBeLessThan(1.05 * (plan?.need.total ?? 0))
  })
})
