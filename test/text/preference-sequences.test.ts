import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  loadTokenizer,
  preferenceSequences,
  saveTrainedTokenizer,
  type Tokenizer,
  trainBpeTokenizer,
} from '../../lib/text/index.js'

let folder: string
let tokenizer: Tokenizer
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'alma-preference-text-'))
  const texts = ['Translate this from German to English:', 'German: Eins zwei drei.', 'English: One two three.']
  await saveTrainedTokenizer(folder, trainBpeTokenizer(texts, { vocabSize: 300 }))
  tokenizer = (await loadTokenizer(folder)) as Tokenizer
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const prompt = 'Translate this from German to English:\nGerman: Eins zwei.\nEnglish:'
const pair = { source: 'Eins zwei.', chosen: 'One two.', rejected: 'Two one, one two.', from: 'de', to: 'en' }
const [bos, eos] = [1, 2]

describe('preferenceSequences', () => {
  it('are BOS, prompt, response and EOS; the whole prompt is masked', () => {
    const promptIds = tokenizer.encode(prompt)
    const { chosen, rejected, cut } = preferenceSequences(tokenizer, pair)
    for (const [{ ids, firstLabel }, response] of [
      [chosen, pair.chosen],
      [rejected, pair.rejected],
    ] as const) {
      expect(ids).toEqual([bos, ...tokenizer.encode(prompt + response), eos])
      expect(ids.slice(0, firstLabel)).toEqual([bos, ...promptIds])
    }
    expect(cut).toBe(false)
  })

  it('begin where a piece crosses the border of the prompt', () => {
    const { chosen } = preferenceSequences(tokenizer, { ...pair, chosen: ': one' })
    const promptIds = tokenizer.encode(prompt)
    const common = chosen.ids.slice(1).findIndex((id, i) => id !== promptIds[i])
    expect(chosen.firstLabel).toBe(1 + common)
  })

  it('keep BOS and the end of a long prompt, then cut both responses', () => {
    const whole = preferenceSequences(tokenizer, pair)
    const longest = Math.max(whole.chosen.ids.length, whole.rejected.ids.length)
    // One token too many: the prompts are shortened, and that is enough.
    const short = preferenceSequences(tokenizer, pair, { maxLength: longest - 1, maxPromptLength: 5 })
    expect(short.cut).toBe(true)
    for (const [full, kept] of [
      [whole.chosen, short.chosen],
      [whole.rejected, short.rejected],
    ] as const) {
      expect(kept.firstLabel).toBe(5)
      expect(kept.ids).toEqual([bos, ...full.ids.slice(full.firstLabel - 4)])
    }
    // Too long with that too: what is left of the responses has no EOS.
    const shorter = preferenceSequences(tokenizer, pair, { maxLength: 8, maxPromptLength: 5 })
    for (const [full, kept] of [
      [whole.chosen, shorter.chosen],
      [whole.rejected, shorter.rejected],
    ] as const) {
      expect(kept.ids.slice(0, 5)).toEqual([bos, ...full.ids.slice(full.firstLabel - 4, full.firstLabel)])
      expect(kept.ids.slice(5)).toEqual(full.ids.slice(full.firstLabel, full.firstLabel + 3))
    }
  })

  it('wrap the prompt as X-ALMA is asked', () => {
    const { chosen } = preferenceSequences(tokenizer, pair, { promptStyle: 'x-alma' })
    expect(chosen.ids).toEqual([bos, ...tokenizer.encode(`[INST] ${prompt} [/INST] One two.`), eos])
  })
})
