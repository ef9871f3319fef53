import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ParallelStage, ValidationRecord } from '../../lib/index.js'
import { readParallel } from '../../lib/text/index.js'
import { standingOf, stopsEarly } from '../../lib/train/best-evaluation.js'
import { type TinyData, tinyAlma, tinyData } from './support.js'

let data: TinyData
beforeAll(async () => {
  data = await tinyData()
})
afterAll(() => rmSync(data.folder, { recursive: true, force: true }))

const output = (): string => join(mkdtempSync(join(data.folder, 'out-')), 'model')

function stage(overrides: Partial<ParallelStage> = {}): ParallelStage {
  return {
    kind: 'parallel',
    pairs: [{ path: data.train, from: 'de', to: 'en' }],
    validation: [{ path: data.validation, from: 'de', to: 'en' }],
    batchSize: 16,
    maxSteps: 12,
    evaluationSteps: 4,
    maxNewTokens: 24,
    learningRate: 3e-3,
    ...overrides,
  }
}

describe('standing of evaluations', () => {
  const records = (...losses: number[]): ValidationRecord[] => losses.map((loss, i) => ({ step: i, loss, chrf: -loss }))

  test('the best is the first of the lowest losses, or of the highest scores', () => {
    expect(standingOf(records(3, 1, 2, 1), {}).best?.step).toBe(1)
    expect(standingOf(records(3, 1, 2, 0.5), { metricForBestModel: 'chrf' }).best?.step).toBe(3)
    expect(standingOf(records(Number.NaN), {}).best).toBeUndefined()
    expect(standingOf(records(Number.NaN, 2), {}).best?.step).toBe(1)
  })

  test('patience counts evaluations in a row that are not better by more than the threshold', () => {
    expect(stopsEarly(records(3, 2, 2.1, 2.2), { earlyStoppingPatience: 2 })).toBe(true)
    expect(stopsEarly(records(3, 2, 2.1, 1.9), { earlyStoppingPatience: 2 })).toBe(false)
    expect(stopsEarly(records(3, 2.95, 2.92), { earlyStoppingPatience: 2, earlyStoppingThreshold: 0.1 })).toBe(true)
    // Small steps add up: the mark is the last progress, not the last record.
    expect(standingOf(records(3, 2.95, 2.89), { earlyStoppingThreshold: 0.1 }).withoutBetter).toBe(0)
    expect(stopsEarly(records(1, 2, 3, 4), {})).toBe(false)
  })
})

describe('evaluations', () => {
  test('losses of the directions, and scores of greedy translations of the drawn sentences', async () => {
    await using alma = await tinyAlma(data)
    const all = await alma.finetune(stage({ maxSteps: 60, evaluationSteps: 60, predictWithGenerate: true }))
    const last = all.stages[0]?.validation.at(-1)
    expect(Object.keys(last?.losses ?? {})).toEqual(['de-en', 'en-de'])
    expect(Object.keys(last?.scores ?? {})).toEqual(['de-en', 'en-de'])
    // Twelve validation pairs are fewer than the sample: all of them are translated, as evaluate() does.
    for (const [from, to] of [
      ['de', 'en'],
      ['en', 'de'],
    ] as const) {
      const direction = `${from}-${to}`
      const pairs: { source: string; target: string }[] = []
      for await (const pair of readParallel(data.validation, { from, to })) pairs.push(pair)
      const expected = await alma.evaluate(pairs, { from, to, maxNewTokens: 24 })
      expect(last?.scores?.[direction]?.bleu).toBeCloseTo(expected.bleu.score, 10)
      expect(last?.scores?.[direction]?.chrf).toBeCloseTo(expected.chrf.score, 10)
      expect(last?.losses?.[direction]).toBeCloseTo(expected.loss ?? 0, 4)
      expect(last?.samples?.filter((sample) => sample.direction === direction)).toEqual(
        expected.sentences
          .slice(0, 4)
          .map(({ source, reference, translation }) => ({ direction, source, reference, translation })),
      )
    }
    const scores = Object.values(last?.scores ?? {})
    expect(last?.chrf).toBeCloseTo(scores.reduce((sum, { chrf }) => sum + chrf, 0) / 2, 10)
    expect(last?.chrf).toBeGreaterThan(0)
  })

  test('a smaller sample is the same at every evaluation and in every run', async () => {
    const sources = async (seed: number): Promise<string[][]> => {
      await using alma = await tinyAlma(data)
      const report = await alma.finetune(
        stage({ maxSteps: 2, evaluationSteps: 1, predictWithGenerate: true, predictSamples: 3, seed }),
      )
      return report.stages[0]?.validation.map(({ samples = [] }) => samples.map(({ source }) => source)) ?? []
    }
    const [first, second] = [await sources(1), await sources(2)]
    expect(first).toHaveLength(3)
    expect(first[0]).toHaveLength(6)
    expect(first[1]).toEqual(first[0])
    expect(first[2]).toEqual(first[0])
    expect(await sources(1)).toEqual(first)
    expect(second).not.toEqual(first)
  })

  test('monolingual stages have losses by language, and translate pairs of their own', async () => {
    await using alma = await tinyAlma(data)
    const report = await alma.finetune({
      kind: 'monolingual',
      sources: [{ path: data.german, language: 'de' }],
      validation: [
        { path: data.german, language: 'de' },
        { path: data.english, language: 'en' },
      ],
      predictWithGenerate: true,
      predictPairs: [{ path: data.validation, from: 'de', to: 'en' }],
      predictSamples: 2,
      blockSize: 32,
      batchSize: 8,
      maxSteps: 2,
    })
    const last = report.stages[0]?.validation.at(-1)
    expect(Object.keys(last?.losses ?? {})).toEqual(['de', 'en'])
    expect(last?.chrf).toBeGreaterThanOrEqual(0)
  })

  const spoilt = { learningRate: 0.5, schedule: 'linear', warmupRatio: 1, maxSteps: 20, evaluationSteps: 1 } as const

  test('a stage ends when its evaluations become no better, with the best weights', async () => {
    await using alma = await tinyAlma(data)
    const report = await alma.finetune(stage({ ...spoilt, earlyStoppingPatience: 2, keepBest: true }), {
      output: output(),
    })
    const [result] = report.stages
    expect(result?.stoppedEarly).toBe(true)
    expect(result?.steps).toBeLessThan(20)
    expect(result?.steps).toBe((result?.bestStep ?? 0) + 2)
    const again = await alma.finetune(stage({ maxSteps: 1, learningRate: 1e-30 }))
    const best = result?.validation.find(({ step }) => step === result.bestStep)
    expect(again.stages[0]?.validation[0]?.loss).toBeCloseTo(best?.loss ?? 0, 5)
  })

  test('interrupted and resumed, it stops at the same step with the same records; the next stage follows', async () => {
    const stages = [
      stage({ ...spoilt, earlyStoppingPatience: 3, keepBest: true, metricForBestModel: 'chrf', predictSamples: 4 }),
      stage({ maxSteps: 2 }),
    ]
    const whole = await (async () => {
      await using alma = await tinyAlma(data)
      return await alma.finetune(stages, { output: output() })
    })()
    expect(whole.stages[0]?.stoppedEarly).toBe(true)
    const last = whole.stages[0]?.steps ?? 0
    for (const step of [1, last - 1, last]) {
      const folder = output()
      const controller = new AbortController()
      {
        await using alma = await tinyAlma(data)
        const run = alma.finetune(stages, {
          output: folder,
          signal: controller.signal,
          onProgress: (event) => {
            if (event.type === 'step' && event.stage === 0 && event.record.step === step)
              controller.abort(new Error('stop'))
          },
        })
        await expect(run).rejects.toThrow('stop')
      }
      await using alma = await tinyAlma(data, 99)
      const resumed = await alma.finetune(stages, { output: folder, resume: true })
      const comparable = (report: typeof whole) => report.stages.map(({ seconds: _, ...rest }) => rest)
      expect(comparable(resumed)).toEqual(comparable(whole))
    }
  })

  test.each<[string, Partial<ParallelStage>, RegExp]>([
    [
      'patience without validation',
      { validation: undefined as never, earlyStoppingPatience: 2 },
      /"earlyStoppingPatience" needs "validation"/,
    ],
    [
      'a metric that is not measured',
      { metricForBestModel: 'bleu', predictWithGenerate: false },
      /needs "predictWithGenerate"/,
    ],
    ['a metric that does not exist', { metricForBestModel: 'comet' as 'bleu' }, /one of 'loss', 'bleu', 'chrf'/],
    ['a sample that is not drawn', { predictSamples: 3 }, /"predictSamples" needs "predictWithGenerate"/],
    ['a threshold without patience', { earlyStoppingThreshold: 1 }, /needs "earlyStoppingPatience"/],
  ])('%s is refused', async (_, fields, message) => {
    await using alma = await tinyAlma(data)
    await expect(alma.finetune(stage(fields))).rejects.toMatchObject({
      code: 'ERR_ALMA_OPTION',
      message: expect.stringMatching(message),
    })
  })
})
