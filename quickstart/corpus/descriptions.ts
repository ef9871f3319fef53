/** Sentences about what things are, where, how many, how much and when. */
import { adjectivesFor, colours, feelings } from './adjectives.js'
import { copula, mainClause } from './clauses.js'
import { calendarDay, type Pair, weekdays } from './dates.js'
import { drawClockTime, drawCount, drawDate, drawDay, drawLargeCount, drawSubject, places } from './draws.js'
import { nounPhrase, type Phrase, possessives, words } from './noun-phrases.js'
import { type Noun, nounsOf } from './nouns.js'
import type { Random } from './random.js'
import { verb } from './verbs.js'

/** What people do at a given time. */
export const changing = ['aufstehen', 'einschlafen'].map(verb)

/** "der (rote) Stuhl", "mein Hut", "die Stühle". */
function drawThing(random: Random, choices: readonly Noun[], plural = random.chance(0.3)): Phrase {
  const noun = random.pick(choices)
  if (random.chance(0.3)) return nounPhrase(noun, { determiner: random.pick(possessives), plural })
  const adjective = random.chance(0.3) ? random.pick([...adjectivesFor(noun.classes), ...colours]) : undefined
  return nounPhrase(noun, { determiner: 'definite', plural, adjective })
}

/** "ich bin …" / "I am …". */
export function be(subject: Phrase, predicate: Pair): Pair {
  const { de, en } = copula(subject.person)
  return { de: words(subject.de.nominative, de, predicate.de), en: words(subject.en.subject, en, predicate.en) }
}

const degrees: readonly Pair[] = [
  { de: '', en: '' },
  { de: 'sehr', en: 'very' },
  { de: 'nicht', en: 'not' },
]

function graded(random: Random, quality: Pair): Pair {
  const degree = random.pick(degrees)
  return { de: words(degree.de, quality.de), en: words(degree.en, quality.en) }
}

/** "Ich bin sehr müde." */
export function feeling(random: Random): Pair {
  return be(drawSubject(random), graded(random, random.pick(feelings)))
}

/** "Mein Auto ist nicht alt.", "Die Stühle sind rot." */
export function description(random: Random): Pair {
  const noun = random.pick(nounsOf('thing'))
  const determiner = random.chance(0.5) ? 'definite' : random.pick(possessives)
  const subject = nounPhrase(noun, { determiner, plural: random.chance(0.3) })
  const colour = random.chance(0.3)
  return be(subject, colour ? random.pick(colours) : graded(random, random.pick(adjectivesFor(noun.classes))))
}

/** "Mein Bruder ist größer als mein Vater." */
export function comparison(random: Random): Pair {
  const choices = nounsOf(random.pick(['family', 'animal', 'thing', 'person']))
  const first = random.pick(choices)
  const second = random.pick(choices.filter((noun) => noun !== first))
  const { comparative } = random.pick(adjectivesFor(first.classes))
  const determiner = first.classes.includes('family') ? random.pick(possessives) : 'definite'
  const than = nounPhrase(second, { determiner })
  const predicate = {
    de: `${comparative.de} als ${than.de.nominative}`,
    en: `${comparative.en} than ${than.en.object}`,
  }
  return be(nounPhrase(first, { determiner }), predicate)
}

const positions: readonly Pair[] = [
  { de: 'auf', en: 'on' },
  { de: 'unter', en: 'under' },
  { de: 'neben', en: 'next to' },
  { de: 'hinter', en: 'behind' },
]

function position(random: Random): Pair {
  const { de, en } = random.pick(positions)
  const support = nounPhrase(random.pick(nounsOf('support')), {
    determiner: random.chance(0.7) ? 'definite' : random.pick(possessives),
    adjective: random.chance(0.3) ? random.pick(colours) : undefined,
  })
  return { de: `${de} ${support.de.dative}`, en: `${en} ${support.en.object}` }
}

/** "Das Buch ist auf dem Tisch." */
export function location(random: Random): Pair {
  return be(drawThing(random, nounsOf('portable')), random.chance(0.7) ? position(random) : random.pick(places))
}

/** "Das Buch kostet zwölf Euro." */
export function price(random: Random): Pair {
  const plural = random.chance(0.3)
  const subject = drawThing(random, nounsOf('thing'), plural)
  const euros = drawCount(random)
  const cents = random.chance(0.3) ? drawCount(random) : undefined
  return {
    de: words(
      subject.de.nominative,
      plural ? 'kosten' : 'kostet',
      euros.de,
      'Euro',
      cents ? `und ${cents.de} Cent` : '',
    ),
    en: words(subject.en.subject, plural ? 'cost' : 'costs', euros.en, 'euros', cents ? `and ${cents.en} cents` : ''),
  }
}

/** "Wir haben zwölf Stühle." */
export function possession(random: Random): Pair {
  const noun = random.pick(nounsOf('thing'))
  const object = nounPhrase(noun, { determiner: 'none', plural: true, count: drawCount(random) })
  return mainClause({ subject: drawSubject(random), verb: verb('haben'), tense: 'present', object })
}

/** "Im Garten gibt es drei Hunde." / "There are three dogs in the garden." */
export function existence(random: Random): Pair {
  const place = random.pick(places)
  const noun = random.pick(nounsOf(random.pick(['thing', 'person', 'animal'])))
  const object = nounPhrase(noun, { determiner: 'none', plural: true, count: drawCount(random) })
  return { de: `${place.de} gibt es ${object.de.accusative}`, en: `there are ${object.en.object} ${place.en}` }
}

/** "Anna ist zwanzig Jahre alt." */
export function age(random: Random): Pair {
  const count = drawCount(random)
  return be(drawSubject(random), { de: `${count.de} Jahre alt`, en: `${count.en} years old` })
}

/** "Das Dorf hat dreihundert Einwohner." */
export function inhabitants(random: Random): Pair {
  const count = drawLargeCount(random)
  const [de, en] = random.pick([['das Dorf', 'the village'] as const, ['die Stadt', 'the city'] as const])
  return { de: `${de} hat ${count.de} Einwohner`, en: `${en} has ${count.en} inhabitants` }
}

/** "Es ist halb acht." */
export function timeNow(random: Random): Pair {
  const time = drawClockTime(random)
  return { de: `es ist ${time.de}`, en: `it is ${time.en}` }
}

/** "Der Zug fährt um halb acht ab.", "Um acht Uhr stehe ich auf." */
export function schedule(random: Random): Pair {
  const time = drawClockTime(random)
  const at: Pair = { de: `um ${time.de}`, en: `at ${time.en}` }
  const train = (name: Pair): Phrase => ({
    de: { nominative: name.de, accusative: name.de, dative: name.de },
    en: { subject: name.en, object: name.en },
    person: 'third',
    definite: true,
  })
  if (random.chance(0.4)) {
    const subject = train(
      random.pick([
        { de: 'der Zug', en: 'the train' },
        { de: 'der Bus', en: 'the bus' },
      ]),
    )
    return mainClause({ subject, verb: random.pick([verb('ankommen'), verb('abfahren')]), tense: 'present', time: at })
  }
  const subject = drawSubject(random)
  const fronted = random.chance(0.3)
  return mainClause({ subject, verb: random.pick(changing), tense: 'present', time: at, fronted })
}

/** "Heute haben wir Montag, den dritten Mai." / "Today is Monday, the third of May." */
export function dateToday(random: Random): Pair {
  const { day, month } = drawDay(random)
  const date = calendarDay(day, month)
  const [de, en] = random.pick([['heute', 'today'] as const, ['morgen', 'tomorrow'] as const])
  const weekday = random.chance(0.6) ? random.pick(weekdays) : undefined
  return {
    de: `${de} haben wir ${weekday ? `${weekday.de}, ` : ''}${date.de}`,
    en: `${en} is ${weekday ? `${weekday.en}, ` : ''}${date.en}`,
  }
}

const wurde = { first: 'wurde', second: 'wurdest', third: 'wurde', plural: 'wurden' }
const was = { first: 'was', second: 'were', third: 'was', plural: 'were' }

/** "Er wurde am dritten Mai 1997 geboren." */
export function birth(random: Random): Pair {
  const subject = drawSubject(random)
  const date = drawDate(random, true)
  return {
    de: `${subject.de.nominative} ${wurde[subject.person]} ${date.de} geboren`,
    en: `${subject.en.subject} ${was[subject.person]} born ${date.en}`,
  }
}

/** "Wo ist mein Buch?" */
export function whereIs(random: Random): Pair {
  const thing = drawThing(random, nounsOf('portable'))
  const { de, en } = copula(thing.person)
  return { de: `wo ${de} ${thing.de.nominative}`, en: `where ${en} ${thing.en.subject}` }
}
