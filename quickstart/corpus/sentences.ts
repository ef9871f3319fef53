/** The constructions of the corpus and how often each is drawn. A construction renders one meaning in both languages. */
import { feelings } from './adjectives.js'
import { type Clause, copula, mainClause, question, sentence, subordinateClause, type Tense } from './clauses.js'
import type { Pair } from './dates.js'
import * as described from './descriptions.js'
import {
  directions,
  drawCity,
  drawComingTime,
  drawNegativeObject,
  drawObject,
  drawPastTime,
  drawRelative,
  drawRepeatedTime,
  drawSubject,
  frequencies,
  places,
} from './draws.js'
import { type Phrase, subjectPronouns } from './noun-phrases.js'
import type { Random } from './random.js'
import { modals, transitiveVerbs, type Verb, verb } from './verbs.js'

const events = transitiveVerbs.filter((entry) => entry.tells !== 'state')
const states = transitiveVerbs.filter((entry) => entry.tells !== 'event')
/** Verbs whose objects are countable things, for "kein". */
const hasThings = (entry: Verb): boolean => entry.object !== 'person' && entry.object !== 'family'
const withThings = transitiveVerbs.filter(hasThings)
const negatableModals = modals.filter((entry) => entry.negatable)
const staying = ['arbeiten', 'schlafen', 'spielen', 'tanzen', 'warten', 'bleiben'].map(verb)
const travelling = ['fahren', 'fliegen'].map(verb)
const [knowing, saying, hoping] = ['wissen', 'sagen', 'hoffen'].map(verb) as [Verb, Verb, Verb]

/** Who does what: with an object, or somewhere, or to somewhere. */
function drawAction(random: Random, subject: Phrase): Pick<Clause, 'subject' | 'verb' | 'object' | 'place'> {
  const kind = random.next()
  if (kind < 0.7) {
    const chosen = random.pick(events)
    if (chosen.object !== undefined) return { subject, verb: chosen, ...drawObject(random, chosen.object, subject) }
  }
  if (kind < 0.86) return { subject, verb: random.pick(staying), place: random.pick(places) }
  if (kind < 0.94) return { subject, verb: random.pick(travelling), place: drawCity(random) }
  return { subject, verb: verb('gehen'), place: random.pick(directions) }
}

function drawTimed(random: Random): Clause {
  const [tense, time] = random.pickWeighted<() => [Tense, Pair]>([
    [1, () => ['present', drawRepeatedTime(random)]],
    [1, () => ['future', drawComingTime(random)]],
    [1.2, () => ['past', drawPastTime(random)]],
  ])()
  return { ...drawAction(random, drawSubject(random)), tense, time, fronted: random.chance(0.5) }
}

/** A state in the plain present: "she knows the old man". */
function drawState(random: Random): Clause {
  const subject = drawSubject(random)
  const chosen = random.pick(states)
  return { subject, verb: chosen, tense: 'present', ...drawObject(random, chosen.object ?? 'thing', subject) }
}

function drawPerfect(random: Random): Clause {
  return { ...drawAction(random, drawSubject(random)), tense: 'perfect' }
}

function drawModal(random: Random, choices = modals): Clause {
  return { ...drawAction(random, drawSubject(random)), tense: { modal: random.pick(choices) } }
}

function drawUntimed(random: Random): Clause {
  return random.pickWeighted<(random: Random) => Clause>([
    [4, drawPerfect],
    [3, drawModal],
    [2, drawState],
  ])(random)
}

function withNegation(random: Random): Clause {
  const clause = random.pickWeighted<() => Clause>([
    [3, () => drawPerfect(random)],
    [3, () => drawModal(random, negatableModals)],
    [2, () => drawState(random)],
  ])()
  // An indefinite object takes "kein" instead.
  return clause.object?.definite === false ? withKein(random) : { ...clause, negated: 'nicht' }
}

function withKein(random: Random): Clause {
  const chosen = random.pick(withThings)
  const subject = drawSubject(random)
  const tense: Tense =
    chosen.tells === 'event' ? random.pick(['perfect', { modal: random.pick(negatableModals) }]) : 'present'
  return { subject, verb: chosen, tense, object: drawNegativeObject(random, chosen.object ?? 'thing'), negated: 'kein' }
}

function withFrequency(random: Random): Clause {
  const action = drawAction(random, drawSubject(random))
  return { ...action, tense: 'present', frequency: random.pick(frequencies) }
}

function reported(random: Random): Pair {
  const speech = random.pick([knowing, saying, hoping])
  const opening = mainClause({ subject: drawSubject(random), verb: speech, tense: 'present' })
  const content = subordinateClause(drawUntimed(random))
  return { de: `${opening.de}, dass ${content.de}`, en: `${opening.en} that ${content.en}` }
}

function because(random: Random): Pair {
  if (random.chance(0.3)) return becauseOfMood(random)
  const subject = random.chance(0.8) ? random.pick(subjectPronouns) : drawRelative(random)
  const mood = random.pick(feelings)
  const state = described.be(subject, mood)
  const reason = subordinateClause(drawUntimed(random))
  return { de: `${state.de}, weil ${reason.de}`, en: `${state.en} because ${reason.en}` }
}

function becauseOfMood(random: Random): Pair {
  const effect = mainClause({
    subject: drawSubject(random),
    verb: verb('bleiben'),
    tense: 'present',
    place: random.pick(places),
  })
  const subject = drawSubject(random)
  const mood = random.pick(feelings)
  const { de, en } = copula(subject.person)
  return {
    de: `${effect.de}, weil ${subject.de.nominative} ${mood.de} ${de}`,
    en: `${effect.en} because ${subject.en.subject} ${en} ${mood.en}`,
  }
}

function asked(random: Random): Pair {
  return random.pickWeighted<() => Pair>([
    [5, () => question(random.chance(0.5) ? drawPerfect(random) : drawModal(random))],
    [2, () => question({ ...drawPerfect(random) }, { de: 'warum', en: 'why' })],
    [
      1.5,
      () =>
        question(
          { subject: drawSubject(random), verb: random.pick(staying), tense: random.pick(['present', 'perfect']) },
          { de: 'wo', en: 'where' },
        ),
    ],
    [
      1,
      () =>
        question(
          { subject: drawSubject(random), verb: random.pick(described.changing), tense: 'present' },
          { de: 'wann', en: 'when' },
        ),
    ],
    [1.5, () => whatQuestion(random)],
    [1, () => described.whereIs(random)],
  ])()
}

function whatQuestion(random: Random): Pair {
  const tense: Tense = random.pick(['perfect', { modal: random.pick(modals) }])
  return question(
    { subject: drawSubject(random), verb: random.pick(events.filter(hasThings)), tense },
    { de: 'was', en: 'what' },
  )
}

/** Every construction with its share of the draws. */
const constructions: readonly (readonly [weight: number, draw: (random: Random) => Pair])[] = [
  [26, (random) => sentence(mainClause(drawTimed(random)))],
  [6, (random) => sentence(mainClause(drawPerfect(random)))],
  [6, (random) => sentence(mainClause(drawModal(random)))],
  [4, (random) => sentence(mainClause(drawState(random)))],
  [4, (random) => sentence(mainClause(withFrequency(random)))],
  [4, (random) => sentence(mainClause(withNegation(random)))],
  [3, (random) => sentence(mainClause(withKein(random)))],
  [1.5, (random) => sentence(described.feeling(random))],
  [2.5, (random) => sentence(described.description(random))],
  [3, (random) => sentence(described.comparison(random))],
  [4, (random) => sentence(described.location(random))],
  [8, (random) => sentence(described.price(random))],
  [4, (random) => sentence(described.possession(random))],
  [2, (random) => sentence(described.existence(random))],
  [4, (random) => sentence(described.age(random))],
  [2, (random) => sentence(described.inhabitants(random))],
  [0.5, (random) => sentence(described.timeNow(random))],
  [3, (random) => sentence(described.schedule(random))],
  [2, (random) => sentence(described.dateToday(random))],
  [3, (random) => sentence(described.birth(random))],
  [3, (random) => sentence(reported(random))],
  [3, (random) => sentence(because(random))],
  [5, (random) => sentence(asked(random), '?')],
]

/** One random sentence in both languages. */
export function drawSentence(random: Random): Pair {
  return random.pickWeighted(constructions)(random)
}
