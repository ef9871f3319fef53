/** Every score of every JSON file in the folder of metric fixtures, against sacreBLEU's. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { AlmaError } from '../../lib/errors.js'
import { metrics } from '../../lib/metrics/index.js'
import { fixtureFolder } from '../support/fixtures.js'

/** A score as recorded; which fields it has depends on the metric. */
interface Recorded {
  metric: 'bleu' | 'chrf' | 'ter'
  args: Record<string, unknown>
  signature: string
  error?: string
  score: number
  name: string
  counts?: number[]
  totals?: number[]
  precisions?: number[]
  bp?: number
  sys_len?: number
  ref_len?: number
  num_edits?: number
  ref_length?: number
}

interface Corpus {
  hyps: string[]
  refs: (string | null)[][]
  corpus: Recorded[]
  sentence: (Recorded & { scores: number[] })[]
}

const corpusMetrics = { bleu: metrics.bleu, chrf: metrics.chrf, ter: metrics.ter }
const sentenceMetrics = { bleu: metrics.sentenceBleu, chrf: metrics.sentenceChrf, ter: metrics.sentenceTer }
const tolerance = 1e-9

/** `smooth_method` → `smoothMethod`. */
function camelCase(args: Record<string, unknown>): Record<string, unknown> {
  const renamed = ([name, value]: [string, unknown]): [string, unknown] => [
    name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase()),
    value,
  ]
  return Object.fromEntries(Object.entries(args).map(renamed))
}

function expectNear(got: readonly number[], expected: readonly number[]): void {
  expect(got).toHaveLength(expected.length)
  const far = got.flatMap((value, i) => (Math.abs(value - (expected[i] ?? Number.NaN)) <= tolerance ? [] : [i]))
  expect(far.map((i) => ({ index: i, got: got[i], expected: expected[i] }))).toEqual([])
}

/** The numbers of ours under sacreBLEU's names. */
function numbersOf(score: object, recorded: Recorded): [got: number[], expected: number[]] {
  const ours = new Map<string, unknown>(Object.entries(score))
  const names: [string, keyof Recorded][] = [
    ['score', 'score'],
    ['counts', 'counts'],
    ['totals', 'totals'],
    ['precisions', 'precisions'],
    ['brevityPenalty', 'bp'],
    ['hypothesisLength', 'sys_len'],
    ['edits', 'num_edits'],
    ['referenceLength', recorded.metric === 'ter' ? 'ref_length' : 'ref_len'],
  ]
  const present = names.filter(([, theirs]) => recorded[theirs] !== undefined)
  return [
    present.flatMap(([name]) => ours.get(name) as number | number[]),
    present.flatMap(([, theirs]) => recorded[theirs] as number | number[]),
  ]
}

function checkCorpus({ hyps, refs }: Corpus, recorded: Recorded): void {
  const score = (): object & { signature: string; name: string } =>
    corpusMetrics[recorded.metric](hyps, refs, camelCase(recorded.args))
  if (recorded.error !== undefined) {
    expect(score).toThrow(AlmaError)
    return
  }
  const result = score()
  expectNear(...numbersOf(result, recorded))
  expect(result.name).toBe(recorded.name)
  expect(result.signature).toBe(recorded.signature)
}

function checkSentences({ hyps, refs }: Corpus, recorded: Recorded & { scores: number[] }): void {
  if (recorded.error !== undefined) {
    expect(hyps).toHaveLength(0)
    return
  }
  const results = hyps.map((hyp, line) => {
    const references = refs.flatMap((stream) => stream[line] ?? [])
    return sentenceMetrics[recorded.metric](hyp, references, camelCase(recorded.args))
  })
  expectNear(
    results.map((result) => result.score),
    recorded.scores,
  )
  // sacreBLEU's signature is that of the last sentence it scored.
  expect(results.at(-1)?.signature).toBe(recorded.signature)
}

const folder = fixtureFolder('metrics')
const files = folder === undefined ? [] : readdirSync(folder).filter((name) => name.endsWith('.json'))

describe.skipIf(folder === undefined)('sacreBLEU fixtures', () => {
  test('there are some', () => expect(files.length).toBeGreaterThan(0))

  for (const file of files) {
    if (folder === undefined) continue
    const content = JSON.parse(readFileSync(join(folder, file), 'utf8')) as
      | Corpus
      | { cases: (Corpus & { case: string })[] }
    const corpora = 'cases' in content ? content.cases : [{ ...content, case: 'whole' }]
    describe(file, () => {
      for (const corpus of corpora) {
        for (const recorded of corpus.corpus) {
          test(`${corpus.case}: ${recorded.metric} ${JSON.stringify(recorded.args)}`, () =>
            checkCorpus(corpus, recorded))
        }
        for (const recorded of corpus.sentence) {
          test(`${corpus.case}: sentence ${recorded.metric} ${JSON.stringify(recorded.args)}`, () =>
            checkSentences(corpus, recorded))
        }
      }
    })
  }
})
