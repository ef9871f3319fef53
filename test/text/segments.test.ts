import { describe, expect, it } from 'vitest'
import { type SplitMode, sentencesOf, splitDocument } from '../../lib/text/segments.js'

const wordLimit =
  (limit: number) =>
  (text: string): boolean =>
    text.split(/\s+/).length <= limit

function split(text: string, mode: SplitMode, fits = wordLimit(1000), [from, to] = ['de', 'en']) {
  return splitDocument(text, { from: from ?? 'de', to: to ?? 'en', mode, fits })
}

describe('splitDocument', () => {
  const letter = 'Guten Tag,\r\n\r\n  wie geht es Ihnen? Mir geht es gut.\n\n\t\nMit Grüßen\n'

  it.each(['auto', 'lines', 'sentences', 'none'] as const)('gives the text itself back (%s)', (mode) => {
    for (const text of [letter, '', ' ', '\n', 'ein Satz', 'a\u2028b\u2029c\rd', ' x ']) {
      const document = split(text, mode)
      expect(document.join(document.segments)).toBe(text)
      for (const segment of document.segments) expect(segment).toMatch(/^\S(?:[\s\S]*\S)?$/)
    }
  })

  it('cuts at lines and keeps all white space', () => {
    const document = split(letter, 'auto')
    expect(document.segments).toEqual(['Guten Tag,', 'wie geht es Ihnen? Mir geht es gut.', 'Mit Grüßen'])
    expect(document.join(['Hello,', 'how are you?', 'Regards'])).toBe('Hello,\r\n\r\n  how are you?\n\n\t\nRegards\n')
  })

  it('cuts at sentences when told to, or when a line is too long: then as many together as fit', () => {
    const line = 'Eins zwei drei. Vier fünf! Sechs sieben? Acht.'
    const parts = ['Eins zwei drei.', 'Vier fünf!', 'Sechs sieben?', 'Acht.']
    expect(split(line, 'sentences').segments).toEqual(parts)
    expect(split(line, 'auto').segments).toEqual([line])
    expect(split(line, 'auto', wordLimit(5)).segments).toEqual(['Eins zwei drei. Vier fünf!', 'Sechs sieben? Acht.'])
    expect(split(line, 'lines', wordLimit(5)).segments).toEqual([line])
    expect(split(line, 'none', wordLimit(5)).segments).toEqual([line])
  })

  it('cuts sentences that are too long near the middle, at the best bound there is', () => {
    const clauses = 'Er kam, sah und siegte am Morgen; sie aber blieb noch lange dort, sagte man.'
    expect(split(clauses, 'auto', wordLimit(8)).segments).toEqual([
      'Er kam, sah und siegte am Morgen;',
      'sie aber blieb noch lange dort, sagte man.',
    ])
    const words = Array.from({ length: 20 }, (_, i) => `wort${i}`).join(' ')
    const document = split(words, 'auto', wordLimit(6))
    for (const segment of document.segments) expect(segment.split(' ').length).toBeLessThanOrEqual(6)
    expect(document.join(document.segments)).toBe(words)
    // Neither a decimal comma nor a time of day is a bound.
    const numbers = split('abc def 3,5 ghi jkl', 'auto', wordLimit(3))
    expect(numbers.join(numbers.segments)).toBe('abc def 3,5 ghi jkl')
    expect(numbers.segments.join('|')).toContain('3,5')
  })

  it('cuts what has no bounds at all, never inside a character', () => {
    const family = '👨‍👩‍👧‍👦'
    const document = split(family.repeat(8), 'auto', (text) => text.length <= 3 * family.length)
    for (const segment of document.segments) expect(segment.replaceAll(family, '')).toBe('')
    expect(document.segments.length).toBeGreaterThan(2)
    // One character that does not fit stays: there is nothing to cut.
    expect(split(family, 'auto', () => false).segments).toEqual([family])
  })

  it('puts between sentences what the target language has there', () => {
    const chinese = split('你好。今天很好。', 'sentences', undefined, ['zh', 'en'])
    expect(chinese.segments).toEqual(['你好。', '今天很好。'])
    expect(chinese.join(['Hello.', 'It is fine.'])).toBe('Hello. It is fine.')
    const english = split('Hello. It is fine.\nYes.', 'sentences', undefined, ['en', 'zh'])
    expect(english.join(['你好。', '很好。', '是。'])).toBe('你好。很好。\n是。')
  })
})

describe('sentencesOf', () => {
  it.each([
    ['de', 'Dr. Müller kam am 3. Mai z.B. nach Bonn. Er blieb.', 2],
    ['en', 'Mr. Smith met J. R. Doe at 5 p.m. in St. Louis. They left.', 2],
    ['en', 'Is it? Yes! Fine.', 3],
    ['ja', '今日は。元気です。', 2],
    ['hi', 'यह ठीक है। वह गया।', 2],
  ])('%s: %s', (language, line, count) => {
    const sentences = sentencesOf(line, language)
    expect(sentences.join('')).toBe(line)
    expect(sentences).toHaveLength(count)
  })
})
