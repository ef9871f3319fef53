/** Pieces of the SentencePiece library, for every model in the folder: unigram and BPE, with a character map. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { bleu, sentencePieceTokenizer } from '../../lib/metrics/index.js'
import { CharacterMap } from '../../lib/text/character-map.js'
import { parseSentencePieceModel } from '../../lib/text/sentencepiece-model.js'
import { openSentencePieceSegmenter } from '../../lib/text/sentencepiece-segmenter.js'

const folder = join(import.meta.dirname, '..', 'fixtures', 'sentencepiece')
const models = readdirSync(folder).filter((name) => name.endsWith('.model'))

describe.each(models)('%s', (name) => {
  const { cases } = JSON.parse(readFileSync(join(folder, name.replace(/\.model$/, '.json')), 'utf8')) as {
    cases: { text: string; pieces: string[] }[]
  }
  it('gives the pieces of the library', async () => {
    const segmenter = await openSentencePieceSegmenter(join(folder, name))
    expect(cases.map(({ text }) => segmenter.pieces(text))).toEqual(cases.map(({ pieces }) => pieces))
    expect(cases.length).toBeGreaterThan(40)
  })

  it('is refused as the tokenizer of a LLaMA model', () => {
    const bytes = readFileSync(join(folder, name))
    expect(() => parseSentencePieceModel(bytes, name)).toThrow(/LLaMA/)
  })

  it('is refused when it is cut anywhere, never read past its end', () => {
    const bytes = readFileSync(join(folder, name))
    for (let size = 1; size < bytes.length; size += 97) {
      try {
        parseSentencePieceModel(bytes.subarray(0, size), name, 'all')
      } catch (error) {
        expect(error).toMatchObject({ code: 'ERR_ALMA_TOKENIZER' })
      }
    }
  })
})

describe('CharacterMap', () => {
  const mapOf = (units: number[], replacements = 'x\0'): Uint8Array => {
    const bytes = Buffer.alloc(4 + 4 * units.length)
    bytes.writeUInt32LE(4 * units.length)
    for (const [i, unit] of units.entries()) bytes.writeUInt32LE(unit >>> 0, 4 + 4 * i)
    return Buffer.concat([bytes, Buffer.from(replacements)])
  }

  it('follows no unit out of the array and no offset out of the block', () => {
    const anything = Buffer.from('abcdefgh')
    let state = 1
    for (let round = 0; round < 500; round++) {
      const units = Array.from({ length: 300 }, () => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0
        // Labels of letters, so that walks go on.
        return (state & 0xffffff00) | (97 + ((state >>> 24) % 8))
      })
      expect(() => new CharacterMap(mapOf(units)).match(anything, 0)).not.toThrow()
    }
  })

  it('refuses sizes that are not there', () => {
    expect(() => new CharacterMap(Buffer.from([1]))).toThrow(/1 bytes/)
    expect(() => new CharacterMap(Buffer.from([255, 255, 255, 127, 0]))).toThrow(/trie/)
    expect(() => new CharacterMap(Buffer.from([0, 0, 0, 0]))).toThrow(/trie/)
  })
})

describe('BLEU with a SentencePiece tokenizer', () => {
  it('counts pieces, and says so in the signature', async () => {
    const path = join(folder, models.find((name) => name.includes('unigram')) ?? '')
    const tokenize = await sentencePieceTokenizer(path)
    const [hypothesis, reference] = ['das haus ist grün.', 'das haus ist alt.']
    const score = bleu([hypothesis], [reference], { tokenize })
    const split = (text: string): string => tokenize.pieces(text).join(' ')
    expect(score.score).toBe(bleu([split(hypothesis)], [split(reference)], { tokenize: 'none' }).score)
    expect(score.signature).toMatch(/\|tok:flores200\|/)
    expect(() => bleu(['a'], ['a'], { tokenize: {} as typeof tokenize })).toThrow(/tokenize/)
  })
})
