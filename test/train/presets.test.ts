/** The published recipes: their values, and recipes that begin with them. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type PassThrough, Readable, Writable } from 'node:stream'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runCli } from '../../lib/cli/run.js'
import { presetNames, readRecipe, recipePreset } from '../../lib/train/index.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'alma-presets-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function read(recipe: object): ReturnType<typeof readRecipe> {
  const path = join(folder, 'recipe.json')
  await writeFile(path, JSON.stringify(recipe))
  return await readRecipe(path)
}

async function printed(name: string): Promise<{ code: number; stdout: string; stderr: string }> {
  let [stdout, stderr] = ['', '']
  const sink = (add: (text: string) => void): Writable =>
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        add(chunk.toString())
        done()
      },
    })
  const code = await runCli(['train', '--print-recipe', name], {
    stdin: Readable.from([]) as PassThrough,
    stdout: sink((text) => (stdout += text)),
    stderr: sink((text) => (stderr += text)),
    signal: new AbortController().signal,
  })
  return { code, stdout, stderr }
}

const adamW = { weightDecay: 0.01, warmupRatio: 0.01, betas: [0.9, 0.999], epsilon: 1e-8, maxGradNorm: 1, seed: 42 }
const lora16 = { rank: 16, alpha: 32, useRslora: false, targetModules: ['down_proj'] }
const stage2 = {
  ...adamW,
  kind: 'parallel',
  bidirectional: true,
  maxSourceLength: 256,
  maxNewTokens: 256,
  batchSize: 256,
  schedule: 'inverse_sqrt',
  epochs: 1,
  keepBest: true,
  compat: 'alma',
  drop: [],
  pairs: ['de', 'cs', 'is', 'zh', 'ru'].map((from) => ({ path: `train.${from}-en.json`, from, to: 'en' })),
}

describe('presets', () => {
  test('are those of the papers', () => {
    expect(presetNames).toEqual(['alma', 'alma-lora', 'alma-r', 'x-alma'])
    const [mono, parallel] = recipePreset('alma').stages
    expect(mono).toMatchObject({
      ...adamW,
      kind: 'monolingual',
      blockSize: 512,
      batchSize: 256,
      maxSteps: 600_000,
      learningRate: 2e-5,
      schedule: 'cosine',
      sources: [
        { language: 'en', probability: 0.17 },
        { language: 'ru', probability: 0.22 },
        { language: 'cs', probability: 0.14 },
        { language: 'zh', probability: 0.19 },
        { language: 'is', probability: 0.08 },
        { language: 'de', probability: 0.2 },
      ],
    })
    expect(parallel).toMatchObject({ ...stage2, learningRate: 2e-5, evaluationSteps: 0.1 })
    expect(recipePreset('alma-lora').stages).toMatchObject([
      { ...stage2, learningRate: 2e-3, evaluationSteps: 0.05, lora: { ...lora16, dropout: 0.05 } },
    ])
    expect(recipePreset('alma-r').stages).toMatchObject([
      {
        ...adamW,
        kind: 'preference',
        loss: 'cpo',
        beta: 0.1,
        cpoAlpha: 1,
        labelSmoothing: 0,
        learningRate: 1e-4,
        schedule: 'inverse_sqrt',
        batchSize: 128,
        epochs: 1,
        maxLength: 512,
        maxPromptLength: 256,
        lora: { ...lora16, dropout: 0 },
      },
    ])
    const xAlma = recipePreset('x-alma').stages
    const module = { rank: 512, alpha: 1024, targetModules: 'all-linear' }
    expect(xAlma).toMatchObject([
      { kind: 'monolingual', maxTokens: 20e9 },
      { kind: 'monolingual', maxTokens: 10e9, lora: { ...module, dropout: 0.05 } },
      { kind: 'monolingual', maxTokens: 1.25e9, lora: { ...module, dropout: 0.05 } },
      { kind: 'parallel', promptStyle: 'x-alma', lora: { ...module, dropout: 0.05 } },
      {
        kind: 'preference',
        loss: 'arpo',
        relaxCoefficient1: 1,
        relaxCoefficient2: 1.5,
        lora: { ...module, dropout: 0 },
      },
    ])
    expect(xAlma[0]?.lora).toBeUndefined()
    const languagesOf = (index: number): string[] => {
      const stage = xAlma[index]
      return stage?.kind === 'monolingual' ? stage.sources.map((s) => ('language' in s ? s.language : s.from)) : []
    }
    expect(languagesOf(0).length).toBe(50)
    expect(languagesOf(2)).toEqual(['ka', 'zh', 'ja', 'ko', 'fi', 'et'])
  })

  test.each(presetNames)('%s is printed as a recipe that can be read, with every value', async (name) => {
    const { code, stdout, stderr } = await printed(name)
    expect(code).toBe(0)
    expect(stderr).toMatch(/ALMA/)
    const recipe = JSON.parse(stdout) as { model: string; adapter?: string; stages: object[] }
    const { stages, adapter } = recipePreset(name)
    expect(recipe.stages).toEqual(JSON.parse(JSON.stringify(stages)))
    const again = await read(recipe)
    expect(again.adapter).toEqual(adapter === undefined ? undefined : join(folder, adapter))
    again.stages.forEach((stage, index) => {
      const { sources, pairs, data, validation, ...rest } = stage as unknown as Record<string, unknown>
      expect(recipe.stages[index]).toMatchObject(rest)
      expect(JSON.stringify({ sources, pairs, data, validation })).toContain(folder)
    })
  })

  test('a recipe says its data and what is to be different', async () => {
    const pairs = [{ path: 'mine.tsv', from: 'de', to: 'en' }]
    const { stages } = await read({
      preset: 'alma-lora',
      model: 'm',
      output: 'o',
      stages: [{ pairs, lora: { rank: 8 }, learningRate: 1e-3, compat: null }],
    })
    const [stage] = stages
    expect(stage).toMatchObject({
      kind: 'parallel',
      pairs: [{ path: join(folder, 'mine.tsv') }],
      learningRate: 1e-3,
      schedule: 'inverse_sqrt',
      lora: { ...lora16, dropout: 0.05, rank: 8 },
    })
    expect(stage).not.toHaveProperty('compat')
    // Nothing is kept of the example's files, and without validation no best weights.
    expect(stage).not.toHaveProperty('validation')
    expect(stage).not.toHaveProperty('keepBest')
    const limited = await read({
      preset: 'alma',
      model: 'm',
      output: 'o',
      stages: [{ sources: [{ path: 'a', language: 'de' }], maxTokens: 1e6 }, { pairs }],
    })
    expect(limited.stages[0]).toMatchObject({ maxTokens: 1e6, blockSize: 512 })
    expect(limited.stages[0]).not.toHaveProperty('maxSteps')
  })

  const base = { preset: 'alma-r', model: 'm', output: 'o' }
  test.each([
    [
      { ...base, preset: 'alma-rr', stages: [{}] },
      /recipe.json: no recipe "alma-rr"; did you mean "alma-r"\?; there are alma,/,
    ],
    [{ ...base, preset: 3, stages: [{}] }, /"preset": expected one of alma, alma-lora/],
    [{ ...base, stages: [{}] }, /stages\[0\]: "data" is missing/],
    [{ ...base, stages: [{}, {}] }, /has 1 \(preference\), each needs its data; got 2/],
    [{ ...base, stages: [{ kind: 'parallel' }] }, /has 'preference' here, got "parallel"/],
    [{ ...base, stages: ['x'] }, /stages\[0\]: expected an object with the data/],
    [{ ...base, stages: [{ data: 'x', lernRate: 1 }] }, /unknown field "lernRate"/],
    [{ ...base, stages: [{ data: 'x', learningRat: 1 }] }, /did you mean "learningRate"/],
    [{ ...base, stages: [{ data: 'x', lora: { alhpa: 3 } }] }, /"alhpa".*did you mean "alpha"/],
    [{ ...base, adaptor: 'x', stages: [{ data: 'x' }] }, /unknown field "adaptor"; did you mean "adapter"/],
    [{ ...base, stages: [{ data: 'x', saveSteps: 1.5 }] }, /"saveSteps": expected a positive integer, or a part/],
  ])('%j is refused', async (recipe, message) => {
    await expect(read(recipe)).rejects.toMatchObject({
      code: 'ERR_ALMA_RECIPE',
      message: expect.stringMatching(message),
    })
  })

  test('a name that there is not is refused on the command line too', async () => {
    const { code, stderr } = await printed('alma-lroa')
    expect(code).not.toBe(0)
    expect(stderr).toMatch(/no recipe "alma-lroa"; did you mean "alma-lora"/)
  })
})
