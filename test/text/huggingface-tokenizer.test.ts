import { readFileSync } from 'node:fs'
import { mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers'
import { beforeAll, describe, expect, it } from 'vitest'
import { parseSentencePieceModel } from '../../lib/text/sentencepiece-model.js'
import { loadTokenizer, type Tokenizer } from '../../lib/text/tokenizer.js'
import { type TokenizerJson, trainBpeTokenizer } from '../../lib/text/train-bpe.js'
import { fixtureFolder } from '../support/fixtures.js'

async function open(json: object | string, config?: object): Promise<Tokenizer> {
  const folder = await mkdtemp(join(tmpdir(), 'alma-hf-'))
  await writeFile(join(folder, 'tokenizer.json'), typeof json === 'string' ? json : JSON.stringify(json))
  if (config !== undefined) await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(config))
  return (await loadTokenizer(folder)) as Tokenizer
}

/** GPT-2's alphabet of bytes, for writing a small vocabulary of LLaMA-3's kind. */
function byteAlphabet(): string[] {
  let next = 0x100
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae
    return String.fromCharCode(printable ? byte : next++)
  })
}

const BEGIN = 300
const END_OF_TEXT = 301
const END_OF_TURN = 302

function llama3Json(extraVocabulary: Record<string, number> = {}): object {
  const pieces = [...byteAlphabet(), 'he', 'll', 'hell', 'hello', 'Ġhello', 'Ã¼']
  const special = (id: number, content: string): object => ({
    id,
    content,
    special: true,
    normalized: false,
    single_word: false,
  })
  return {
    version: '1.0',
    added_tokens: [
      special(BEGIN, '<|begin_of_text|>'),
      special(END_OF_TEXT, '<|end_of_text|>'),
      special(END_OF_TURN, '<|eot_id|>'),
    ],
    normalizer: null,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        {
          type: 'Split',
          pattern: { Regex: ' ?\\p{L}+|<\\|\\w+\\|>|\\s+|[^\\p{L}\\s]' },
          behavior: 'Isolated',
          invert: false,
        },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
      ],
    },
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<|begin_of_text|>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [],
      special_tokens: { '<|begin_of_text|>': { id: '<|begin_of_text|>', ids: [BEGIN], tokens: ['<|begin_of_text|>'] } },
    },
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      byte_fallback: false,
      ignore_merges: true,
      vocab: { ...Object.fromEntries(pieces.map((piece, id) => [piece, id])), ...extraVocabulary },
      merges: ['h e', 'l l', 'he ll', 'hell o', 'Ġ hello', 'Ã ¼'],
    },
  }
}

describe('a byte-level tokenizer.json, as LLaMA-3 has', () => {
  let tokenizer: Tokenizer
  let library: LibraryTokenizer
  beforeAll(async () => {
    const config = {
      bos_token: '<|begin_of_text|>',
      eos_token: { content: '<|eot_id|>' },
      clean_up_tokenization_spaces: true,
    }
    tokenizer = await open(llama3Json(), config)
    library = new LibraryTokenizer(llama3Json(), {})
  })

  it('knows its special tokens', () => {
    expect([tokenizer.vocabSize, tokenizer.bosTokenId, tokenizer.eosTokenId, tokenizer.padTokenId]).toEqual([
      303,
      BEGIN,
      END_OF_TURN,
      undefined,
    ])
    expect([BEGIN, END_OF_TEXT, END_OF_TURN, 0].map((id) => tokenizer.isSpecial(id))).toEqual([true, true, true, false])
  })

  it.each(['', 'hello hello', ' über 世界 🙂\n\n x', 'hello , world !'])("gives the library's ids for %j", (text) => {
    const ids = text === '' ? [] : library.encode(text, { add_special_tokens: false }).ids
    expect(tokenizer.encode(text)).toEqual(ids)
    expect(tokenizer.encode(text, { addBos: true, addEos: true })).toEqual([BEGIN, ...ids, END_OF_TURN])
    // No spaces are cleaned up, whatever the config says.
    expect(tokenizer.decode(ids)).toBe(text)
  })

  it('keeps special tokens in text as text unless asked', () => {
    const text = 'hello<|eot_id|><|begin_of_text|>'
    const ids = tokenizer.encode(text)
    expect(ids.some((id) => tokenizer.isSpecial(id))).toBe(false)
    expect(tokenizer.decode(ids)).toBe(text)
    expect(tokenizer.encode(text, { parseSpecial: true })).toEqual([259, END_OF_TURN, BEGIN])
    expect(tokenizer.decode([259, END_OF_TURN])).toBe('hello')
    expect(tokenizer.decode([259, END_OF_TURN], { skipSpecialTokens: false })).toBe('hello<|eot_id|>')
  })

  it('does so even when the vocabulary itself lists them', async () => {
    const listed = await open(llama3Json({ '<|eot_id|>': END_OF_TURN }), {
      bos_token: '<|begin_of_text|>',
      eos_token: '<|eot_id|>',
    })
    expect(listed.encode('hello<|eot_id|>')).toEqual(tokenizer.encode('hello<|eot_id|>'))
  })

  it('streams random ids to the same text', () => {
    for (let round = 0; round < 300; round++) {
      const ids = Array.from({ length: 25 }, (_, i) => (i * 7919 + round * 104729 + ((round * i) % 13) * 31) % 303)
      for (const skipSpecialTokens of [true, false]) {
        const stream = tokenizer.streamDecoder({ skipSpecialTokens })
        const parts = [...ids.map((id) => stream.push(id)), stream.end()]
        expect(parts.join('')).toBe(tokenizer.decode(ids, { skipSpecialTokens }))
      }
    }
    const stream = tokenizer.streamDecoder()
    expect([...Buffer.from('🙂')].map((id) => stream.push(id))).toEqual(['', '', '', '🙂'])
  })
})

const folder = fixtureFolder('tokenizer')

describe.skipIf(folder === undefined)("LLaMA-2's vocabulary as tokenizer.json", () => {
  const cases =
    folder === undefined
      ? []
      : readFileSync(join(folder, 'encode.jsonl'), 'utf8')
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line) as { text: string; ids: number[]; decoded: string })
  let json: TokenizerJson
  beforeAll(() => {
    json = llama2Json(join(folder ?? '', 'tokenizer.model'))
  })

  it(`encodes and decodes ${cases.length} cases as SentencePiece`, async () => {
    const tokenizer = await open(json)
    expect([tokenizer.vocabSize, tokenizer.bosTokenId, tokenizer.eosTokenId, tokenizer.unkTokenId]).toEqual([
      32000, 1, 2, 0,
    ])
    for (const { text, ids, decoded } of cases) {
      expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(ids)
      expect(tokenizer.decode(ids)).toBe(decoded)
    }
    expect(tokenizer.encode('a</s>b', { parseSpecial: true })).toEqual([263, 2, 289])
  })

  it('does so through the library as well, when the file is not of the kind that we encode ourselves', async () => {
    const tokenizer = await open({ ...json, model: { ...json.model, dropout: 0 } })
    // The library alone would take 0.3 s for the longest.
    for (const { text, ids } of cases.filter(({ text }) => text.length < 1000))
      expect(tokenizer.encode(text)).toEqual(ids)
  })
})

/** What transformers' conversion makes of a SentencePiece model: each way to make a piece of two, the best piece first. */
function llama2Json(path: string): TokenizerJson {
  const { pieces } = parseSentencePieceModel(readFileSync(path), path)
  const ids = new Map(pieces.map(({ piece }, id) => [piece, id]))
  const merges = pieces
    .flatMap(({ piece, kind, score }, id) => {
      const pairs: { score: number; id: number; text: string }[] = []
      for (let cut = 1; kind === 'normal' && cut < piece.length; cut++)
        if (ids.has(piece.slice(0, cut)) && ids.has(piece.slice(cut)))
          pairs.push({ score, id, text: `${piece.slice(0, cut)} ${piece.slice(cut)}` })
      return pairs
    })
    .sort((a, b) => b.score - a.score)
    .map(({ text }) => text)
  const form = trainBpeTokenizer(['x'], { vocabSize: 262 })
  return { ...form, model: { ...form.model, vocab: Object.fromEntries(ids), merges } }
}

describe('damaged files', () => {
  const model = { type: 'BPE', vocab: { a: 0, b: 1, ab: 2 }, merges: ['a b'] }
  const rest = { added_tokens: [], normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null }
  it.each<[string, object | string, RegExp]>([
    ['text', 'not JSON', /tokenizer.json: not JSON/],
    ['a list', '[]', /expected a JSON object/],
    ['no model', {}, /no object "model"/],
    ['no vocabulary', { ...rest, model: { type: 'BPE', merges: [] } }, /no vocabulary/],
    ['an empty vocabulary', { ...rest, model: { ...model, vocab: {} } }, /is empty/],
    ['an id that is none', { ...rest, model: { ...model, vocab: { a: -1 } } }, /"a" has the id -1/],
    ['a huge id', { ...rest, model: { ...model, vocab: { a: 1e12 } } }, /has the id 1000000000000/],
    ['an id twice', { ...rest, model: { ...model, vocab: { a: 0, b: 0 } } }, /"a" and "b" both have the id 0/],
    ['no merges', { ...rest, model: { type: 'BPE', vocab: { a: 0 } } }, /no list "model.merges"/],
    ['a broken merge', { ...rest, model: { ...model, merges: ['a b c'] } }, /merges\[0\] is not a pair/],
    ['a broken added token', { ...rest, model, added_tokens: [{ id: 1 }] }, /added_tokens\[0\] has no "content"/],
    ['an unknown normalizer', { ...rest, model, normalizer: { type: 'Nonsense' } }, /cannot be used: .*Nonsense/],
  ])('refuses %s', async (_, json, message) => {
    await expect(open(json)).rejects.toMatchObject({ code: 'ERR_ALMA_TOKENIZER' })
    await expect(open(json)).rejects.toThrow(message)
  })

  it('refuses ids that the model has no rows for', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'alma-hf-'))
    await writeFile(join(folder, 'tokenizer.json'), JSON.stringify({ ...rest, model }))
    await expect(loadTokenizer(folder, { vocabSize: 2 })).rejects.toThrow(/ids up to 2, .* only 2 rows/)
    const tokenizer = (await loadTokenizer(folder, { vocabSize: 3 })) as Tokenizer
    expect(tokenizer.encode('ab')).toEqual([2])
    expect(() => tokenizer.encode('ab', { addEos: true })).toThrow(/no end-of-sentence/)
    // A decoder that we do not know: the text comes at the end, in one piece.
    const stream = tokenizer.streamDecoder()
    expect([stream.push(2), stream.push(0), stream.end()]).toEqual(['', '', tokenizer.decode([2, 0])])
    await tokenizer.save(join(folder, 'copy'))
    expect(await readdir(join(folder, 'copy'))).toEqual(['tokenizer.json'])
    expect(await readFile(join(folder, 'copy', 'tokenizer.json'), 'utf8')).toBe(JSON.stringify({ ...rest, model }))
  })
})
