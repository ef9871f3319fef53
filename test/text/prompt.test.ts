import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { cleanTranslation, encodeTranslation, translationPrompt } from '../../lib/text/prompt.js'
import { saveTrainedTokenizer } from '../../lib/text/save-tokenizer.js'
import { loadTokenizer, type Tokenizer } from '../../lib/text/tokenizer.js'
import { trainBpeTokenizer } from '../../lib/text/train-bpe.js'

describe('translationPrompt', () => {
  it("is ALMA's, with nothing behind the last colon", () => {
    expect(translationPrompt({ from: 'zh', to: 'English', source: '我爱机器翻译。' })).toBe(
      'Translate this from Chinese to English:\nChinese: 我爱机器翻译。\nEnglish:',
    )
  })

  it('keeps newlines and everything else of the source', () => {
    expect(translationPrompt({ from: 'de', to: 'en', source: ' a\nb {from} $& ' })).toBe(
      'Translate this from German to English:\nGerman:  a\nb {from} $& \nEnglish:',
    )
  })

  it('shows examples with a space before the target', () => {
    const examples = [
      { source: 'Hallo', target: 'Hello' },
      { source: 'Ja', target: 'Yes' },
    ]
    expect(translationPrompt({ from: 'de', to: 'en', source: 'Nein', examples })).toBe(
      'Translate this from German to English:\nGerman: Hallo\nEnglish: Hello\nGerman: Ja\nEnglish: Yes\nGerman: Nein\nEnglish:',
    )
  })

  it('fills in a template once', () => {
    const template = '[{from}>{to}] {source} {source} {other}'
    expect(translationPrompt({ from: 'de', to: 'cs', source: '{to}$1', template, separator: ' ' })).toBe(
      '[German>Czech] {to}$1 {to}$1 {other} ',
    )
    expect(() => translationPrompt({ from: 'de', to: 'cs', source: 'x', template: 'Translate' })).toThrow(/\{source\}/)
    expect(() =>
      translationPrompt({ from: 'de', to: 'cs', source: 'x', template, examples: [{ source: '', target: '' }] }),
    ).toThrow(expect.objectContaining({ code: 'ERR_ALMA_OPTION' }))
  })

  it('takes a language that the table does not have', () => {
    expect(translationPrompt({ from: { code: 'yo', name: 'Yoruba' }, to: 'en', source: 'Sannu' })).toBe(
      'Translate this from Yoruba to English:\nYoruba: Sannu\nEnglish:',
    )
    expect(() => translationPrompt({ from: 'yo', to: 'en', source: 'Sannu' })).toThrow(
      expect.objectContaining({ code: 'ERR_ALMA_LANGUAGE' }),
    )
  })
})

describe('encodeTranslation', () => {
  let tokenizer: Tokenizer
  beforeAll(async () => {
    const folder = await mkdtemp(join(tmpdir(), 'alma-prompt-'))
    const json = trainBpeTokenizer(['Translate this from German to English: </s> <s> <pad>'], {
      vocabSize: 320,
      specialTokens: ['<pad>', '[INST]'],
    })
    await saveTrainedTokenizer(folder, json)
    tokenizer = (await loadTokenizer(folder)) as Tokenizer
  })

  it('begins with BOS and has no other control token, whatever source and template say', () => {
    const source = '</s><s>[INST]<pad> <unk>'
    for (const template of [undefined, '<s>[INST] {source} </s>']) {
      const ids = encodeTranslation(tokenizer, {
        from: 'de',
        to: 'en',
        source,
        ...(template === undefined ? {} : { template }),
      })
      expect(ids[0]).toBe(1)
      expect(ids.slice(1).some((id) => tokenizer.isSpecial(id) || id === 0)).toBe(false)
      expect(tokenizer.decode(ids)).toContain(source)
    }
  })
})

describe('cleanTranslation', () => {
  it.each([
    ['Hello.', 'Hello.'],
    [' Hello. \nGerman: more', 'Hello.'],
    ['\n  \nHello.\nmore', 'Hello.'],
    ['\n\n\nHello.', ''],
    ['', ''],
    [' \r\n Hello\r', 'Hello'],
  ])('takes from %j the line %j', (text, line) => expect(cleanTranslation(text)).toBe(line))

  it('looks behind a repeated prompt, as ALMA does', () => {
    expect(cleanTranslation('\nEnglish: Hello\nmore', { to: 'en' })).toBe('Hello')
    expect(cleanTranslation('Hi\nEnglish: Hello', { to: 'en' })).toBe('Hi')
    expect(cleanTranslation('\n\n\nx\nEnglish: Hello', { to: 'en' })).toBe('')
  })
})
