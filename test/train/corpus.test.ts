import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { FinetuneOptions, MonolingualStage, ParallelStage, Stage } from '../../lib/index.js'
import { loadTokenizer, saveTrainedTokenizer, type Tokenizer, trainBpeTokenizer } from '../../lib/text/index.js'
import type { DataReport } from '../../lib/train/data-report.js'
import { countExamples, openExamples } from '../../lib/train/examples.js'
import { StageCorpus } from '../../lib/train/stage-corpus.js'
import { resolveStage } from '../../lib/train/stages.js'
import { type TinyData, tinyAlma, tinyData } from './support.js'

let data: TinyData
let tokenizer: Tokenizer
beforeAll(async () => {
  data = await tinyData()
  tokenizer = (await loadTokenizer(data.tokenizer)) as Tokenizer
})
afterAll(() => rmSync(data.folder, { recursive: true, force: true }))

const newFolder = (): string => mkdtempSync(join(data.folder, 'cache-'))

function file(name: string, lines: readonly (object | string)[]): string {
  const path = join(data.folder, name)
  writeFileSync(path, lines.map((line) => `${typeof line === 'string' ? line : JSON.stringify(line)}\n`).join(''))
  return path
}

const pair = (de: string, en: string): object => ({ translation: { de, en } })

function parallel(path: string, overrides: Partial<ParallelStage> = {}): ParallelStage {
  return { kind: 'parallel', pairs: [{ path, from: 'de', to: 'en' }], batchSize: 8, learningRate: 3e-3, ...overrides }
}

function monolingual(overrides: Partial<MonolingualStage> = {}): MonolingualStage {
  return {
    kind: 'monolingual',
    sources: [
      { path: data.german, language: 'de', probability: 0.4 },
      { path: data.english, language: 'en', probability: 0.6 },
    ],
    blockSize: 32,
    batchSize: 8,
    learningRate: 3e-3,
    ...overrides,
  }
}

/** All examples of `epochs` passes, and what was said about the data. */
async function examplesOf(stage: Stage, tokenCache?: string, epochs = 1) {
  const resolved = resolveStage(stage, 'stage')
  const corpus = await StageCorpus.open(tokenizer, resolved, tokenCache === undefined ? {} : { tokenCache })
  try {
    const stream = openExamples(corpus, resolved, epochs)
    const examples = []
    for (let next = await stream.next(); next !== undefined; next = await stream.next()) examples.push(next)
    return { examples, report: corpus.report, count: await countExamples(corpus, resolved, epochs) }
  } finally {
    await corpus.close()
  }
}

const findingsOf = (report: DataReport): [string, boolean, number, readonly number[]][] =>
  report.files.flatMap(({ findings }) =>
    findings.map(({ finding, dropped, count, lines }): [string, boolean, number, readonly number[]] => [
      finding,
      dropped,
      count,
      lines,
    ]),
  )

describe('the check of the data', () => {
  const lines = [
    pair('Das Haus ist alt.', 'The house is old.'),
    pair('', 'Nothing there.'),
    pair('Berlin', 'Berlin'),
    pair('Das ist ein Satz auf Deutsch.', 'Это предложение на русском языке.'),
    pair('Der Hund schläft.', '   '),
    pair('wort '.repeat(300), 'The end.'),
    pair('Ein kurzer Satz.', 'word '.repeat(300)),
    pair('iPhone 12', '苹果 12'),
  ]

  test('says what is left out, and why', async () => {
    const path = file('findings.jsonl', lines)
    const { examples, report, count } = await examplesOf(parallel(path, { maxSourceLength: 64, maxNewTokens: 64 }))
    expect(findingsOf(report)).toEqual([
      ['emptySide', true, 2, [2, 5]],
      ['identicalSides', true, 1, [3]],
      ['wrongScript', true, 1, [4]],
      // Line 6 de-en has no room for its target; en-de is cut, and line 7 the other way round.
      ['nothingLeft', true, 2, [6, 7]],
      ['tooLong', false, 2, [6, 7]],
    ])
    const [found] = report.files
    expect(found).toMatchObject({ path, languages: 'de-en', read: 8, complete: true, kept: 6, warnings: [] })
    expect(examples).toHaveLength(6)
    expect(count).toBe(6)
    expect(found?.tokens).toBe(examples.reduce((sum, { inputIds }) => sum + inputIds.length, 0))
    for (const { labels } of examples) expect(labels.some((label) => label >= 0)).toBe(true)
  })

  test('leaves out what the recipe says', async () => {
    const path = file('findings.jsonl', lines)
    const limits = { maxSourceLength: 64, maxNewTokens: 64 }
    const all = await examplesOf(parallel(path, { ...limits, drop: ['identicalSides', 'wrongScript', 'tooLong'] }))
    expect(all.examples).toHaveLength(4)
    expect(all.count).toBe(4)
    const none = await examplesOf(parallel(path, { ...limits, drop: [] }))
    expect(none.examples).toHaveLength(10)
    expect(none.report.files[0]?.findings.filter(({ dropped }) => dropped).map(({ finding }) => finding)).toEqual([
      'emptySide',
      'nothingLeft',
    ])
    expect(resolveStage(parallel(path, { compat: 'alma' }), 'stage').drop).toEqual([])
  })

  test('of monolingual text', async () => {
    const path = file('mono.txt', ['Das ist Deutsch.', '', 'Это по-русски, не по-немецки.', 'Noch ein Satz.'])
    const stage = monolingual({ sources: [{ path, language: 'de' }], blockSize: 4 })
    const { report } = await examplesOf(stage)
    expect(findingsOf(report)).toEqual([
      ['emptySide', true, 1, [2]],
      ['wrongScript', true, 1, [3]],
    ])
    expect(report.files[0]).toMatchObject({ languages: 'de', read: 4, kept: 2 })
  })

  test('notices sides that are exchanged, and a file of another language', async () => {
    const exchanged = { ...parallel(data.train), pairs: [{ path: data.train, from: 'en', to: 'de' }] }
    const swapped = file(
      'swapped.jsonl',
      readFileSync(data.train, 'utf8')
        .trim()
        .split('\n')
        .map((line) => {
          const { translation } = JSON.parse(line) as { translation: { de: string; en: string } }
          return pair(translation.en, translation.de)
        }),
    )
    const [right, wrong] = [await examplesOf(exchanged), await examplesOf(parallel(swapped))]
    // The languages of the records are named: asking for the other direction is no mistake.
    expect(right.report.files[0]?.warnings).toEqual([])
    expect(wrong.report.files[0]?.warnings).toEqual([
      'the sides seem to be exchanged: what should be German reads like English',
    ])
    const named = await examplesOf(monolingual({ sources: [{ path: data.german, language: 'fr' }] }))
    expect(named.report.files[0]?.warnings).toEqual(['what should be French reads like German'])
  })

  test('a file of which nothing is left says why', async () => {
    await using alma = await tinyAlma(data)
    const path = file('copies.jsonl', [pair('Eins.', 'Eins.'), pair('Zwei.', 'Zwei.')])
    await expect(alma.finetune(parallel(path))).rejects.toMatchObject({
      code: 'ERR_ALMA_CORPUS',
      message: expect.stringMatching(/copies\.jsonl: not one training example.*2 left out \(identical sides 2\)/),
    })
  })

  test('is told before the first step', async () => {
    await using alma = await tinyAlma(data)
    const types: string[] = []
    await alma.finetune(parallel(data.train, { maxSteps: 1 }), { onProgress: ({ type }) => void types.push(type) })
    expect(types).toEqual(['run', 'memory', 'data', 'stage', 'step', 'stageEnd'])
  })
})

describe('pairs as monolingual text', () => {
  test('hold both sides, in either order', async () => {
    const path = file(
      'numbers.jsonl',
      Array.from({ length: 200 }, (_, i) => pair(`eins ${i}`, `one ${i}`)),
    )
    const stage = monolingual({ sources: [{ path, from: 'de', to: 'en' }], blockSize: 16 })
    const { examples, report } = await examplesOf(stage)
    const text = examples.map(({ inputIds }) => tokenizer.decode(inputIds, { skipSpecialTokens: false })).join('')
    const documents = [...text.matchAll(/<s> ?((?:eins|one) \d+ (?:eins|one) \d+)<\/s>/g)].map(
      ([, document]) => document,
    )
    expect(documents.length).toBeGreaterThan(150)
    const sourceFirst = documents.filter((document) => /^eins (\d+) one \1$/.test(document ?? '')).length
    const targetFirst = documents.filter((document) => /^one (\d+) eins \1$/.test(document ?? '')).length
    expect(sourceFirst + targetFirst).toBe(documents.length)
    expect(Math.abs(sourceFirst - targetFirst)).toBeLessThan(60)
    expect(report.files[0]?.languages).toBe('de-en')
    expect((await examplesOf(stage)).examples).toEqual(examples)
    expect((await examplesOf({ ...stage, seed: 7 })).examples).not.toEqual(examples)
  })
})

describe('probabilities', () => {
  const stage = (...probabilities: (number | undefined)[]): Stage =>
    monolingual({
      sources: probabilities.map((probability) => ({
        path: data.german,
        language: 'de',
        ...(probability !== undefined && { probability }),
      })),
    })

  test.each([
    [[0.5, 0.4], /"sources": expected probabilities that sum to 1 \(these sum to 0\.9\)/],
    [[0.7, 0.7], /these sum to 1\.4/],
    [[0.5, undefined], /a "probability" in all of the 2 entries or in none/],
    [[1.5], /a number above 0 and at most 1/],
  ])('%j are refused', (probabilities, message) => {
    expect(() => resolveStage(stage(...probabilities), 'stages[0]')).toThrow(message)
  })

  test('of ALMA, thirds, and none at all are taken', () => {
    for (const probabilities of [
      [0.17, 0.22, 0.14, 0.19, 0.08, 0.2],
      [0.333, 0.333, 0.334],
      [undefined, undefined],
    ]) {
      expect(resolveStage(stage(...probabilities), 'stages[0]').kind).toBe('monolingual')
    }
  })
})

describe('token caches', () => {
  test.each([
    ['monolingual text', () => monolingual()],
    ['pairs as text', () => monolingual({ sources: [{ path: data.train, from: 'de', to: 'en' }] })],
    ['pairs', () => parallel(data.train)],
    [
      'pairs with some that are too long',
      () => parallel(data.train, { maxSourceLength: 52, maxNewTokens: 8, drop: ['tooLong'] }),
    ],
  ])('change nothing: %s', async (_, stage) => {
    const cache = newFolder()
    const plain = await examplesOf(stage(), undefined, 2)
    const made = await examplesOf(stage(), cache, 2)
    const files = readdirSync(cache)
    const times = files.map((name) => statSync(join(cache, name)).mtimeMs)
    const used = await examplesOf(stage(), cache, 2)
    expect(plain.examples.length).toBeGreaterThan(20)
    expect(plain.count).toBe(plain.examples.length)
    expect(made).toEqual(plain)
    expect(used).toEqual(plain)
    expect(readdirSync(cache)).toEqual(files)
    expect(files.map((name) => statSync(join(cache, name)).mtimeMs)).toEqual(times)
  })

  test('a stage that is interrupted and resumed with a cache ends with the same losses', async () => {
    const stages = [monolingual({ maxSteps: 8 }), parallel(data.train, { maxSteps: 8 })]
    const run = async (output: string, options: FinetuneOptions) => {
      await using alma = await tinyAlma(data)
      const report = await alma.finetune(stages, { output, ...options })
      return report.stages.map(({ losses }) => losses)
    }
    const whole = await run(join(newFolder(), 'model'), {})
    for (const step of [3, 12]) {
      const [output, tokenCache] = [join(newFolder(), 'model'), newFolder()]
      const controller = new AbortController()
      let seen = 0
      const stopped = run(output, {
        tokenCache,
        signal: controller.signal,
        onProgress: ({ type }) => type === 'step' && ++seen === step && controller.abort(new Error('stop')),
      })
      await expect(stopped).rejects.toThrow('stop')
      expect(await run(output, { tokenCache, resume: true })).toEqual(whole)
    }
  })

  test('runs that make the same cache at once do not disturb each other', async () => {
    const cache = newFolder()
    const results = await Promise.all([1, 2, 3].map(() => examplesOf(parallel(data.train), cache)))
    expect(results[1]).toEqual(results[0])
    expect(results[2]).toEqual(results[0])
    expect(readdirSync(cache)).toHaveLength(1)
  })

  test('other options and other text have caches of their own', async () => {
    const cache = newFolder()
    await examplesOf(parallel(data.train), cache)
    await examplesOf(parallel(data.train, { maxNewTokens: 8 }), cache)
    const more = file('more.jsonl', [readFileSync(data.train, 'utf8').trim(), pair('Noch eins.', 'One more.')])
    await examplesOf(parallel(more), cache)
    expect(readdirSync(cache)).toHaveLength(3)
  })

  test('of another tokenizer: not used, which is said; one that was renamed is refused', async () => {
    const cache = newFolder()
    const folder = newFolder()
    await saveTrainedTokenizer(
      folder,
      trainBpeTokenizer(['Das ist ein anderer Text.', 'Another text.'], { vocabSize: 320 }),
    )
    const other = (await loadTokenizer(folder)) as Tokenizer
    const stage = resolveStage(parallel(data.train), 'stage')
    await (await StageCorpus.open(other, stage, { tokenCache: cache })).close()
    const [theirs] = readdirSync(cache)
    const { report, examples } = await examplesOf(parallel(data.train), cache)
    expect(report.files[0]?.warnings).toEqual([
      expect.stringContaining('a token cache of this text by another tokenizer, which is not used'),
    ])
    expect(examples).toEqual((await examplesOf(parallel(data.train))).examples)
    const [ours] = readdirSync(cache).filter((name) => name !== theirs)
    renameSync(join(cache, theirs ?? ''), join(cache, ours ?? ''))
    await expect(examplesOf(parallel(data.train), cache)).rejects.toMatchObject({
      code: 'ERR_ALMA_CORPUS',
      message: expect.stringMatching(/written by another tokenizer; was it renamed/),
    })
  })

  test('one that is damaged is made anew, which is said', async () => {
    const cache = newFolder()
    const first = await examplesOf(parallel(data.train), cache)
    const path = join(cache, readdirSync(cache)[0] ?? '')
    const whole = readFileSync(path)
    for (const bytes of [whole.subarray(0, 1000), Buffer.from(whole).fill(7, 500, 501), Buffer.alloc(0)]) {
      writeFileSync(path, bytes)
      const again = await examplesOf(parallel(data.train), cache)
      expect(again.examples).toEqual(first.examples)
      expect(again.report.files[0]?.warnings).toEqual([expect.stringMatching(/damaged: .*; the cache is made anew/)])
      expect(readFileSync(path).equals(whole)).toBe(true)
    }
  })

  test('a folder that cannot be made is named', async () => {
    const blocked = file('a-file', ['x'])
    await expect(examplesOf(parallel(data.train), join(blocked, 'cache'))).rejects.toMatchObject({
      code: 'ERR_ALMA_IO',
      message: expect.stringContaining(blocked),
    })
  })
})
