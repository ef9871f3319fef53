/** Beams, n-best lists, forced beginnings and stops, as a translator offers them. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Alma, TranslateOptions } from '../../lib/index.js'
import { tinyAlma } from './tiny-model.js'

const direction = { from: 'de', to: 'en', maxNewTokens: 24 }
const texts = ['Guten Morgen!', 'Das Haus ist grün.', '', 'Wie geht es dir?']

describe('translations', () => {
  let alma: Alma
  beforeAll(async () => {
    alma = await tinyAlma({ seed: 5, initializerRange: 0.4 })
  })
  afterAll(() => alma?.dispose())

  const collect = async (text: string, options: TranslateOptions): Promise<string[]> => {
    const pieces = []
    for await (const piece of alma.translateStream(text, options)) pieces.push(piece)
    return pieces
  }

  it('have candidates, best first', async () => {
    const translations = await alma.translate(texts, { ...direction, numBeams: 4, numReturnSequences: 3 })
    for (const { source, text, score, tokenIds, finishReason, candidates } of translations) {
      if (source === '') {
        expect(text).toBe('')
        continue
      }
      expect(candidates).toHaveLength(3)
      expect(candidates?.[0]).toEqual({ text, score, tokenIds, finishReason })
      const scores = candidates?.map((candidate) => candidate.score) ?? []
      expect(scores).toEqual(scores.toSorted((a, b) => b - a))
      expect(new Set(candidates?.map((candidate) => candidate.tokenIds.join())).size).toBe(3)
    }
  })

  it('are streamed from a beam search too', async () => {
    const options = { ...direction, numBeams: 3 }
    const pieces = await collect('Guten Morgen!', options)
    expect(pieces.join('')).toBe((await alma.translate('Guten Morgen!', options)).text)
    for (const piece of pieces) expect(piece).not.toMatch(/^$|[\ud800-\udbff]$/)
  })

  it.each([{}, { numBeams: 3 }])('begin as they are asked to: %o', async (more) => {
    const options = { ...direction, ...more, targetPrefix: 'Good morning' }
    for (const { source, text, tokenIds } of await alma.translate(texts, options)) {
      if (source === '') expect(text).toBe('')
      else {
        expect(text.startsWith('Good morning')).toBe(true)
        expect(tokenIds.length).toBeGreaterThan(0)
        expect((await collect(source, options)).join('')).toBe(text)
      }
    }
    await expect(alma.translate('x', { ...direction, targetPrefix: 5 as unknown as string })).rejects.toMatchObject({
      code: 'ERR_ALMA_OPTION',
      message: expect.stringMatching(/targetPrefix: expected a string/),
    })
  })

  it('stop at the end of the first line when asked to, with the same text', async () => {
    // A model that answers newlines often: their id is that of the byte.
    const newline = alma.tokenizer.encode('\n').at(-1) ?? 0
    let stopped = 0
    for (const numBeams of [1, 3]) {
      const plain = { ...direction, doSample: true, temperature: 4, numBeams, maxNewTokens: 60 }
      for (let seed = 0; seed < 40; seed++) {
        const whole = await alma.translate('Guten Morgen!', { ...plain, seed })
        const short = await alma.translate('Guten Morgen!', { ...plain, seed, stopAtNewline: true })
        if (short.finishReason === 'stop') {
          stopped++
          expect(short.tokenIds.at(-1)).toBe(newline)
          expect(alma.tokenizer.decode(short.tokenIds)).toMatch(/^\s*\S[^\n]*\n$/)
        }
        // Of several beams another one may win.
        if (numBeams === 1) expect(short.text).toBe(whole.text)
        if (numBeams === 1) expect(whole.tokenIds.slice(0, short.tokenIds.length)).toEqual(short.tokenIds)
      }
    }
    expect(stopped).toBeGreaterThan(0)
    await expect(alma.generate([[5]], { stopAtNewline: 1 as unknown as boolean })).rejects.toMatchObject({
      code: 'ERR_ALMA_OPTION',
    })
  })

  it('of broken text are translations of replacement characters, not failures', async () => {
    const { finishReason } = await alma.translate('Guten \ud800 Morgen', direction)
    expect(['eos', 'length']).toContain(finishReason)
  })
})
