import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { IGNORE_INDEX } from '../../lib/ignore-index.js'
import { saveTrainedTokenizer } from '../../lib/text/save-tokenizer.js'
import { loadTokenizer, type Tokenizer } from '../../lib/text/tokenizer.js'
import { trainBpeTokenizer } from '../../lib/text/train-bpe.js'
import {
  BlockPacker,
  monolingualDocument,
  parallelExample,
  type TrainingExample,
} from '../../lib/text/training-examples.js'
import { fixtureFolder } from '../support/fixtures.js'

const folder = fixtureFolder('tokenizer')
const pair = { source: 'Guten Morgen!', target: 'Good morning!', from: 'de', to: 'en' }
// "Translate this from German to English:\nGerman: Guten Morgen!\nEnglish:", SentencePiece's ids.
const PROMPT = [
  4103, 9632, 445, 515, 5332, 304, 4223, 29901, 13, 29954, 3504, 29901, 402, 6935, 341, 18996, 29991, 13, 24636, 29901,
]
const TARGET = [18420, 7250, 29991]

describe.skipIf(folder === undefined)('parallelExample', () => {
  let tokenizer: Tokenizer
  beforeAll(async () => {
    tokenizer = (await loadTokenizer(folder ?? '')) as Tokenizer
  })
  const labelled = ({ inputIds, labels }: TrainingExample): number[] => {
    expect(labels).toHaveLength(inputIds.length)
    return labels.filter((label, i) => {
      if (label !== IGNORE_INDEX) expect(label).toBe(inputIds[i])
      return label !== IGNORE_INDEX
    })
  }

  it('masks the whole prompt and counts target and EOS', () => {
    const { inputIds, labels } = parallelExample(tokenizer, pair)
    expect(inputIds).toEqual([1, ...PROMPT, ...TARGET, 2])
    expect(labels).toEqual([...Array(1 + PROMPT.length).fill(-100), ...TARGET, 2])
  })

  it("leaves the prompt's last colon a label in compat mode", () => {
    const { labels } = parallelExample(tokenizer, pair, { compat: 'alma' })
    expect(labels).toEqual([...Array(PROMPT.length).fill(-100), 29901, ...TARGET, 2])
  })

  it('counts a piece that reaches from the prompt into the target', () => {
    // "::" is one piece in LLaMA-2's vocabulary.
    const merged = parallelExample(tokenizer, { ...pair, target: ': yes' })
    const whole = tokenizer.encode('English:: yes').slice(1)
    expect(whole[0]).not.toBe(29901)
    expect(merged.inputIds).toEqual([1, ...PROMPT.slice(0, -1), ...whole, 2])
    expect(labelled(merged)).toEqual([...whole, 2])
  })

  it('keeps control tokens in the data as text', () => {
    const { inputIds } = parallelExample(tokenizer, { ...pair, source: '</s>', target: 'a</s>b' })
    expect(inputIds.filter((id) => id < 3)).toEqual([1, 2])
  })

  it('cuts to the sum of the lengths, EOS included', () => {
    const long = parallelExample(tokenizer, { ...pair, target: 'Good morning! '.repeat(300) })
    expect(long.inputIds).toHaveLength(512)
    expect(long.inputIds.at(-1)).toBe(2)
    expect(labelled(long)).toHaveLength(512 - 1 - PROMPT.length)
    const short = parallelExample(tokenizer, pair, { maxSourceLength: 12, maxNewTokens: 11 })
    expect(short.inputIds).toEqual([1, ...PROMPT, TARGET[0], 2])
  })

  it('has no labels when nothing of the target fits', () => {
    const source = 'Guten Morgen! '.repeat(300)
    const example = parallelExample(tokenizer, { ...pair, source })
    expect(example.inputIds).toHaveLength(512)
    expect(labelled(example)).toEqual([])
    const edge = { maxSourceLength: 11, maxNewTokens: 11 }
    expect(labelled(parallelExample(tokenizer, pair, edge))).toEqual([])
    expect(labelled(parallelExample(tokenizer, pair, { ...edge, compat: 'alma' }))).toEqual([29901, 2])
    expect(labelled(parallelExample(tokenizer, { ...pair, target: '' }))).toEqual([2])
  })

  it('takes a separator and refuses lengths that are none', () => {
    expect(labelled(parallelExample(tokenizer, { ...pair, target: 'Good' }, { separator: ' ' }))).toEqual([7197, 2])
    expect(() => parallelExample(tokenizer, pair, { maxNewTokens: 0 })).toThrow(
      expect.objectContaining({ code: 'ERR_ALMA_OPTION' }),
    )
  })

  it('wraps a trimmed document in BOS and EOS', () => {
    expect(monolingualDocument(tokenizer, '  Hello \n')).toEqual([1, 15043, 2])
  })
})

describe('parallelExample with a tokenizer of its own', () => {
  it('masks BOS and the prompt, for any tokenizer', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'alma-example-'))
    await saveTrainedTokenizer(folder, trainBpeTokenizer(['Guten Morgen Good morning'], { vocabSize: 300 }))
    const tokenizer = (await loadTokenizer(folder)) as Tokenizer
    const prompt = tokenizer.encode('Translate this from German to English:\nGerman: Guten Morgen!\nEnglish:')
    const whole = tokenizer.encode(
      'Translate this from German to English:\nGerman: Guten Morgen!\nEnglish:Good morning!',
    )
    const { inputIds, labels } = parallelExample(tokenizer, pair)
    expect(inputIds).toEqual([1, ...whole, 2])
    expect(labels).toEqual([...Array(1 + prompt.length).fill(-100), ...whole.slice(prompt.length), 2])
    const compat = parallelExample(tokenizer, pair, { compat: 'alma' }).labels
    expect(compat.findIndex((label) => label !== IGNORE_INDEX)).toBe(prompt.length)
  })
})

describe('BlockPacker', () => {
  it('joins documents and cuts them without losing a token', () => {
    const packer = new BlockPacker(4)
    expect(packer.push([1, 2, 3])).toEqual([])
    expect(packer.push([4, 5])).toEqual([[1, 2, 3, 4]])
    expect(packer.push([6, 7, 8, 9, 10, 11, 12, 13])).toEqual([
      [5, 6, 7, 8],
      [9, 10, 11, 12],
    ])
    expect(packer.push([14, 15, 16])).toEqual([[13, 14, 15, 16]])
    expect(packer.state()).toEqual({ blockSize: 4, pending: [] })
  })

  it('goes on from a saved state', () => {
    const packer = new BlockPacker(4)
    packer.push([1, 2])
    const state = JSON.parse(JSON.stringify(packer.state()))
    packer.push([3])
    const other = new BlockPacker(4)
    other.restore(state)
    expect(other.push([7, 8, 9])).toEqual([[1, 2, 7, 8]])
    expect(() => new BlockPacker(8).restore(state)).toThrow(/blocks of 4/)
    expect(() => new BlockPacker(1)).toThrow(expect.objectContaining({ code: 'ERR_ALMA_OPTION' }))
  })
})
