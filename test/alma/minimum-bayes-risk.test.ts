import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Alma } from '../../lib/index.js'
import { expectedScores } from '../../lib/metrics/expected-score.js'
import { tinyAlma } from './tiny-model.js'

const direction = { from: 'de', to: 'en', maxNewTokens: 12 } as const
const source = 'Das Haus ist grün.'

describe('minimum Bayes risk', () => {
  let alma: Alma
  beforeAll(async () => {
    alma = await tinyAlma()
  })
  afterAll(() => alma?.dispose())

  it.each(['chrf', 'bleu'] as const)('takes the sample that agrees best with all samples (%s)', async (metric) => {
    const options = { ...direction, seed: 11, temperature: 0.7 }
    const drawn = await alma.translate(source, { ...options, doSample: true, numReturnSequences: 12 })
    const texts = (drawn.candidates ?? []).map(({ text }) => text)
    expect(new Set(texts).size).toBeGreaterThan(3)
    const scores = expectedScores(texts, { metric })
    const best = Math.max(...scores)
    const chosen = await alma.translate(source, { ...options, mbr: { samples: 12, metric } })
    expect(chosen.utility).toBe(best)
    expect(expectedScores([chosen.text], { metric, references: texts })[0]).toBeCloseTo(best, 9)
    expect(chosen.candidates).toBeUndefined()
    expect(chosen.source).toBe(source)
  })

  it('chooses among beams, and gives as many as were asked for, best first', async () => {
    const chosen = await alma.translate(source, { ...direction, numBeams: 4, numReturnSequences: 3, mbr: {} })
    const utilities = (chosen.candidates ?? []).map(({ utility }) => utility ?? Number.NaN)
    expect(utilities).toHaveLength(3)
    expect(utilities).toEqual(utilities.toSorted((a, b) => b - a))
    expect(chosen.utility).toBe(utilities[0])
    const beams = await alma.translate(source, { ...direction, numBeams: 4, numReturnSequences: 4 })
    const texts = (beams.candidates ?? []).map(({ text }) => text)
    expect(chosen.utility).toBeCloseTo(Math.max(...expectedScores(texts)), 9)
  })

  it('streams what translate gives, and works for documents', async () => {
    const options = { ...direction, seed: 2, mbr: { samples: 5 } }
    const document = `${source}\n\nGuten Morgen!`
    let streamed = ''
    for await (const piece of alma.translateStream(document, options)) streamed += piece
    expect(streamed).toBe((await alma.translate(document, options)).text)
  })

  it('refuses what makes no sense', async () => {
    const wrong: [object, RegExp][] = [
      [{ mbr: { samples: 0 } }, /mbr.samples/],
      [{ mbr: { samples: 5 }, numBeams: 4 }, /mbr.samples: expected an integer from 1 to 4/],
      [{ mbr: { metric: 'ter' } }, /mbr.metric: expected "chrf" or "bleu"/],
      [{ mbr: { sample: 3 } }, /did you mean "samples"/],
    ]
    for (const [options, message] of wrong) {
      await expect(alma.translate(source, { ...direction, ...options })).rejects.toMatchObject({
        code: 'ERR_ALMA_OPTION',
        message: expect.stringMatching(message),
      })
    }
  })
})
