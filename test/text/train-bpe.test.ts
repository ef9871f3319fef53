import { mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers'
import { describe, expect, it } from 'vitest'
import { Random } from '../../lib/text/random.js'
import { saveTrainedTokenizer } from '../../lib/text/save-tokenizer.js'
import { loadTokenizer, type Tokenizer } from '../../lib/text/tokenizer.js'
import { type TokenizerJson, trainBpeTokenizer } from '../../lib/text/train-bpe.js'

/** About `bytes` of text whose words are as unequally frequent as those of a language (Zipf). */
function sampleText(bytes: number, seed = 1): string[] {
  const random = new Random(seed)
  const syllables = ['ba', 'ko', 'rin', 'schu', 'te', 'lö', 'ma', 'ge', 'ver', 'ung', 'ň', 'ж', '世', 'í', 'ng']
  const words = Array.from({ length: 20_000 }, () =>
    Array.from({ length: 1 + random.below(5) }, () => syllables[random.below(syllables.length)]).join(''),
  )
  const lines: string[] = []
  for (let size = 0; size < bytes; ) {
    const line = Array.from({ length: 12 }, () => words[Math.floor(words.length ** random.float()) - 1]).join(' ')
    lines.push(line)
    size += Buffer.byteLength(line) + 1
  }
  return lines
}

async function saved(json: TokenizerJson): Promise<{ folder: string; tokenizer: Tokenizer }> {
  const folder = await mkdtemp(join(tmpdir(), 'alma-bpe-'))
  await saveTrainedTokenizer(folder, json)
  return {
    folder,
    tokenizer: (await loadTokenizer(folder, { vocabSize: Object.keys(json.model.vocab).length })) as Tokenizer,
  }
}

describe('trainBpeTokenizer', () => {
  it('lays out ids as LLaMA-2 does and merges the most frequent pair first', () => {
    // Pairs: ▁a 3 times, ab 3 times, ▁b once, bc once. Of the two with 3, "a b" sorts before "▁ a".
    const { vocab, merges } = trainBpeTokenizer(['ab ab', 'abc b'], { vocabSize: 259 + 4 + 4 }).model
    expect([vocab['<unk>'], vocab['<s>'], vocab['</s>'], vocab['<0x00>'], vocab['<0xFF>']]).toEqual([0, 1, 2, 3, 258])
    // By frequency, then by code: ▁ 4, b 4, a 3, c 1.
    expect([vocab.b, vocab['\u2581'], vocab.a, vocab.c]).toEqual([259, 260, 261, 262])
    expect(merges).toEqual(['a b', '\u2581 ab', '\u2581 b', '\u2581ab c'])
    expect([vocab.ab, vocab['\u2581ab'], vocab['\u2581b'], vocab['\u2581abc']]).toEqual([263, 264, 265, 266])
  })

  it('counts overlapping pairs as merges join them', () => {
    const { merges } = trainBpeTokenizer(['aaaa'], { vocabSize: 259 + 2 + 2 }).model
    expect(merges).toEqual(['a a', 'aa aa'])
  })

  it('agrees with a trainer that counts everything anew for each merge', () => {
    const lines = sampleText(4000)
    const { merges } = trainBpeTokenizer(lines, { vocabSize: 420, characterCoverage: 1 }).model
    expect(merges.length).toBeGreaterThan(100)
    expect(merges).toEqual(naiveMerges(lines, merges.length))
  })

  it('is the same for the same text, and keeps to the size', () => {
    const lines = sampleText(20_000)
    const json = trainBpeTokenizer(lines, { vocabSize: 600, specialTokens: ['<pad>'] })
    expect(JSON.stringify(trainBpeTokenizer(lines, { vocabSize: 600, specialTokens: ['<pad>'] }))).toBe(
      JSON.stringify(json),
    )
    expect(Object.keys(json.model.vocab)).toHaveLength(600)
    expect(json.model.vocab['<pad>']).toBe(599)
    expect(
      Math.max(...Object.keys(json.model.vocab).map((piece) => (/^<.+>$/.test(piece) ? 0 : piece.length))),
    ).toBeLessThanOrEqual(16)
  })

  it('never makes a control or byte token out of text', () => {
    const { vocab, merges } = trainBpeTokenizer(Array(50).fill('</s></s> <0x0A><0x0A>'), { vocabSize: 400 }).model
    expect(vocab['</s>']).toBe(2)
    expect(merges.map((merge) => merge.replace(' ', ''))).not.toContain('</s>')
    expect(merges.map((merge) => merge.replace(' ', ''))).not.toContain('<0x0A>')
    expect(vocab['</s></s>']).toBeUndefined()
  })

  it('spells rare characters in bytes', async () => {
    const json = trainBpeTokenizer([...Array(3000).fill('ab'), 'ж'], { vocabSize: 300 })
    expect(json.model.vocab.ж).toBeUndefined()
    const { tokenizer } = await saved(json)
    expect(tokenizer.encode('ж')).toEqual([json.model.vocab['\u2581'], 3 + 0xd0, 3 + 0xb6])
    expect(tokenizer.decode(tokenizer.encode('ж\n\ta'))).toBe('ж\n\ta')
  })

  it('refuses sizes without room, and no text', () => {
    for (const vocabSize of [0, 259, 300.5, Number.NaN])
      expect(() => trainBpeTokenizer(['a'], { vocabSize })).toThrow(/vocabSize: expected an integer above 259/)
    expect(() => trainBpeTokenizer(['a'], { vocabSize: 300, specialTokens: ['</s>'] })).toThrow(/specialTokens/)
    expect(() => trainBpeTokenizer(['', '\n'], { vocabSize: 300 })).toThrow(
      expect.objectContaining({ code: 'ERR_ALMA_CORPUS' }),
    )
  })

  it('trains 2000 merges on 1 MB in less than 10 s, and both encoders agree on the result', async () => {
    const lines = sampleText(1e6)
    const start = performance.now()
    const json = trainBpeTokenizer(lines, { vocabSize: 2300 })
    const seconds = (performance.now() - start) / 1000
    expect(json.model.merges.length).toBeGreaterThanOrEqual(2000)
    expect(seconds).toBeLessThan(10)
    const { folder, tokenizer } = await saved(json)
    const library = new LibraryTokenizer(
      JSON.parse(await readFile(join(folder, 'tokenizer.json'), 'utf8')),
      JSON.parse(await readFile(join(folder, 'tokenizer_config.json'), 'utf8')),
    )
    const odd = [
      '',
      ' ',
      '   a  b',
      '\n\nx',
      'Ωμέγα 🙂\u0000',
      'baba\u2581ko',
      '<0x41>',
      'lö'.repeat(400),
      ...sampleText(20_000, 9),
    ]
    for (const text of odd) {
      const ids = tokenizer.encode(text)
      expect(ids, JSON.stringify(text)).toEqual(library.encode(text, { add_special_tokens: false }).ids)
      expect(tokenizer.encode(text, { addBos: true })).toEqual(library.encode(text).ids)
      expect(tokenizer.decode(ids)).toBe(text.replaceAll('\u2581', ' '))
      if (ids.length > 0) expect(library.decode(ids, { skip_special_tokens: true })).toBe(tokenizer.decode(ids))
    }
    expect(tokenizer.encode('a</s>b').includes(2)).toBe(false)
    expect(tokenizer.encode('</s>', { parseSpecial: true })).toEqual([2])
    expect([tokenizer.bosTokenId, tokenizer.eosTokenId, tokenizer.unkTokenId, tokenizer.padTokenId]).toEqual([
      1, 2, 0, 0,
    ])
  })
})

/** The definition: count all pairs of all words, join the best everywhere, begin again. */
function naiveMerges(lines: readonly string[], count: number): string[] {
  const words = lines.flatMap((line) => line.split(' ').map((word) => ['\u2581', ...word]))
  const merges: string[] = []
  while (merges.length < count) {
    const counts = new Map<string, number>()
    for (const word of words)
      for (let i = 0; i + 1 < word.length; i++) {
        const pair = `${word[i]} ${word[i + 1]}`
        if (pair.length <= 17) counts.set(pair, (counts.get(pair) ?? 0) + 1)
      }
    const sorted = [...counts].sort(([a, m], [b, n]) => n - m || compare(a.split(' '), b.split(' ')))
    const best = sorted[0]?.[0] ?? ''
    const [left, right] = best.split(' ')
    merges.push(best)
    for (const word of words)
      for (let i = 0; i + 1 < word.length; i++)
        if (word[i] === left && word[i + 1] === right) word.splice(i, 2, `${left}${right}`)
  }
  return merges
}

function compare(a: readonly string[], b: readonly string[]): number {
  for (const [i, text] of a.entries()) if (text !== b[i]) return text < (b[i] ?? '') ? -1 : 1
  return 0
}
