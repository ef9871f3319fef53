/** The preference stage: what it learns, logs and refuses, and going on. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Alma, type PreferenceStage, type Stage, type StageReport } from '../../lib/index.js'
import type { TrainingEvent } from '../../lib/train/index.js'
import { resolveStage } from '../../lib/train/stages.js'
import { type TinyData, tinyAlma, tinyData } from './support.js'

const device = process.env.ALMA_DEVICE ?? 'cpu'
let data: TinyData
let folder: string
let train: string
let validation: string
let base: string
beforeAll(async () => {
  data = await tinyData()
  folder = await mkdtemp(join(tmpdir(), 'alma-preference-'))
  const rowsOf = async (path: string): Promise<object[]> => {
    const pairs = (await readFile(path, 'utf8')).trim().split('\n')
    const texts = pairs.map((line) => (JSON.parse(line) as { translation: { de: string; en: string } }).translation)
    // The rejected response has the words of the chosen one in the wrong order.
    return texts.map(({ de, en }) => ({
      source: de,
      chosen: en,
      rejected: en.split(' ').reverse().join(' '),
      from: 'de',
      to: 'en',
    }))
  }
  train = await write('train.jsonl', (await rowsOf(data.train)).slice(0, 120))
  validation = await write('valid.jsonl', await rowsOf(data.validation))
  base = join(folder, 'base')
  await using alma = await tinyAlma(data, 5, 'f32', device, 0.2)
  await alma.save(base)
})
afterAll(async () => {
  await rm(folder, { recursive: true, force: true })
  await rm(data.folder, { recursive: true, force: true })
})

async function write(name: string, rows: readonly object[]): Promise<string> {
  const path = join(folder, name)
  await writeFile(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''))
  return path
}

const load = (): Promise<Alma> => Alma.load(base, { device, dtype: 'f32' })

function stage(fields: object = {}): Stage {
  return { kind: 'preference', data: train, batchSize: 8, maxSteps: 12, learningRate: 1e-2, ...fields }
}

async function trained(fields: object = {}): Promise<StageReport> {
  await using alma = await load()
  const { stages } = await alma.finetune(stage(fields))
  return stages[0] as StageReport
}

const metricNames = [
  'logps/chosen',
  'logps/rejected',
  'nll_loss',
  'rewards/accuracies',
  'rewards/chosen',
  'rewards/margins',
  'rewards/rejected',
]

describe('the preference stage', () => {
  test.each(['cpo', 'arpo', 'simpo', 'hinge', 'ipo'] as const)('%s learns to prefer the chosen ones', async (loss) => {
    const beta = { cpo: 0.1, arpo: 0.1, simpo: 2, hinge: 0.1, ipo: 0.5 }[loss]
    const report = await trained({ loss, beta, validation, evaluationSteps: 12, maxSteps: 24 })
    expect(report.kind).toBe('preference')
    const [before, after] = [report.validation.at(0), report.validation.at(-1)]
    expect(after?.loss).toBeLessThan((before?.loss ?? 0) - 0.05)
    expect(Object.keys(after?.losses ?? {})).toEqual(['de-en'])
    expect(after?.metrics?.['rewards/margins']).toBeGreaterThan(before?.metrics?.['rewards/margins'] ?? 0)
    for (const { metrics = {}, loss: total } of report.losses) {
      expect(Object.keys(metrics).sort()).toEqual(metricNames)
      expect(metrics['rewards/margins']).toBeCloseTo(
        (metrics['rewards/chosen'] ?? 0) - (metrics['rewards/rejected'] ?? 0),
        4,
      )
      expect(metrics['rewards/chosen']).toBeCloseTo(beta * (metrics['logps/chosen'] ?? 0), 4)
      expect(total).toBeGreaterThanOrEqual(metrics.nll_loss ?? 0)
    }
  })

  test('its first loss is that of the pairs by themselves, whatever the micro-batches', async () => {
    const fields = { data: validation, batchSize: 12, maxSteps: 2 }
    const whole = await trained({ ...fields, microBatchSize: 12 })
    const parts = await trained({ ...fields, microBatchSize: 5 })
    for (const [i, { loss, gradNorm, metrics = {} }] of whole.losses.entries()) {
      const other = parts.losses[i]
      expect(other?.loss).toBeCloseTo(loss, 4)
      expect(Math.abs((other?.gradNorm ?? 0) / gradNorm - 1)).toBeLessThan(1e-3)
      for (const [name, value] of Object.entries(metrics)) expect(other?.metrics?.[name]).toBeCloseTo(value, 3)
    }
    // By the scores that the library itself gives.
    await using alma = await load()
    const rows = (await readFile(validation, 'utf8')).trim().split('\n')
    const pairs = rows.map((line) => JSON.parse(line) as { source: string; chosen: string; rejected: string })
    const score = async (side: 'chosen' | 'rejected'): Promise<number> => {
      const list = pairs.map((row) => ({ source: row.source, target: row[side], from: 'de', to: 'en' }))
      return (await alma.score(list)).reduce((sum, { logprob }) => sum + logprob, 0) / pairs.length
    }
    expect(whole.losses[0]?.metrics?.['logps/chosen']).toBeCloseTo(await score('chosen'), 2)
    expect(whole.losses[0]?.metrics?.['logps/rejected']).toBeCloseTo(await score('rejected'), 2)
  })

  test('compat transformers-4 weighs micro-batches, not pairs', async () => {
    const fields = { data: validation, batchSize: 12, maxSteps: 1, microBatchSize: 7, seed: 3 }
    const [plain, compat] = [await trained(fields), await trained({ ...fields, compat: 'transformers-4' })]
    expect(compat.losses[0]?.loss).toBeCloseTo(plain.losses[0]?.loss ?? 0, 5)
    expect(compat.losses[0]?.gradNorm).not.toBeCloseTo(plain.losses[0]?.gradNorm ?? 0, 4)
  })

  test.each([false, true])('aborted and resumed (lora: %s), it ends with the same bits', async (adapter) => {
    const fields = adapter ? { lora: { rank: 4, targetModules: 'all-linear', dropout: 0.1 } } : {}
    const weightsOf = async (alma: Alma): Promise<Float32Array[]> => {
      const tensors = [...alma.model.parameters()].map(({ tensor }) => tensor)
      return await Promise.all(tensors.map((tensor) => tensor.readFloats()))
    }
    await using whole = await load()
    const report = await whole.finetune(stage({ validation, ...fields }), { output: join(folder, `whole-${adapter}`) })
    const output = join(folder, `resumed-${adapter}`)
    {
      await using alma = await load()
      const controller = new AbortController()
      const onProgress = (event: TrainingEvent): void => {
        if (event.type === 'step' && event.record.step === 5) controller.abort(new Error('stop now'))
      }
      const run = alma.finetune(stage({ validation, ...fields }), { output, signal: controller.signal, onProgress })
      await expect(run).rejects.toThrow('stop now')
    }
    await using alma = await load()
    const resumed = await alma.finetune(stage({ validation, ...fields }), { output, resume: true })
    expect(resumed.stages[0]?.losses).toEqual(report.stages[0]?.losses)
    expect(resumed.stages[0]?.validation).toEqual(report.stages[0]?.validation)
    expect(await weightsOf(alma)).toEqual(await weightsOf(whole))
    // Metrics are in the log under trl's names, and in the report.
    const log = (await readFile(join(output, 'training-log.jsonl'), 'utf8')).trim().split('\n')
    const steps = log.map((line) => JSON.parse(line) as TrainingEvent).filter(({ type }) => type === 'step')
    expect(steps.length).toBeGreaterThanOrEqual(12)
    for (const event of steps) {
      if (event.type === 'step') expect(Object.keys(event.record.metrics ?? {}).sort()).toEqual(metricNames)
    }
    expect(await readFile(join(output, 'report.html'), 'utf8')).toContain('Reward accuracy')
  })

  test('leaves out rows whose responses are the same, and says so', async () => {
    const same = { source: 'Das Haus ist alt.', chosen: 'It is old.', rejected: 'It is old. ', from: 'de', to: 'en' }
    const other = { ...same, rejected: 'Old it is.' }
    const path = await write('same.jsonl', [same, other])
    await using alma = await load()
    const findings: unknown[] = []
    await alma.finetune(stage({ data: [{ path }], maxSteps: undefined, epochs: 1 }), {
      onProgress: (event) => {
        if (event.type === 'data') findings.push(...event.report.files.map((file) => [file.kept, file.findings]))
      },
    })
    expect(findings).toEqual([[1, [{ finding: 'identicalSides', dropped: true, count: 1, lines: [1] }]]])
    const only = await write('only-same.jsonl', [same])
    await expect(alma.finetune(stage({ data: only }))).rejects.toMatchObject({
      code: 'ERR_ALMA_CORPUS',
      message: expect.stringMatching(/only-same\.jsonl.*at least one row whose responses differ/),
    })
  })

  test.each([
    [{ rejected: undefined }, /broken\.jsonl:2.*"rejected" is missing/],
    [{ rejected: ' ' }, /broken\.jsonl:2: "rejected" is blank/],
    [{ chosen: 3 }, /broken\.jsonl:2: "chosen" is a number/],
  ])('a row with %j is named with its file and line', async (fields, message) => {
    const row = { source: 'Eins.', chosen: 'One.', rejected: 'Two.', from: 'de', to: 'en' }
    const path = await write('broken.jsonl', [row, { ...row, ...fields }])
    await using alma = await load()
    await expect(alma.finetune(stage({ data: path }))).rejects.toMatchObject({
      code: 'ERR_ALMA_CORPUS',
      message: expect.stringMatching(message),
    })
  })

  test.each([
    [{ data: undefined }, /"data" is missing/],
    [{ data: [] }, /"data": expected a list of at least one file/],
    [{ data: [{ path: 'x', form: 'de' }] }, /"data".*not "form"/],
    [{ loss: 'dpo' }, /"loss": expected one of 'cpo'/],
    [{ bta: 1 }, /unknown field "bta".*did you mean "beta"/],
    [{ eta: 1.5 }, /"eta" is for loss 'arpo', not 'cpo'/],
    [{ loss: 'arpo', eta: 1.5, relaxCoefficient1: 1 }, /"eta" replaces the relaxCoefficients/],
    [{ loss: 'hinge', labelSmoothing: 0.1 }, /"labelSmoothing" is not for loss 'hinge'/],
    [{ maxPromptLength: 512 }, /"maxPromptLength": expected an integer from 2 to below maxLength \(512\), got 512/],
    [{ predictWithGenerate: true, validation: 'v' }, /"predictPairs" is missing/],
  ])('%j is refused', async (fields, message) => {
    await using alma = await load()
    await expect(alma.finetune(stage({ data: 'rows.jsonl', ...fields }))).rejects.toMatchObject({
      code: 'ERR_ALMA_OPTION',
      message: expect.stringMatching(message),
    })
  })

  test('defaults are those of ALMA-R; eta is the paper’s form of ARPO', () => {
    const resolved = (fields: Partial<PreferenceStage>): unknown =>
      resolveStage({ kind: 'preference', data: 'a.jsonl', ...fields }, 'stages[0]')
    expect(resolved({ lora: {} })).toMatchObject({
      data: [{ path: 'a.jsonl' }],
      loss: 'cpo',
      beta: 0.1,
      cpoAlpha: 1,
      labelSmoothing: 0,
      maxLength: 512,
      maxPromptLength: 256,
      learningRate: 1e-4,
      schedule: 'inverse_sqrt',
      warmupRatio: 0.01,
      lora: { rank: 16, alpha: 32, dropout: 0, targetModules: ['down_proj'] },
    })
    expect(resolved({ loss: 'arpo' })).toMatchObject({ relaxCoefficient1: 0.9, relaxCoefficient2: 0.4 })
    expect(resolved({ loss: 'arpo', eta: 1.5 })).toMatchObject({ relaxCoefficient1: 1, relaxCoefficient2: 1.5 })
  })
})
