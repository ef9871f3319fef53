import { readFileSync } from 'node:fs'
import { mkdtemp, readdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { parseSentencePieceModel } from '../../lib/text/sentencepiece-model.js'
import { loadTokenizer, type Tokenizer } from '../../lib/text/tokenizer.js'
import { fixtureCases, fixtureFolder } from '../support/fixtures.js'

function jsonLines<T>(path: string): T[] {
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T)
}

async function open(folder: string): Promise<Tokenizer> {
  const tokenizer = await loadTokenizer(folder)
  if (tokenizer === undefined) throw new Error(`no tokenizer in ${folder}`)
  return tokenizer
}

const folder = fixtureFolder('tokenizer')

describe.skipIf(folder === undefined)('the LLaMA-2 tokenizer agrees with SentencePiece', () => {
  const root = folder ?? ''
  let tokenizer: Tokenizer
  beforeAll(async () => {
    tokenizer = await open(root)
  })

  const encodeCases = folder === undefined ? [] : jsonLines<EncodeCase>(join(root, 'encode.jsonl'))
  const kinds = [...new Set(encodeCases.map(({ kind }) => kind))]
  for (const kind of kinds) {
    const cases = encodeCases.filter((c) => c.kind === kind)
    it(`encodes and decodes ${cases.length} cases of kind "${kind}"`, () => {
      for (const { text, ids, decoded } of cases) {
        expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(ids)
        expect(tokenizer.decode(ids), JSON.stringify(text)).toBe(decoded)
      }
    })
  }

  const decodeCases =
    folder === undefined ? [] : jsonLines<{ ids: number[]; decoded: string }>(join(root, 'decode.jsonl'))
  it(`decodes ${decodeCases.length} id lists, whole and streamed`, () => {
    for (const { ids, decoded } of decodeCases) {
      expect(tokenizer.decode(ids), JSON.stringify(ids)).toBe(decoded)
      const stream = tokenizer.streamDecoder()
      expect(ids.map((id) => stream.push(id)).join('') + stream.end()).toBe(decoded)
    }
  })

  const pieces = folder === undefined ? [] : jsonLines<PieceCase>(join(root, 'pieces.jsonl'))
  it(`has the ${pieces.length} listed pieces`, () => {
    for (const { id, piece, kind } of pieces) {
      expect(tokenizer.isSpecial(id)).toBe(kind === 'control')
      // After "." the first space is the text's own, so the piece is seen whole.
      if (kind === 'normal') expect(tokenizer.decode([29889, id])).toBe(`.${piece.replaceAll('\u2581', ' ')}`)
      if (kind === 'control') expect(tokenizer.decode([id], { skipSpecialTokens: false })).toBe(piece)
    }
  })

  it('knows its special ids', () => {
    expect(tokenizer.vocabSize).toBe(32000)
    expect([tokenizer.unkTokenId, tokenizer.bosTokenId, tokenizer.eosTokenId, tokenizer.padTokenId]).toEqual([
      0,
      1,
      2,
      undefined,
    ])
    expect(tokenizer.encode('Hello', { addBos: true, addEos: true })).toEqual([1, 15043, 2])
  })

  it('keeps control tokens in text as text unless asked', () => {
    const text = 'a</s><s>b'
    expect(tokenizer.encode(text).some((id) => id === 1 || id === 2)).toBe(false)
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text)
    expect(tokenizer.encode(text, { parseSpecial: true })).toEqual([263, 2, 1, 289])
  })

  it('gives the ids of a naive encoder that knows neither words nor a cache', () => {
    const naive = naiveEncoder(join(root, 'tokenizer.model'))
    const texts = encodeCases.map(({ text }) => text).filter((text) => text.length < 600)
    // Joined in threes, so that borders between words, runs of spaces and scripts meet in many ways.
    for (let i = 0; i + 2 < texts.length; i += 3) {
      const text = `${texts[i]}  ${texts[i + 1]}${texts[i + 2]}`
      const expected = naive(text)
      expect(tokenizer.encode(text)).toEqual(expected)
      expect(tokenizer.encode(text)).toEqual(expected)
    }
  })

  it('takes time in proportion to the length of a text without spaces', () => {
    const time = (length: number): number => {
      const text = 'antidisestablishmentarianism'.repeat(Math.ceil(length / 28)).slice(0, length)
      const start = performance.now()
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text)
      return performance.now() - start
    }
    time(10_000)
    const short = time(50_000)
    // 20 times the length: n log n gives a factor of about 25, a quadratic encoder 400.
    expect(time(1_000_000)).toBeLessThan(Math.max(500, 200 * short))
  })

  it('streams random ids to the same text, with no half characters in between', () => {
    let state = 12345
    const random = (bound: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return Math.floor((state / 2 ** 32) * bound)
    }
    for (let round = 0; round < 500; round++) {
      // Half of the ids are bytes, so that characters of all lengths, whole and broken, occur.
      const ids = Array.from({ length: 30 }, () => (random(2) === 0 ? random(260) : random(32000)))
      for (const skipSpecialTokens of [true, false]) {
        const stream = tokenizer.streamDecoder({ skipSpecialTokens })
        const parts = ids.map((id) => stream.push(id))
        parts.push(stream.end())
        expect(parts.join('')).toBe(tokenizer.decode(ids, { skipSpecialTokens }))
        for (const part of parts) expect(part.isWellFormed?.() ?? true).toBe(true)
      }
    }
  })

  it('holds an emoji back until its fourth byte', () => {
    const stream = tokenizer.streamDecoder()
    expect([243, 162, 156, 133].map((id) => stream.push(id))).toEqual(['', '', '', '🙂'])
    // F0 9F 99 then "a": three broken bytes, each its own replacement, as soon as that is certain.
    expect([243, 162, 156, 29874].map((id) => stream.push(id))).toEqual(['', '', '', '\ufffd\ufffd\ufffda'])
    expect([243, stream.end()].length).toBe(2)
  })

  it('maps lone surrogates to U+FFFD and ignores ids above the vocabulary', () => {
    expect(tokenizer.encode('a\ud800b')).toEqual(tokenizer.encode('a\ufffdb'))
    expect(tokenizer.decode([15043, 32005, 3186])).toBe('Hello world')
    expect(() => tokenizer.decode([-1])).toThrow(expect.objectContaining({ code: 'ERR_ALMA_OPTION' }))
    expect(() => tokenizer.decode([1.5])).toThrow(expect.objectContaining({ code: 'ERR_ALMA_OPTION' }))
  })

  it('saves itself so that it can be loaded again', async () => {
    const target = await mkdtemp(join(tmpdir(), 'alma-tokenizer-'))
    await tokenizer.save(join(target, 'new'))
    expect(await readdir(join(target, 'new'))).toEqual(['tokenizer.model'])
    expect((await open(join(target, 'new'))).encode('Grüße, 世界')).toEqual(tokenizer.encode('Grüße, 世界'))
    await tokenizer.save(root)
  })

  it('takes special tokens from the JSON files beside it', async () => {
    const target = await mkdtemp(join(tmpdir(), 'alma-tokenizer-'))
    await tokenizer.save(target)
    await writeFile(join(target, 'special_tokens_map.json'), '{"pad_token": {"content": "<unk>"}, "eos_token": "</s>"}')
    expect((await open(target)).padTokenId).toBe(0)
    await writeFile(
      join(target, 'tokenizer_config.json'),
      '{"pad_token": "<pad>", "added_tokens_decoder": {"1": {"content": "<s>", "special": true}, "32000": {"content": "<pad>", "special": true}}}',
    )
    const padded = await open(target)
    expect([padded.padTokenId, padded.vocabSize, padded.isSpecial(32000)]).toEqual([32000, 32001, true])
    expect(padded.encode('<pad>')).toEqual(tokenizer.encode('<pad>'))
    expect(padded.encode('<pad>', { parseSpecial: true })).toEqual([32000])
    expect(padded.decode([15043, 32000])).toBe('Hello')
    await expect(loadTokenizer(target, { vocabSize: 32000 })).rejects.toMatchObject({ code: 'ERR_ALMA_TOKENIZER' })
    await expect(loadTokenizer(target, { vocabSize: 32064 })).resolves.toBeDefined()
    await writeFile(join(target, 'tokenizer_config.json'), '{"bos_token": "<nowhere>"}')
    await expect(loadTokenizer(target)).rejects.toThrow(/<nowhere>/)
    await writeFile(join(target, 'tokenizer_config.json'), '{"bos_token"')
    await expect(loadTokenizer(target)).rejects.toThrow(/tokenizer_config.json: not JSON/)
  })
})

/** The definition of BPE: join the neighbours whose union has the best score, the leftmost first, until none is a piece. */
function naiveEncoder(path: string): (text: string) => number[] {
  const { pieces } = parseSentencePieceModel(readFileSync(path), path)
  const ids = new Map(pieces.map(({ piece }, id) => [piece, id]))
  return (text) => {
    const symbols = [...`\u2581${text.replaceAll(' ', '\u2581')}`]
    for (;;) {
      let best = -1
      let bestScore = Number.NEGATIVE_INFINITY
      for (let i = 0; i + 1 < symbols.length; i++) {
        const id = ids.get(`${symbols[i]}${symbols[i + 1]}`)
        const score = pieces[id ?? -1]?.kind === 'normal' ? (pieces[id ?? -1]?.score ?? 0) : Number.NEGATIVE_INFINITY
        if (score > bestScore) {
          best = i
          bestScore = score
        }
      }
      if (best < 0) break
      symbols.splice(best, 2, `${symbols[best]}${symbols[best + 1]}`)
    }
    return symbols.flatMap((symbol) => {
      const id = ids.get(symbol)
      return id === undefined ? [...Buffer.from(symbol, 'utf8')].map((byte) => byte + 3) : [id]
    })
  }
}

interface EncodeCase {
  kind: string
  text: string
  ids: number[]
  decoded: string
}
interface PieceCase {
  id: number
  piece: string
  kind: string
}

const realModels = fixtureCases('real-model')

describe.skipIf(realModels.length === 0)('tokenizers of real models', () => {
  for (const { name, folder } of realModels) {
    const { cases } = JSON.parse(readFileSync(join(folder, 'greedy.json'), 'utf8')) as { cases: GreedyCase[] }
    it(`${name}: encodes ${cases.length} prompts and decodes what was generated`, async () => {
      const tokenizer = await open(folder)
      for (const c of cases) {
        expect(tokenizer.encode(c.text, { addBos: true })).toEqual(c.prompt_ids)
        expect(tokenizer.decode([...c.prompt_ids, ...c.greedy_ids])).toBe(c.greedy_text)
      }
    })
  }
})

interface GreedyCase {
  text: string
  prompt_ids: number[]
  greedy_ids: number[]
  greedy_text: string
}

it('loads nothing from a folder without a tokenizer', async () => {
  expect(await loadTokenizer(await mkdtemp(join(tmpdir(), 'alma-tokenizer-')))).toBeUndefined()
})
