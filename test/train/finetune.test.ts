import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Alma, type Stage } from '../../lib/index.js'
import type { TrainingEvent } from '../../lib/train/index.js'
import { type TinyData, tinyAlma, tinyData } from './support.js'

let data: TinyData
beforeAll(async () => {
  data = await tinyData()
})

const output = (): string => join(mkdtempSync(join(tmpdir(), 'alma-out-')), 'model')

function stages(overrides: Partial<Record<'monolingual' | 'parallel', object>> = {}): Stage[] {
  return [
    {
      kind: 'monolingual',
      sources: [
        { path: data.german, language: 'de', probability: 0.7 },
        { path: data.english, language: 'en', probability: 0.3 },
      ],
      validation: [{ path: data.english, language: 'en' }],
      blockSize: 32,
      batchSize: 8,
      maxSteps: 12,
      learningRate: 3e-3,
      ...overrides.monolingual,
    },
    {
      kind: 'parallel',
      pairs: [{ path: data.train, from: 'de', to: 'en' }],
      validation: [{ path: data.validation, from: 'de', to: 'en' }],
      batchSize: 16,
      maxSteps: 14,
      learningRate: 3e-3,
      ...overrides.parallel,
    },
  ]
}

async function weightsOf(alma: Alma): Promise<Map<string, Float32Array>> {
  const weights = new Map<string, Float32Array>()
  for (const [name, tensor] of alma.model.namedParameters()) weights.set(name, await tensor.readFloats())
  return weights
}

describe('finetune', () => {
  test('both stages lower their validation loss, and the model is left in a folder that opens', async () => {
    await using alma = await tinyAlma(data)
    const folder = output()
    const report = await alma.finetune(stages(), { output: folder })
    for (const stage of report.stages) {
      const [first, last] = [stage.validation.at(0), stage.validation.at(-1)]
      expect(last?.loss).toBeLessThan((first?.loss ?? 0) - 0.2)
    }
    expect(report.stages.map(({ kind, steps }) => [kind, steps])).toEqual([
      ['monolingual', 12],
      ['parallel', 14],
    ])
    expect(existsSync(join(folder, 'checkpoints'))).toBe(false)
    await using opened = await Alma.load(folder, { device: process.env.ALMA_DEVICE ?? 'cpu', dtype: 'f32' })
    expect(await weightsOf(opened)).toEqual(await weightsOf(alma))
  })

  test('the same seed gives the same losses, another seed others', async () => {
    const losses = async (seed: number): Promise<number[]> => {
      await using alma = await tinyAlma(data)
      const report = await alma.finetune(stages({ monolingual: { seed } }).slice(0, 1))
      return report.stages.flatMap((stage) => stage.losses.map(({ loss }) => loss))
    }
    const [first, again, other] = [await losses(1), await losses(1), await losses(2)]
    expect(again).toEqual(first)
    expect(other).not.toEqual(first)
  })

  test.each([3, 9, 12, 17])('aborted in step %i and resumed, it ends with the same bits as without', async (step) => {
    const expected = await (async () => {
      await using alma = await tinyAlma(data)
      const report = await alma.finetune(stages(), { output: output() })
      return { weights: await weightsOf(alma), losses: report.stages.map(({ losses }) => losses) }
    })()

    const folder = output()
    const controller = new AbortController()
    let seen = 0
    const onProgress = (event: TrainingEvent): void => {
      if (event.type === 'step' && ++seen === step) controller.abort(new Error('stop now'))
    }
    {
      await using alma = await tinyAlma(data)
      await expect(alma.finetune(stages(), { output: folder, signal: controller.signal, onProgress })).rejects.toThrow(
        'stop now',
      )
    }
    // Another process would start from the base model again: the weights must come from the checkpoint.
    await using alma = await tinyAlma(data, 99)
    let resumedAt = -1
    const report = await alma.finetune(stages(), {
      output: folder,
      resume: true,
      onProgress: (event) => {
        if (event.type === 'stage' && resumedAt < 0) resumedAt = event.resumedAt
      },
    })
    expect(resumedAt).toBe(step <= 12 ? step : step - 12)
    expect(report.stages.map(({ losses }) => losses)).toEqual(expected.losses)
    expect(await weightsOf(alma)).toEqual(expected.weights)
  })

  test('resuming with a changed recipe is refused, naming the field', async () => {
    const folder = output()
    await using alma = await tinyAlma(data)
    const onProgress = (event: TrainingEvent): void => {
      if (event.type === 'step' && event.record.step === 4) controller.abort()
    }
    const controller = new AbortController()
    await expect(alma.finetune(stages(), { output: folder, signal: controller.signal, onProgress })).rejects.toThrow()
    const changed = stages({ parallel: { learningRate: 1e-3 } })
    await expect(alma.finetune(changed, { output: folder, resume: true })).rejects.toMatchObject({
      code: 'ERR_ALMA_RECIPE',
      message: expect.stringContaining('stages[1].learningRate was 0.003 and is 0.001'),
    })
  })

  test('keepBest ends with the weights of the lowest validation loss', async () => {
    await using alma = await tinyAlma(data)
    // A rate that is far too high from the third step on spoils the model after its best moment.
    const spoilt = {
      learningRate: 0.5,
      schedule: 'linear',
      warmupRatio: 1,
      maxSteps: 10,
      evaluationSteps: 1,
      keepBest: true,
    }
    const report = await alma.finetune(stages({ parallel: spoilt })[1] as Stage, { output: output() })
    const [stage] = report.stages
    const lowest = Math.min(...(stage?.validation ?? []).map(({ loss }) => loss))
    const best = stage?.validation.find(({ loss }) => loss === lowest)
    expect(stage?.bestStep).toBe(best?.step)
    expect(stage?.bestStep).toBeLessThan(10)
    const again = await alma.finetune(stages({ parallel: { maxSteps: 1, learningRate: 1e-30 } })[1] as Stage)
    expect(again.stages[0]?.validation[0]?.loss).toBeCloseTo(lowest, 5)
  })

  test('a step over micro-batches equals the step over the whole batch', async () => {
    const run = async (microBatchSize: number): Promise<number[]> => {
      await using alma = await tinyAlma(data)
      const report = await alma.finetune(stages({ parallel: { microBatchSize, maxSteps: 5 } })[1] as Stage)
      return report.stages[0]?.losses.map(({ loss }) => loss) ?? []
    }
    const [whole, parts] = [await run(16), await run(3)]
    for (const [i, loss] of whole.entries()) expect(parts[i]).toBeCloseTo(loss, 4)
  })

  test('bf16 weights train with an f32 master copy', async () => {
    await using alma = await tinyAlma(data, 5, 'bf16')
    const report = await alma.finetune(stages()[1] as Stage)
    const [stage] = report.stages
    expect(stage?.validation.at(-1)?.loss).toBeLessThan((stage?.validation.at(0)?.loss ?? 0) - 0.2)
    for (const [, tensor] of alma.model.namedParameters()) expect(tensor.dtype).toBe('bf16')
  })

  test('frees what training took', async () => {
    await using alma = await tinyAlma(data)
    const before = alma.device.memory().allocated
    await alma.finetune(stages({ monolingual: { maxSteps: 2 } })[0] as Stage)
    expect(alma.device.memory().allocated).toBeLessThan(before * 1.2)
  })
})

describe('bad input', () => {
  const cases: [string, () => unknown, string, string][] = [
    ['an unknown field', () => ({ ...stages()[0], batch_size: 3 }), 'ERR_ALMA_OPTION', 'did you mean "batchSize"'],
    ['a wrong value', () => ({ ...stages()[0], learningRate: -1 }), 'ERR_ALMA_OPTION', '"learningRate": expected'],
    ['an unknown kind', () => ({ kind: 'preferences' }), 'ERR_ALMA_OPTION', '"kind"'],
    [
      'an unknown language',
      () => ({ ...stages()[1], pairs: [{ path: data.train, from: 'xx', to: 'en' }] }),
      'ERR_ALMA_LANGUAGE',
      'xx',
    ],
    [
      'a missing file',
      () => ({ ...stages()[1], pairs: [{ path: '/nowhere/a.jsonl', from: 'de', to: 'en' }] }),
      'ERR_ALMA_IO',
      '/nowhere/a.jsonl',
    ],
    ['no data at all', () => ({ kind: 'parallel' }), 'ERR_ALMA_OPTION', '"pairs" is missing'],
  ]
  test.each(cases)('%s', async (_, stage, code, message) => {
    await using alma = await tinyAlma(data)
    await expect(alma.finetune(stage() as Stage)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(message),
    })
  })

  test('a line that is not JSON, and a corpus without a block, are named', async () => {
    await using alma = await tinyAlma(data)
    const broken = join(data.folder, 'broken.jsonl')
    const good = readFileSync(data.train, 'utf8').split('\n').slice(0, 3).join('\n')
    writeFileSync(broken, `${good}\n{"translation": {"de": "x"\n`)
    const parallel = { kind: 'parallel', pairs: [{ path: broken, from: 'de', to: 'en' }] } as const
    await expect(alma.finetune(parallel)).rejects.toMatchObject({
      code: 'ERR_ALMA_CORPUS',
      message: expect.stringMatching(/broken\.jsonl.*4/),
    })
    const short = join(data.folder, 'short.txt')
    writeFileSync(short, 'Kurz.\n')
    const monolingual = { kind: 'monolingual', sources: [{ path: short, language: 'de' }], maxSteps: 3 } as const
    await expect(alma.finetune(monolingual)).rejects.toMatchObject({
      code: 'ERR_ALMA_CORPUS',
      message: expect.stringContaining('not one training example'),
    })
  })

  test('a learning rate that makes the model diverge ends the run with advice instead of NaN weights', async () => {
    await using alma = await tinyAlma(data)
    for (const [name, tensor] of alma.model.namedParameters()) {
      if (name === 'model.norm.weight') tensor.write(new Float32Array(tensor.count).fill(Number.NaN))
    }
    await expect(alma.finetune(stages()[1] as Stage)).rejects.toMatchObject({
      code: 'ERR_ALMA_DIVERGED',
      message: expect.stringContaining('lower learningRate'),
    })
  })
})

afterAll(async () => {
  const { rm } = await import('node:fs/promises')
  await rm(data.folder, { recursive: true, force: true })
})
