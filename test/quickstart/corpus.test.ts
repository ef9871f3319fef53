import { describe, expect, test } from 'vitest'
import { mainClause, question, subordinateClause } from '../../quickstart/corpus/clauses.js'
import { calendarDay, clockTime, onDate } from '../../quickstart/corpus/dates.js'
import { type CorpusOptions, generateCorpus, wordForms } from '../../quickstart/corpus/generate.js'
import { nounPhrase, type Phrase, subjectPronouns } from '../../quickstart/corpus/noun-phrases.js'
import { type Noun, nouns } from '../../quickstart/corpus/nouns.js'
import { englishCardinal, englishOrdinal, germanCardinal, germanOrdinal } from '../../quickstart/corpus/numbers.js'
import { type Modal, modals, verb } from '../../quickstart/corpus/verbs.js'

const options: CorpusOptions = {
  seed: 7,
  trainPairs: 12_000,
  heldOutPairs: 400,
  validationPairs: 200,
  monolingualSentences: 20_000,
}
const corpus = generateCorpus(options)
const reserved = [...corpus.heldOut, ...corpus.validation]

describe('numbers, dates and times', () => {
  test.each([
    [0, 'null', 'zero'],
    [1, 'eins', 'one'],
    [7, 'sieben', 'seven'],
    [12, 'zwölf', 'twelve'],
    [16, 'sechzehn', 'sixteen'],
    [17, 'siebzehn', 'seventeen'],
    [21, 'einundzwanzig', 'twenty-one'],
    [30, 'dreißig', 'thirty'],
    [77, 'siebenundsiebzig', 'seventy-seven'],
    [100, 'einhundert', 'one hundred'],
    [101, 'einhunderteins', 'one hundred and one'],
    [621, 'sechshunderteinundzwanzig', 'six hundred and twenty-one'],
    [1000, 'eintausend', 'one thousand'],
    [3005, 'dreitausendfünf', 'three thousand and five'],
    [1987, 'eintausendneunhundertsiebenundachtzig', 'one thousand nine hundred and eighty-seven'],
    [9999, 'neuntausendneunhundertneunundneunzig', 'nine thousand nine hundred and ninety-nine'],
  ])('%i is %s, %s', (value, de, en) => {
    expect(germanCardinal(value)).toBe(de)
    expect(englishCardinal(value)).toBe(en)
  })

  test('every number has its own words', () => {
    const all = Array.from({ length: 10_000 }, (_, value) => value)
    expect(new Set(all.map(germanCardinal)).size).toBe(all.length)
    expect(new Set(all.map(englishCardinal)).size).toBe(all.length)
    expect(() => germanCardinal(10_000)).toThrow(RangeError)
    expect(() => englishCardinal(1.5)).toThrow(RangeError)
  })

  test('ordinals', () => {
    expect([1, 2, 3, 7, 8, 19, 20, 31].map(germanOrdinal)).toEqual(
      'erste zweite dritte siebte achte neunzehnte zwanzigste einunddreißigste'.split(' '),
    )
    expect([1, 2, 3, 5, 9, 12, 20, 21, 30, 31].map(englishOrdinal)).toEqual(
      'first second third fifth ninth twelfth twentieth twenty-first thirtieth thirty-first'.split(' '),
    )
  })

  test('dates', () => {
    expect(onDate(3, 5, 1987)).toEqual({ de: 'am dritten Mai 1987', en: 'on the third of May 1987' })
    expect(onDate(1, 12)).toEqual({ de: 'am ersten Dezember', en: 'on the first of December' })
    expect(calendarDay(20, 3)).toEqual({ de: 'den zwanzigsten März', en: 'the twentieth of March' })
  })

  test.each([
    [7, 30, 'halb acht', 'half past seven'],
    [12, 30, 'halb eins', 'half past twelve'],
    [7, 15, 'Viertel nach sieben', 'a quarter past seven'],
    [12, 45, 'Viertel vor eins', 'a quarter to one'],
    [1, 0, 'ein Uhr', "one o'clock"],
    [6, 50, 'zehn vor sieben', 'ten to seven'],
    [6, 20, 'zwanzig nach sechs', 'twenty past six'],
  ])('%i:%i is %s, %s', (hour, minute, de, en) => {
    expect(clockTime(hour, minute)).toEqual({ de, en })
  })
})

test('separable verbs know their prefix', () => {
  expect(verb('anrufen').de).toMatchObject({
    prefix: 'an',
    participle: 'angerufen',
    present: { first: 'rufe', third: 'ruft', plural: 'rufen' },
  })
  expect(verb('abholen').en).toMatchObject({ base: 'pick up', third: 'picks up' })
})

describe('phrases and clauses', () => {
  const noun = (singular: string): Noun => {
    const found = nouns.find((entry) => entry.de.singular === singular)
    if (found === undefined) throw new Error(`no noun ${singular}`)
    return found
  }
  const red = { de: 'rot', en: 'red' }

  test.each([
    ['Stuhl', 'definite', 'der rote Stuhl', 'den roten Stuhl', 'dem roten Stuhl', 'the red chair'],
    ['Stuhl', 'indefinite', 'ein roter Stuhl', 'einen roten Stuhl', 'einem roten Stuhl', 'a red chair'],
    ['Lampe', 'mein', 'meine rote Lampe', 'meine rote Lampe', 'meiner roten Lampe', 'my red lamp'],
    ['Buch', 'unser', 'unser rotes Buch', 'unser rotes Buch', 'unserem roten Buch', 'our red book'],
    ['Buch', 'negative', 'kein rotes Buch', 'kein rotes Buch', 'keinem roten Buch', 'a red book'],
  ] as const)('%s declines (%s)', (singular, determiner, nominative, accusative, dative, english) => {
    const phrase = nounPhrase(noun(singular), { determiner, adjective: red })
    expect(phrase.de).toEqual({ nominative, accusative, dative })
    expect(phrase.en.object).toBe(english)
  })

  test('plurals decline', () => {
    const apple = noun('Apfel')
    expect(nounPhrase(apple, { determiner: 'indefinite', plural: true, adjective: red }).de.accusative).toBe(
      'rote Äpfel',
    )
    expect(nounPhrase(apple, { determiner: 'definite', plural: true, adjective: red }).de.dative).toBe(
      'den roten Äpfeln',
    )
    expect(nounPhrase(apple, { determiner: 'indefinite' }).en.subject).toBe('an apple')
  })

  const he = subjectPronouns[2] as Phrase
  const call = { subject: he, verb: verb('anrufen'), object: nounPhrase(noun('Bruder'), { determiner: 'mein' }) }
  const yesterday = { de: 'gestern', en: 'yesterday' }
  const can = { modal: modals[0] as Modal }

  test('verbs stand second in main clauses, whatever comes first', () => {
    expect(mainClause({ ...call, tense: 'present' })).toEqual({
      de: 'er ruft meinen Bruder an',
      en: 'he calls my brother',
    })
    expect(mainClause({ ...call, tense: 'past', time: yesterday, fronted: true })).toEqual({
      de: 'gestern hat er meinen Bruder angerufen',
      en: 'yesterday he called my brother',
    })
    expect(mainClause({ ...call, tense: can, negated: 'nicht' })).toEqual({
      de: 'er kann meinen Bruder nicht anrufen',
      en: 'he cannot call my brother',
    })
  })

  test('verbs stand last in subordinate clauses', () => {
    expect(subordinateClause({ ...call, tense: 'present' }).de).toBe('er meinen Bruder anruft')
    expect(subordinateClause({ ...call, tense: 'perfect' }).de).toBe('er meinen Bruder angerufen hat')
    expect(subordinateClause({ ...call, tense: can }).de).toBe('er meinen Bruder anrufen kann')
  })

  test('verbs stand first in questions', () => {
    expect(question({ ...call, tense: 'present' })).toEqual({
      de: 'ruft er meinen Bruder an',
      en: 'does he call my brother',
    })
    expect(question({ subject: he, verb: verb('gehen'), tense: 'perfect' }, { de: 'wann', en: 'when' })).toEqual({
      de: 'wann ist er gegangen',
      en: 'when has he gone',
    })
  })
})

describe('the corpus', () => {
  test('has the sizes asked for, all pairs distinct on both sides', () => {
    expect(corpus.train).toHaveLength(12_000)
    expect(corpus.heldOut).toHaveLength(400)
    expect(corpus.validation).toHaveLength(200)
    const all = [...corpus.train, ...reserved]
    expect(new Set(all.map((pair) => pair.de)).size).toBe(all.length)
    expect(new Set(all.map((pair) => pair.en)).size).toBe(all.length)
    expect(new Set(corpus.monolingual.de).size).toBe(20_000)
    expect(new Set(corpus.monolingual.en).size).toBe(20_000)
  })

  test('keeps held-out and validation sentences out of the monolingual text', () => {
    const de = new Set(corpus.monolingual.de)
    const en = new Set(corpus.monolingual.en)
    expect(reserved.filter((pair) => de.has(pair.de) || en.has(pair.en))).toEqual([])
  })

  test('is the same for the same seed and another for another', () => {
    const small = { ...options, trainPairs: 3000, heldOutPairs: 20, validationPairs: 10, monolingualSentences: 50 }
    expect(generateCorpus(small)).toEqual(generateCorpus(small))
    expect(generateCorpus({ ...small, seed: 8 }).train).not.toEqual(generateCorpus(small).train)
  })

  test('shows every word form of the reserved pairs at least 15 times in training', () => {
    for (const side of ['de', 'en'] as const) {
      const counts = new Map<string, number>()
      for (const form of corpus.train.flatMap((pair) => wordForms(pair[side]))) {
        counts.set(form, (counts.get(form) ?? 0) + 1)
      }
      const rare = reserved.flatMap((pair) => wordForms(pair[side])).filter((form) => (counts.get(form) ?? 0) < 15)
      expect(rare).toEqual([])
      expect(counts.size).toBeLessThan(700)
    }
  })

  test('holds short, clean sentences', () => {
    for (const { de, en } of [...corpus.train, ...reserved]) {
      for (const text of [de, en]) {
        expect(text).toMatch(/^\p{Lu}[\p{L}\p{N}', -]*[.?]$/u)
        expect(text).not.toMatch(/ {2}| ,| [.?]/)
        expect(text).toBe(text.normalize('NFC'))
      }
      expect(de.split(' ').length).toBeLessThanOrEqual(16)
      expect(de.at(-1)).toBe(en.at(-1))
    }
  })

  test('follows the grammar where it can be read off', () => {
    const all = [...corpus.train, ...reserved]
    // Nouns of each gender after articles that only fit others.
    expect(all.filter(({ de }) => /\b(das|die|eine) (Hund|Mann|Brief|Tisch)\b/i.test(de))).toEqual([])
    expect(all.filter(({ de }) => /\b(den|der|einen) (Buch|Haus|Kind|Auto)\b/i.test(de))).toEqual([])
    expect(all.filter(({ en }) => /\ba [aeiou]|\ban [^aeiou]/i.test(en))).toEqual([])
    // Verbs last after "dass" and "weil"; the English "will" only with a coming time.
    const subordinate = all.filter(({ de }) => /, (dass|weil) /.test(de))
    expect(subordinate.length).toBeGreaterThan(300)
    const verbSecond = /, (dass|weil) (ich|du|er|sie|wir) (habe|hast|hat|haben|kann|muss|will|bin|bist|ist|sind) \p{L}/u
    expect(subordinate.filter(({ de }) => verbSecond.test(de))).toEqual([])
    expect(all.filter(({ en }) => / will /.test(en) && /yesterday|last |every /i.test(en))).toEqual([])
  })

  test('refuses what the grammar cannot give', () => {
    expect(() => generateCorpus({ ...options, trainPairs: 50, monolingualSentences: 0 })).toThrow(RangeError)
  })
})
