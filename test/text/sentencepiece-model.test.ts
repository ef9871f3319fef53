import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { AlmaError } from '../../lib/errors.js'
import { SentencePieceTokenizer } from '../../lib/text/sentencepiece.js'
import { parseSentencePieceModel } from '../../lib/text/sentencepiece-model.js'
import { loadTokenizer } from '../../lib/text/tokenizer.js'
import { modelFile, type PieceSpec, varint } from './sentencepiece-writer.js'

const UNK: PieceSpec = ['<unk>', 0, 2]
const BOS: PieceSpec = ['<s>', 0, 3]
const EOS: PieceSpec = ['</s>', 0, 3]
const letters: PieceSpec[] = [...'\u2581abc'].map((letter, i) => [letter, -10 - i, 1])

function tokenizer(pieces: PieceSpec[], spec: Parameters<typeof modelFile>[1] = {}): SentencePieceTokenizer {
  return new SentencePieceTokenizer(parseSentencePieceModel(modelFile(pieces, spec), 'test.model'), '/nowhere')
}

describe('options of a SentencePiece model', () => {
  const base = [UNK, BOS, EOS, ...letters]
  // Ids: ▁ 3, a 4, b 5, c 6.

  it('puts the dummy prefix in front or not', () => {
    expect(tokenizer(base).encode('ab')).toEqual([3, 4, 5])
    expect(tokenizer(base, { addDummyPrefix: false }).encode('ab')).toEqual([4, 5])
    expect(tokenizer(base, { addDummyPrefix: false }).decode([3, 4])).toBe(' a')
    expect(tokenizer(base).encode('')).toEqual([])
  })

  it('removes extra spaces or not', () => {
    const removing = tokenizer(base, { removeExtraWhitespaces: true })
    expect(removing.encode('  a   b  ')).toEqual([3, 4, 3, 5])
    expect(removing.encode('   ')).toEqual([])
    expect(removing.decode([3, 3, 4, 3, 5])).toBe('a b')
    expect(tokenizer(base).encode(' a')).toEqual([3, 3, 4])
  })

  it('leaves spaces alone when they are not escaped', () => {
    const plain = tokenizer([...base, [' ', -20, 1], [' a', -1, 1]], { escapeWhitespaces: false })
    expect(plain.encode('a a')).toEqual([8, 8])
  })

  it('takes the best score first and the leftmost of equals', () => {
    expect(tokenizer([...base, ['ab', -2, 1], ['bc', -1, 1]]).encode('abc')).toEqual([3, 4, 8])
    expect(tokenizer([...base, ['aa', -1, 1]]).encode('aaa')).toEqual([3, 7, 4])
    // Both of the same score: the left one.
    expect(tokenizer([...base, ['ab', -1, 1], ['bc', -1, 1]]).encode('abc')).toEqual([3, 7, 6])
  })

  it('merges across spaces when the vocabulary has such pieces', () => {
    const crossing = tokenizer([...base, ['a\u2581', -1, 1], ['a\u2581b', -2, 1]])
    expect(crossing.encode('a b')).toEqual([3, 8])
  })

  it('makes one unknown token of a run of unknown characters, or bytes', () => {
    expect(tokenizer(base).encode('axyzb')).toEqual([3, 4, 0, 5])
    expect(tokenizer(base).decode([4, 0, 5])).toBe('a \u2047 b')
    const bytes = Array.from(
      { length: 256 },
      (_, i): PieceSpec => [`<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`, 0, 6],
    )
    const fallback = tokenizer([...base, ...bytes], { byteFallback: true })
    expect(fallback.encode('aé')).toEqual([3, 4, 7 + 0xc3, 7 + 0xa9])
    expect(fallback.encode('<0x41>').includes(7 + 0x41)).toBe(false)
    expect(fallback.decode([3, 4, 7 + 0xc3, 7 + 0xa9])).toBe('aé')
    // Overlong forms, a surrogate, above U+10FFFF, a stray continuation, a cut sequence: a replacement for each byte.
    for (const broken of ['c080', 'e08080', 'f0808080', 'eda080', 'f4908080', 'ff', '80', 'e282'])
      for (const after of ['', '41']) {
        const bytesOf = Buffer.from(broken + after, 'hex')
        const text = '\ufffd'.repeat(broken.length / 2) + (after === '' ? '' : 'A')
        expect(fallback.decode([...bytesOf].map((byte) => 7 + byte))).toBe(text)
      }
    expect(fallback.decode([...Buffer.from('\ufeff€🙂')].map((byte) => 7 + byte))).toBe('\ufeff€🙂')
  })

  it('never splits or merges user-defined pieces, nor makes control pieces', () => {
    const user = tokenizer([...base, ['bc', 0, 4], ['ab', -1, 1], ['cc', -1, 1]])
    expect(user.encode('abcc')).toEqual([3, 4, 7, 6])
    const control = tokenizer([...base, ['ab', 0, 3]])
    expect(control.encode('ab')).toEqual([3, 4, 5])
    expect(control.encode('ab', { parseSpecial: true })).toEqual([7])
  })

  it('splits unused pieces up again', () => {
    const unused = tokenizer([...base, ['ab', -1, 5], ['abc', -2, 1]])
    expect(unused.encode('ab')).toEqual([3, 4, 5])
    expect(unused.encode('abc')).toEqual([3, 8])
  })

  it('has no BOS to add where the model has none', () => {
    const none = tokenizer([UNK, ...letters])
    expect(none.bosTokenId).toBeUndefined()
    expect(() => none.encode('a', { addBos: true })).toThrow(expect.objectContaining({ code: 'ERR_ALMA_TOKENIZER' }))
  })
})

describe('damaged models', () => {
  const good = modelFile([UNK, BOS, EOS, ...letters], {})
  const refused = (bytes: Uint8Array): AlmaError => {
    try {
      parseSentencePieceModel(bytes, 'test.model')
    } catch (error) {
      expect(error).toBeInstanceOf(AlmaError)
      expect(error).toMatchObject({ code: 'ERR_ALMA_TOKENIZER', message: expect.stringContaining('test.model') })
      return error as AlmaError
    }
    throw new Error('was accepted')
  }

  it.each<[string, Uint8Array, RegExp]>([
    ['nothing', new Uint8Array(), /no pieces/],
    ['text', Buffer.from('this is no model'), /SentencePiece/],
    ['an endless number', Buffer.alloc(20, 0xff), /more than 10 bytes/],
    ['a field longer than the file', Buffer.from([0x0a, ...varint(2 ** 31 - 1)]), /2147483647 bytes where 0 are left/],
    ['a negative length', Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]), /4294967295 bytes/],
    ['a group', Buffer.from([0x0b]), /wire type 3/],
    ['the field number 0', Buffer.from([0x00, 0x00]), /field number 0/],
    ['an empty piece', modelFile([UNK, ['', 0, 1]], {}), /piece 1 is empty/],
    ['a piece twice', modelFile([UNK, ['a', 0, 1], ['a', 0, 1]], {}), /pieces 1 and 2 are both "a"/],
    ['a huge piece', modelFile([UNK, ['a'.repeat(5000), 0, 1]], {}), /5000 bytes/],
    ['a score that is no number', modelFile([UNK, ['a', Number.NaN, 1]], {}), /score NaN/],
    ['an unknown type', modelFile([UNK, ['a', 0, 9]], {}), /unknown type 9/],
    ['no unknown piece', modelFile([['a', 0, 1]], {}), /0 unknown pieces/],
    ['a wrong byte piece', modelFile([UNK, ['<0xZZ>', 0, 6]], {}), /named "<0xZZ>"/],
    ['missing bytes', modelFile([UNK], { byteFallback: true }), /only 0 of the 256/],
    ['a unigram model', modelFile([UNK], { modelType: 1 }), /unigram model/],
    [
      'a character map',
      modelFile([UNK], { charsMap: 'xyz', normalizer: 'nmt_nfkc' }),
      /"nmt_nfkc" has a character map/,
    ],
  ])('refuses %s', (_, bytes, message) => expect(refused(bytes).message).toMatch(message))

  it('refuses or reads, but never hangs or crashes on, every truncation and every flipped byte', () => {
    for (let length = 0; length < good.length; length++) {
      try {
        parseSentencePieceModel(good.subarray(0, length), 'test.model')
      } catch (error) {
        expect(error).toBeInstanceOf(AlmaError)
      }
      for (const value of [0x00, 0x7f, 0x80, 0xff]) {
        const flipped = Buffer.from(good)
        flipped[length] = value
        try {
          parseSentencePieceModel(flipped, 'test.model')
        } catch (error) {
          expect(error).toBeInstanceOf(AlmaError)
        }
      }
    }
  })

  it('names the file when loading', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'alma-model-'))
    await writeFile(join(folder, 'tokenizer.model'), good.subarray(0, 30))
    await expect(loadTokenizer(folder)).rejects.toThrow(join(folder, 'tokenizer.model'))
  })
})
