/** Random parts of sentences: who, whom, where, when, how many. */
import { adjectivesFor, colours } from './adjectives.js'
import { clockMinutes, clockTime, lastDayOf, onDate, type Pair, weekdays } from './dates.js'
import {
  type Determiner,
  names,
  nounPhrase,
  objectPronouns,
  type Phrase,
  possessives,
  subjectPronouns,
} from './noun-phrases.js'
import { type Noun, type NounClass, nounsOf } from './nouns.js'
import { englishCardinal, germanBound, germanCardinal } from './numbers.js'
import type { Random } from './random.js'

/** Years of dates, written in digits. */
const firstYear = 1996
const lastYear = 2015

/** "ich" and "du" have verb forms of their own, which must be seen as often as the others. */
const weightedPronouns = subjectPronouns.map(
  (entry) => [entry.person === 'first' ? 2 : entry.person === 'second' ? 1.7 : 1, entry] as const,
)

/** A phrase that is a person: mostly a pronoun, else a name, "my brother", "the (old) teacher". */
export function drawSubject(random: Random): Phrase {
  return random.pickWeighted<() => Phrase>([
    [58, () => random.pickWeighted(weightedPronouns)],
    [12, () => random.pick(names)],
    [20, () => drawRelative(random)],
    [13, () => nounPhrase(random.pick(nounsOf('person')), { determiner: 'definite' })],
  ])()
}

/** "my brother". */
export function drawRelative(random: Random): Phrase {
  return nounPhrase(random.pick(nounsOf('family')), { determiner: random.pick(possessives) })
}

function drawAdjective(random: Random, noun: Noun): { de: string; en: string } {
  const fitting = adjectivesFor(noun.classes)
  return noun.classes.includes('thing') && random.chance(0.3) ? random.pick(colours) : random.pick(fitting)
}

/** An object and whether it is a pronoun, which German puts before the time. */
export interface DrawnObject {
  readonly object: Phrase
  readonly objectIsPronoun: boolean
}

/** An object of the class a verb asks for, not the same person as the subject. */
export function drawObject(random: Random, kind: NounClass, subject: Phrase): DrawnObject {
  if (kind === 'person' || kind === 'family') return drawPersonObject(random, kind, subject)
  const noun = random.pick(nounsOf(kind))
  const determiner = random.pickWeighted<Determiner>([
    [45, 'definite'],
    [35, 'indefinite'],
    [20, random.pick(possessives)],
  ])
  const plural = random.chance(0.25)
  const adjective = random.chance(0.3) ? drawAdjective(random, noun) : undefined
  return { object: nounPhrase(noun, { determiner, plural, adjective }), objectIsPronoun: false }
}

function drawPersonObject(random: Random, kind: 'person' | 'family', subject: Phrase): DrawnObject {
  if (random.chance(0.35)) {
    const others = objectPronouns.filter((entry) => !sharesPerson(entry, subject))
    return { object: random.pick(others), objectIsPronoun: true }
  }
  if (random.chance(0.2)) {
    return { object: random.pick(names.filter((entry) => entry !== subject)), objectIsPronoun: false }
  }
  if (kind === 'family') return { object: drawRelative(random), objectIsPronoun: false }
  const noun = random.pick(nounsOf('person'))
  const adjective = random.chance(0.4) ? random.pick(adjectivesFor(noun.classes)) : undefined
  const object = nounPhrase(noun, { determiner: 'definite', plural: random.chance(0.25), adjective })
  return { object, objectIsPronoun: false }
}

/** True for "ich … mich", "wir … mich", "ich … uns", "du … dich". */
function sharesPerson(object: Phrase, subject: Phrase): boolean {
  const speakers = ['I', 'we']
  if (speakers.includes(object.en.subject)) return speakers.includes(subject.en.subject)
  return object.en.subject === subject.en.subject
}

/** "kein Auto" beside "not … a car". */
export function drawNegativeObject(random: Random, kind: NounClass): Phrase {
  const noun = random.pick(nounsOf(kind))
  const adjective = random.chance(0.25) ? drawAdjective(random, noun) : undefined
  return nounPhrase(noun, { determiner: 'negative', plural: random.chance(0.35), adjective })
}

/** Where somebody is. */
export const places: readonly Pair[] = [
  { de: 'im Garten', en: 'in the garden' },
  { de: 'im Park', en: 'in the park' },
  { de: 'im Büro', en: 'in the office' },
  { de: 'in der Schule', en: 'in the school' },
  { de: 'in der Küche', en: 'in the kitchen' },
  { de: 'in der Stadt', en: 'in the city' },
  { de: 'zu Hause', en: 'at home' },
  { de: 'am Bahnhof', en: 'at the station' },
]

/** Where somebody walks. */
export const directions: readonly Pair[] = [
  { de: 'in den Garten', en: 'into the garden' },
  { de: 'in den Park', en: 'into the park' },
  { de: 'ins Büro', en: 'to the office' },
  { de: 'in die Schule', en: 'to the school' },
  { de: 'in die Küche', en: 'into the kitchen' },
  { de: 'in die Stadt', en: 'into the city' },
  { de: 'nach Hause', en: 'home' },
  { de: 'zum Bahnhof', en: 'to the station' },
]

const cities: readonly Pair[] = [
  { de: 'Berlin', en: 'Berlin' },
  { de: 'Hamburg', en: 'Hamburg' },
  { de: 'Köln', en: 'Cologne' },
  { de: 'München', en: 'Munich' },
  { de: 'Wien', en: 'Vienna' },
  { de: 'Rom', en: 'Rome' },
  { de: 'Prag', en: 'Prague' },
]

/** "nach Wien" / "to Vienna". */
export function drawCity(random: Random): Pair {
  const city = random.pick(cities)
  return { de: `nach ${city.de}`, en: `to ${city.en}` }
}

export const frequencies: readonly Pair[] = [
  { de: 'oft', en: 'often' },
  { de: 'immer', en: 'always' },
  { de: 'nie', en: 'never' },
]

function pairs(...texts: readonly (readonly [de: string, en: string])[]): readonly Pair[] {
  return texts.map(([de, en]) => ({ de, en }))
}

const repeated = pairs(
  ['jeden Tag', 'every day'],
  ['jeden Morgen', 'every morning'],
  ['jeden Abend', 'every evening'],
  ['im Sommer', 'in summer'],
  ['im Winter', 'in winter'],
)
const coming = pairs(['morgen', 'tomorrow'], ['heute Abend', 'this evening'], ['nächste Woche', 'next week'])
const gone = pairs(['gestern', 'yesterday'], ['letzte Woche', 'last week'], ['letztes Jahr', 'last year'])

/** A time that goes with the plain present: "jeden Montag". */
export function drawRepeatedTime(random: Random): Pair {
  if (random.chance(0.6)) return random.pick(repeated)
  const day = random.pick(weekdays)
  return { de: `jeden ${day.de}`, en: `every ${day.en}` }
}

/** A time that asks for "will" in English: "am Montag", "am dritten Mai". */
export function drawComingTime(random: Random): Pair {
  if (random.chance(0.45)) return random.pick(coming)
  if (random.chance(0.4)) return drawDate(random, false)
  const day = random.pick(weekdays)
  return { de: `am ${day.de}`, en: `on ${day.en}` }
}

/** A time that asks for the simple past in English: "letzten Montag", "am dritten Mai 1997". */
export function drawPastTime(random: Random): Pair {
  if (random.chance(0.45)) return random.pick(gone)
  if (random.chance(0.5)) return drawDate(random, true)
  const day = random.pick(weekdays)
  return { de: `letzten ${day.de}`, en: `last ${day.en}` }
}

/** A day and month that exist together. */
export function drawDay(random: Random): { day: number; month: number } {
  const month = random.integer(1, 12)
  return { day: random.integer(1, lastDayOf(month)), month }
}

/** "am dritten Mai (1997)" / "on the third of May (1997)". */
export function drawDate(random: Random, withYear: boolean): Pair {
  const { day, month } = drawDay(random)
  return onDate(day, month, withYear ? random.integer(firstYear, lastYear) : undefined)
}

/** "halb acht" / "half past seven". */
export function drawClockTime(random: Random): Pair {
  const minute = random.chance(0.5) ? random.pick([0, 15, 30, 45]) : random.pick(clockMinutes)
  return clockTime(random.integer(1, 12), minute)
}

/** 2 to 99; small and round numbers more often, as in life. */
export function drawCount(random: Random): Pair {
  const value = random.pickWeighted<() => number>([
    [20, () => random.integer(2, 12)],
    [10, () => 10 * random.integer(2, 9)],
    [70, () => random.integer(13, 99)],
  ])()
  return { de: germanCardinal(value), en: englishCardinal(value) }
}

/** 100 to 9999, mostly whole hundreds. */
export function drawLargeCount(random: Random): Pair {
  const value = random.pickWeighted<() => number>([
    [30, () => 1000 * random.integer(1, 9) + 100 * random.integer(0, 9)],
    [30, () => 100 * random.integer(1, 9) + random.integer(0, 99)],
    [20, () => random.integer(100, 9999)],
  ])()
  return { de: germanBound(value), en: englishCardinal(value) }
}
