/** Options of stages that trade memory for time or exactness. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Stage } from '../../lib/index.js'
import { createProgressReporter, type MemoryPlan, Optimizer, type TrainingEvent } from '../../lib/train/index.js'
import { expectError } from '../support/compare.js'
import { type TinyData, tinyAlma, tinyData } from './support.js'

let data: TinyData
beforeAll(async () => {
  data = await tinyData()
})
afterAll(() => rmSync(data.folder, { recursive: true, force: true }))

const stage = (overrides: object = {}): Stage => ({
  kind: 'parallel',
  pairs: [{ path: data.train, from: 'de', to: 'en' }],
  batchSize: 8,
  maxSteps: 6,
  learningRate: 3e-3,
  warmupRatio: 0,
  ...overrides,
})

interface Trained {
  readonly weights: Map<string, Float32Array>
  readonly losses: number[]
  readonly plan: MemoryPlan
}

interface RunOptions {
  readonly dtype?: 'f32' | 'bf16'
  readonly output?: string
  readonly resume?: boolean
  /** Stop after this step. */
  readonly stopAt?: number
}

async function train(overrides: object, { dtype = 'f32', stopAt, ...options }: RunOptions = {}): Promise<Trained> {
  const controller = new AbortController()
  let plan: MemoryPlan | undefined
  const losses: number[] = []
  const onProgress = (event: TrainingEvent): void => {
    if (event.type === 'memory') plan = event.plan
    if (event.type === 'step') losses.push(event.record.loss)
    if (event.type === 'step' && event.record.step === stopAt) controller.abort(new Error('stopped'))
  }
  await using alma = await tinyAlma(data, options.resume === true ? 77 : 5, dtype, 'cpu')
  const run = alma.finetune(stage(overrides), { ...options, signal: controller.signal, onProgress })
  if (stopAt === undefined) await run
  else await expect(run).rejects.toThrow('stopped')
  expect(alma.model.activationCheckpointing).toBe('none')
  const weights = new Map<string, Float32Array>()
  for (const [name, tensor] of alma.model.namedParameters()) weights.set(name, await tensor.readFloats())
  if (plan === undefined) throw new Error('no memory plan')
  return { weights, losses, plan }
}

describe('activationCheckpointing', () => {
  test('changes no bit of a run, with dropout in low-rank updates neither', async () => {
    for (const overrides of [{}, { lora: { rank: 4, dropout: 0.3, targetModules: 'all-linear' } }]) {
      const expected = await train({ ...overrides, activationCheckpointing: 'none' })
      for (const activationCheckpointing of ['selective', 'full'] as const) {
        const { weights, losses, plan } = await train({ ...overrides, activationCheckpointing })
        expect(plan.activationCheckpointing).toBe(activationCheckpointing)
        expect(losses).toEqual(expected.losses)
        expect(weights).toEqual(expected.weights)
      }
    }
  })

  test('keeps everything where memory is plenty, and says what a run needs', async () => {
    const lines: string[] = []
    const reporter = await createProgressReporter({ stream: { write: (text: string) => lines.push(text) } })
    await using alma = await tinyAlma(data, 5, 'f32', 'cpu')
    await alma.finetune(stage({ maxSteps: 1 }), { onProgress: reporter.onProgress })
    await reporter.close()
    expect(lines.filter((line) => line.includes('memory'))).toEqual([
      expect.stringMatching(
        /^stage 1 memory: [\d.]+ MB \(weights .* MB, gradients .*\) of [\d.]+ [GM]B; micro-batches of 4,096 tokens, activation checkpointing none\n$/,
      ),
    ])
  })
})

describe('stochasticRounding', () => {
  const options = { stochasticRounding: true }

  test('trains bf16 weights without master copies, and goes on from a checkpoint bit for bit', async () => {
    const nearest = await train({}, { dtype: 'bf16' })
    const whole = await train(options, { dtype: 'bf16' })
    expect(whole.plan.need.masterWeights).toBeLessThan(nearest.plan.need.masterWeights / 10)
    expect(whole.weights).not.toEqual(nearest.weights)
    // Not the same weights, but the same training.
    expect(Math.abs((whole.losses.at(-1) ?? 0) - (nearest.losses.at(-1) ?? 0))).toBeLessThan(0.05)
    expect(whole.losses[0]).toBeGreaterThan((whole.losses.at(-1) ?? 0) + 0.1)

    const output = join(mkdtempSync(join(data.folder, 'out-')), 'model')
    await train(options, { dtype: 'bf16', output, stopAt: 3 })
    expect((await train(options, { dtype: 'bf16', output, resume: true })).weights).toEqual(whole.weights)
  })

  test('keeps updates that are too small for bf16 on average, by a chance that the seed decides', async () => {
    const updated = async (seed: number): Promise<Float32Array> => {
      await using alma = await tinyAlma(data, 5, 'bf16', 'cpu')
      const optimizer = new Optimizer(alma.model, { stochasticRounding: true, seed, weightDecay: 0 })
      const [parameter] = alma.model.parameters()
      if (parameter === undefined) throw new Error('a model has parameters')
      const { tensor, requiredGradient } = parameter
      tensor.write(new Float32Array(tensor.count).fill(1))
      requiredGradient.write(new Float32Array(tensor.count).fill(1))
      // The first step of AdamW is by the learning rate; the next number below 1 is 1 − 2⁻⁸.
      optimizer.step(2 ** -12)
      const weights = await tensor.readFloats()
      optimizer.dispose()
      return weights
    }
    const weights = await updated(1)
    expect(new Set(weights)).toEqual(new Set([1, 1 - 2 ** -8]))
    const mean = weights.reduce((sum, weight) => sum + weight, 0) / weights.length
    expect(Math.abs(1 - mean - 2 ** -12)).toBeLessThan(0.15 * 2 ** -12)
    expect(await updated(1)).toEqual(weights)
    expect(await updated(2)).not.toEqual(weights)
  })

  test('is refused where it has no use', async () => {
    await expectError(
      () => train(options),
      'ERR_ALMA_OPTION',
      /"stochasticRounding" is for bf16 weights, these are f32/,
    )
    await expectError(
      () => train({ ...options, lora: { rank: 2 } }, { dtype: 'bf16' }),
      'ERR_ALMA_OPTION',
      /"stochasticRounding" has no use with "lora"/,
    )
  })
})

test('a run that resumes keeps the size of its micro-batches', async () => {
  const output = join(mkdtempSync(join(data.folder, 'out-')), 'model')
  await train({}, { output, stopAt: 2 })
  const [name = ''] = readdirSync(join(output, 'checkpoints')).filter((entry) => entry.startsWith('stage-'))
  const path = join(output, 'checkpoints', name, 'training-state.json')
  const state = JSON.parse(readFileSync(path, 'utf8'))
  expect(state.microBatchTokens).toBe(4096)
  writeFileSync(path, JSON.stringify({ ...state, microBatchTokens: 512 }))
  const { plan } = await train({}, { output, resume: true })
  expect(plan.microBatchTokens).toBe(512)
})

test('what does not fit is refused before anything is allocated', async () => {
  await using alma = await tinyAlma(data, 5, 'f32', 'cpu')
  const { allocated } = alma.device.memory()
  // A step of 2³⁰ sequences at once.
  const huge = stage({ batchSize: 2 ** 30, microBatchSize: 2 ** 30 })
  await expectError(
    () => alma.finetune(huge),
    'ERR_ALMA_OUT_OF_MEMORY',
    /stages\[0\]: training needs \d+\.\d GB .* can be had; what would fit: microBatchSize \d+ \(/,
  )
  expect(alma.device.memory().allocated).toBe(allocated)
})
