import { describe, expect, it } from 'vitest'
import { expectedScores } from '../../lib/metrics/expected-score.js'
import { sentenceBleu, sentenceChrf } from '../../lib/metrics/index.js'

const candidates = [
  'The cat sat on the mat.',
  'A cat sat on the mat.',
  'The cat is sitting on the mat.',
  'Dogs bark at night, loudly.',
  'The cat sat on the mat.',
]

describe('expectedScores', () => {
  it.each(['chrf', 'bleu'] as const)('is the %s of sacreBLEU for a single reference', (metric) => {
    const scoreOf = metric === 'chrf' ? sentenceChrf : sentenceBleu
    for (const reference of candidates) {
      const scores = expectedScores(candidates, { metric, references: [reference] })
      for (const [i, candidate] of candidates.entries()) {
        expect(scores[i]).toBeCloseTo(scoreOf(candidate, reference).score, 9)
      }
    }
  })

  it.each(['chrf', 'bleu'] as const)('prefers what the candidates have in common (%s)', (metric) => {
    const scores = expectedScores(candidates, { metric })
    expect(scores[0]).toBe(Math.max(...scores))
    expect(scores[3]).toBe(Math.min(...scores))
    expect(scores[4]).toBe(scores[0])
  })

  it('averages the counts: worked by hand', () => {
    // Characters: "ab" against "ab" and "b": expected a ½, b 1, ab ½ of totals 1.5 and 0.5; "ab" has a, b, ab.
    const [score] = expectedScores(['ab'], { references: ['ab', 'b'] })
    const precision = (1.5 / 2 + 0.5 / 1) / 2
    const recall = (1.5 / 1.5 + 0.5 / 0.5) / 2
    expect(score).toBeCloseTo((100 * 5 * precision * recall) / (4 * precision + recall), 9)
  })

  it('copes with empty candidates', () => {
    expect(expectedScores(['', 'a'])).toEqual([0, expect.any(Number)])
    expect(expectedScores([], {})).toEqual([])
    expect(expectedScores([''], { metric: 'bleu' })).toEqual([0])
  })

  it('takes time in proportion to the number of candidates', () => {
    const many = Array.from({ length: 2000 }, (_, i) => `${candidates[i % 4]} ${i}`)
    const scores = expectedScores(many)
    expect(scores).toHaveLength(2000)
    // Every fourth is the same sentence but for its number; the odd one out stays the worst.
    expect(scores.indexOf(Math.min(...scores)) % 4).toBe(3)
  })
})
