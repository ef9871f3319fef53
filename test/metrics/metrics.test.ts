/** Small cases whose scores can be worked out on paper. */
import { describe, expect, test } from 'vitest'
import { AlmaError } from '../../lib/errors.js'
import { bleu, chrf, metrics, sentenceBleu, sentenceChrf, sentenceTer, ter } from '../../lib/metrics/index.js'

const digits = 10

describe('BLEU', () => {
  test('is the geometric mean of the precisions', () => {
    const score = bleu(['1 2 3 4 6'], ['1 2 3 4 5'])
    expect(score).toMatchObject({ counts: [4, 3, 2, 1], totals: [5, 4, 3, 2], brevityPenalty: 1 })
    expect(score.score).toBeCloseTo(100 * ((4 / 5) * (3 / 4) * (2 / 3) * (1 / 2)) ** (1 / 4), digits)
    expect(score.signature).toBe('nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0')
  })

  test('punishes what is too short', () => {
    const score = bleu(['1 2 3 4'], ['1 2 3 4 5'])
    expect(score.score).toBeCloseTo(100 * Math.exp(1 - 5 / 4), digits)
    expect(score).toMatchObject({ hypothesisLength: 4, referenceLength: 5 })
    expect(bleu([''], ['1 2']).brevityPenalty).toBe(0)
  })

  test('clips repeated words', () => {
    expect(bleu(['7 7 7 7'], ['7 8 7 9']).counts).toEqual([2, 0, 0, 0])
  })

  test('sums the counts of the corpus instead of averaging sentences', () => {
    expect(bleu(['1 2 3 4', '5 6'], ['1 2 3 4', '5 7'])).toMatchObject({ counts: [5, 3, 2, 1], totals: [6, 4, 2, 1] })
  })

  test('takes the best of several references, and the nearest length, the shorter of two', () => {
    const score = bleu(['1 2 3'], [['1 2'], ['3 3 1 9']])
    expect(score).toMatchObject({ counts: [3, 1, 0, 0], referenceLength: 2 })
    expect(score.signature).toMatch(/^nrefs:2\|/)
    const variable = bleu(
      ['1', '2'],
      [
        ['1', '2'],
        ['1', null],
      ],
    )
    expect(variable.signature).toMatch(/^nrefs:var\|/)
  })

  test('smooths as asked', () => {
    const precisions = (options: object): readonly number[] => bleu(['1 2 3 4'], ['1 3 2 5'], options).precisions
    expect(precisions({})).toEqual([75, 100 / 6, 100 / 8, 100 / 8])
    expect(precisions({ smoothMethod: 'none' })).toEqual([75, 0, 0, 0])
    expect(precisions({ smoothMethod: 'floor' })).toEqual([75, 10 / 3, 5, 10])
    expect(precisions({ smoothMethod: 'add-k' })).toEqual([75, 25, 100 / 3, 50])
    expect(bleu(['1'], ['1'], { smoothMethod: 'floor', smoothValue: 0.25 }).signature).toContain('smooth:floor[0.25]')
  })

  test('scores a short sentence by the orders that it has', () => {
    expect(sentenceBleu('1 2 3', '1 2 4').score).toBeCloseTo(100 * (1 / 6) ** (1 / 3), digits)
    expect(bleu(['1 2 3'], ['1 2 4']).score).toBe(0)
    expect(sentenceBleu('1 2 3', ['9', '1 2 3']).score).toBeCloseTo(100, digits)
  })

  test.each([
    ['13a', 9], // $ 1,234.50 ( 10 % ) 3 - 5
    ['intl', 7], // $ 1,234.50 ( 10 % ) 3-5
    ['none', 3],
    ['char', 17],
  ] as const)('tokenises by %s', (tokenize, tokens) => {
    const text = '$1,234.50 (10%) 3-5'
    expect(bleu([text], [text], { tokenize }).hypothesisLength).toBe(tokens)
  })
})

describe('chrF', () => {
  test('weighs recall beta times as much as precision', () => {
    const score = chrf(['12'], ['123'], { charOrder: 1 })
    expect(score.score).toBeCloseTo((100 * (5 * (2 / 3))) / (4 + 2 / 3), digits)
    expect(score).toMatchObject({ name: 'chrF2', charOrder: 1, wordOrder: 0, beta: 2 })
    expect(score.signature).toBe('nrefs:1|case:mixed|eff:yes|nc:1|nw:0|space:no|version:2.6.0')
  })

  test('averages precision and recall over the orders that both sides have', () => {
    // Orders 1 and 2: precisions 2/3 and 1/2, recalls the same; the third order matches nothing.
    expect(sentenceChrf('123', '124').score).toBeCloseTo(100 * ((2 / 3 + 1 / 2 + 0) / 3), digits)
  })

  test('counts words, with punctuation apart, when asked', () => {
    const options = { charOrder: 1, wordOrder: 1, beta: 1 }
    // Characters 3 of 4 and words 2 of 3 ("12" differs, "3" and "." match).
    const score = sentenceChrf('12 3.', '14 3.', options)
    expect(score.name).toBe('chrF1+')
    expect(score.score).toBeCloseTo(100 * ((3 / 4 + 2 / 3) / 2), digits)
  })

  test('sees code points, not surrogates, and white space only when asked', () => {
    expect(sentenceChrf('\u{1f600}', '\u{1f601}').score).toBe(0)
    expect(sentenceChrf('1 2', '12').score).toBeCloseTo(100, digits)
    expect(sentenceChrf('1 2', '12', { whitespace: true }).score).toBeLessThan(100)
  })
})

describe('TER', () => {
  test('counts a shift as one edit', () => {
    expect(ter(['2 3 4 5 6 7 8 1'], ['1 2 3 4 5 6 7 8'])).toMatchObject({ score: 12.5, edits: 1, referenceLength: 8 })
  })

  test('counts insertions, deletions and substitutions', () => {
    expect(sentenceTer('1 2 3 4', '1 9 3').edits).toBe(2)
    expect(sentenceTer('', '1 2').score).toBe(100)
    expect(sentenceTer('1', '').score).toBe(100)
    expect(sentenceTer('', '').score).toBe(0)
  })

  test('divides by the mean length of the references', () => {
    expect(sentenceTer('1 2', ['1 2', '1 2 3 4'])).toMatchObject({ edits: 0, referenceLength: 3 })
  })
})

describe('every metric', () => {
  const all = Object.entries({ bleu, chrf, ter })

  test.each(all)('%s refuses what it cannot score', (_, metric) => {
    expect(() => metric([], [])).toThrow(AlmaError)
    expect(() => metric(['1'], [])).toThrow(AlmaError)
    expect(() => metric(['1', '2'], ['1'])).toThrow(/1 lines, but there are 2 hypotheses/)
    expect(() => metric(['1'], [[null]])).toThrow(/line 0 has no reference/)
    expect(() => metric(['1'], ['1'], { tokenise: '13a' } as object)).toThrow(/no option tokenise/)
  })

  test('stands in the namespace', () => {
    expect(metrics).toMatchObject({ bleu, chrf, ter, sentenceBleu, sentenceChrf, sentenceTer })
  })

  test('names the option that is wrong', () => {
    expect(() => bleu(['1'], ['1'], { tokenize: '14a' as '13a' })).toThrow(/tokenize is '14a'/)
    expect(() => bleu(['1'], ['1'], { maxNgramOrder: 0 })).toThrow(/maxNgramOrder/)
    expect(() => chrf(['1'], ['1'], { beta: -1 })).toThrow(/beta/)
  })
})
