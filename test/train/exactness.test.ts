/** Steps that must not count, runs that must not go on, and runs that go on exactly. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Alma, Stage } from '../../lib/index.js'
import { Tensor } from '../../lib/runtime/index.js'
import { Optimizer, type TrainingEvent } from '../../lib/train/index.js'
import { TestRandom } from '../support/random.js'
import { type TinyData, tinyAlma, tinyData } from './support.js'

let data: TinyData
beforeAll(async () => {
  data = await tinyData()
})
afterAll(() => rmSync(data.folder, { recursive: true, force: true }))

const output = (): string => join(mkdtempSync(join(data?.folder ?? tmpdir(), 'out-')), 'model')

const stages = (overrides: object = {}): Stage[] => [
  { kind: 'monolingual', sources: [{ path: data.english, language: 'en' }], blockSize: 16, batchSize: 4, maxSteps: 12 },
  {
    kind: 'parallel',
    pairs: [{ path: data.train, from: 'de', to: 'en' }],
    batchSize: 6,
    maxSteps: 12,
    learningRate: 3e-3,
    ...overrides,
  },
]

async function weightsOf(alma: Alma): Promise<Map<string, Float32Array>> {
  const weights = new Map<string, Float32Array>()
  for (const [name, tensor] of alma.model.namedParameters()) weights.set(name, await tensor.readFloats())
  return weights
}

/** Trains from the start, or goes on, until `stopAt` steps of all stages are done. */
async function train(folder: string, stopAt: number, resume: boolean): Promise<unknown> {
  const controller = new AbortController()
  const { signal } = controller
  let done = 0
  const onProgress = (event: TrainingEvent): void => {
    if (event.type === 'step') done = event.stage * 12 + event.record.step
    if (event.type === 'step' && done >= stopAt) controller.abort(new Error('stopped'))
  }
  // Another seed than the run began with: every weight must come from the checkpoint.
  await using alma = await tinyAlma(data, resume ? 77 : 5)
  const options = { output: folder, resume, signal, onProgress }
  try {
    const report = await alma.finetune(stages(), options)
    return { losses: report.stages.map(({ losses }) => losses), weights: await weightsOf(alma) }
  } catch (error) {
    if (!signal.aborted) throw error
    return undefined
  }
}

test('interrupted at ten random steps, one after the other, a run ends with the bits of one that was not', async () => {
  const expected = await train(output(), Number.POSITIVE_INFINITY, false)
  const random = new TestRandom(11)
  const steps = Array.from({ length: 23 }, (_, i) => i + 1)
  const stops = Array.from({ length: 10 }, () => steps.splice(random.below(steps.length), 1)[0] ?? 1).sort(
    (a, b) => a - b,
  )
  const folder = output()
  for (const [i, stop] of stops.entries()) expect(await train(folder, stop, i > 0), `step ${stop}`).toBeUndefined()
  expect(await train(folder, Number.POSITIVE_INFINITY, true)).toEqual(expected)
})

test("compat 'transformers-4' takes the mean of the micro-batches' means", async () => {
  const weights = async (overrides: object): Promise<Float32Array[]> => {
    await using alma = await tinyAlma(data)
    await alma.finetune(stages({ maxSteps: 1, warmupRatio: 0, maxGradNorm: 0, epsilon: 1, ...overrides })[1] as Stage)
    return [...(await weightsOf(alma)).values()]
  }
  const distance = (a: Float32Array[], b: Float32Array[]): number =>
    Math.hypot(...a.map((values, i) => Math.hypot(...values.map((value, j) => value - (b[i]?.[j] ?? 0)))))
  const compat = 'transformers-4'
  const whole = await weights({})
  const parts = await weights({ microBatchSize: 1 })
  const before = await weights({ learningRate: 1e-30 })
  // With one micro-batch both are the same; with sentences of different lengths apart they are not.
  expect(await weights({ compat })).toEqual(whole)
  const scale = distance(whole, before)
  expect(distance(whole, parts) / scale).toBeLessThan(1e-3)
  expect(distance(await weights({ microBatchSize: 1, compat }), parts) / scale).toBeGreaterThan(0.01)
})

describe('what is not finite', () => {
  test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
    'a loss of %d changes no weight, whatever the gradients',
    async (value) => {
      await using alma = await tinyAlma(data)
      const { device } = alma
      const optimizer = new Optimizer(alma.model)
      for (const { requiredGradient } of alma.model.parameters()) {
        requiredGradient.write(new Float32Array(requiredGradient.count).fill(0.5))
      }
      const before = await weightsOf(alma)
      using loss = Tensor.from(device, [value])
      optimizer.step(0.1, loss)
      expect(await optimizer.gradNorm.readFloats()).toEqual(new Float32Array([Number.NaN]))
      expect(await weightsOf(alma)).toEqual(before)
      loss.write([3])
      optimizer.step(0.1, loss)
      const [norm = 0] = await optimizer.gradNorm.readFloats()
      expect(norm).toBeCloseTo(0.5 * Math.sqrt(alma.model.parameterCount), 3)
      expect(await weightsOf(alma)).not.toEqual(before)
      optimizer.dispose()
    },
  )

  test('ten steps in a row end the run, count over an interruption, and leave their batch behind', async () => {
    const folder = output()
    const controller = new AbortController()
    const skipped: number[] = []
    const run = async (resume: boolean): Promise<unknown> => {
      await using alma = await tinyAlma(data)
      const poison = (): void => {
        for (const [name, tensor] of alma.model.namedParameters()) {
          if (name === 'model.norm.weight') tensor.write(new Float32Array(tensor.count).fill(Number.NaN))
        }
      }
      poison()
      return await alma.finetune(stages()[1] as Stage, {
        output: folder,
        resume,
        ...(!resume && { signal: controller.signal }),
        onProgress: (event) => {
          if (event.type === 'skipped') skipped.push(event.step)
          if (event.type === 'skipped' && event.step === 4) controller.abort(new Error('stopped'))
        },
      })
    }
    await expect(run(false)).rejects.toThrow('stopped')
    await expect(run(true)).rejects.toMatchObject({
      code: 'ERR_ALMA_DIVERGED',
      message: expect.stringContaining(join(folder, 'diverged-batch.json')),
    })
    expect(skipped).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    const batch = JSON.parse(readFileSync(join(folder, 'diverged-batch.json'), 'utf8'))
    expect(batch).toMatchObject({ stage: 0, step: 10, loss: 'NaN' })
    expect(batch.sequences).toHaveLength(6)
    for (const { inputIds, labels, text } of batch.sequences) {
      expect(labels).toHaveLength(inputIds.length)
      expect(text).toContain('English:')
    }
  })
})

test('a checkpoint of a newer version is refused and left alone', async () => {
  const folder = output()
  await train(folder, 3, false)
  const [name = ''] = readdirSync(join(folder, 'checkpoints')).filter((entry) => entry.startsWith('stage-'))
  const path = join(folder, 'checkpoints', name, 'training-state.json')
  const newer = JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), format: 2 })
  writeFileSync(path, newer)
  await expect(train(folder, 5, true)).rejects.toMatchObject({
    code: 'ERR_ALMA_CHECKPOINT',
    message: expect.stringMatching(
      /training-state\.json: written by a newer version .* format 2, this version reads 1/,
    ),
  })
  expect(existsSync(path)).toBe(true)
  expect(readFileSync(path, 'utf8')).toBe(newer)
})
