/** Clauses in both languages: verb forms, the German verb bracket and the English auxiliaries. */
import type { Pair } from './dates.js'
import { type Phrase, words } from './noun-phrases.js'
import type { Modal, Person, Verb } from './verbs.js'

/**
 * `past` is the German perfect beside the English simple past (a past time stands in the clause), `perfect` is the
 * perfect in both (no time), `future` is the German present beside "will" (a future time stands in the clause).
 */
export type Tense = 'present' | 'perfect' | 'past' | 'future' | { readonly modal: Modal }

export interface Clause {
  readonly subject: Phrase
  readonly verb: Verb
  readonly tense: Tense
  readonly object?: Phrase | undefined
  /** A pronoun stands before the German time and "nicht". */
  readonly objectIsPronoun?: boolean
  /** Place or direction, after the object in both languages. */
  readonly place?: Pair | undefined
  /** Before the object in German ("morgen ein Auto"), last in English; `fronted` puts it first in both. */
  readonly time?: Pair | undefined
  readonly fronted?: boolean
  /** "oft"/"often": after the German finite verb, before the English main verb. */
  readonly frequency?: Pair | undefined
  /** "nicht"; `kein` belongs to the object and only negates the English verb. */
  readonly negated?: 'nicht' | 'kein' | undefined
}

const auxiliaries: Readonly<Record<'haben' | 'sein', Readonly<Record<Person, string>>>> = {
  haben: { first: 'habe', second: 'hast', third: 'hat', plural: 'haben' },
  sein: { first: 'bin', second: 'bist', third: 'ist', plural: 'sind' },
}
const englishBe: Readonly<Record<Person, string>> = { first: 'am', second: 'are', third: 'is', plural: 'are' }

/** "bin", "bist", "ist", "sind" / "am", "are", "is". */
export function copula(person: Person): Pair {
  return { de: auxiliaries.sein[person], en: englishBe[person] }
}

interface GermanVerb {
  readonly finite: string
  /** What closes the bracket of a main clause: prefix, participle or infinitive. */
  readonly last: string
  /** The verbs at the end of a subordinate clause. */
  readonly subordinate: string
}

function germanVerb({ verb, tense, subject: { person } }: Clause): GermanVerb {
  const { infinitive, present, prefix, auxiliary, participle } = verb.de
  if (tense === 'present' || tense === 'future') {
    return { finite: present[person], last: prefix, subordinate: prefix + present[person] }
  }
  const last = typeof tense === 'object' ? infinitive : participle
  const finite = typeof tense === 'object' ? tense.modal.de[person] : auxiliaries[auxiliary][person]
  return { finite, last, subordinate: `${last} ${finite}` }
}

function germanMiddle(clause: Clause, withTime: boolean): string {
  const { object, objectIsPronoun = false, place, time, frequency, negated } = clause
  const objectText = object?.de.accusative ?? ''
  return words(
    objectIsPronoun ? objectText : '',
    withTime ? (time?.de ?? '') : '',
    frequency?.de ?? '',
    objectIsPronoun ? '' : objectText,
    negated === 'nicht' ? 'nicht' : '',
    place?.de ?? '',
  )
}

interface EnglishVerb {
  readonly auxiliary: string
  readonly main: string
}

function englishVerb({ verb, tense, subject: { person } }: Clause, needsAuxiliary: boolean): EnglishVerb {
  const { base, third, past, participle } = verb.en
  const does = person === 'third' ? 'does' : 'do'
  if (tense === 'perfect') return { auxiliary: person === 'third' ? 'has' : 'have', main: participle }
  if (tense === 'future') return { auxiliary: 'will', main: base }
  if (tense === 'past') return needsAuxiliary ? { auxiliary: 'did', main: base } : { auxiliary: '', main: past }
  if (tense === 'present') {
    if (needsAuxiliary) return { auxiliary: does, main: base }
    return { auxiliary: '', main: person === 'third' ? third : base }
  }
  const { auxiliary, en } = tense.modal
  if (auxiliary !== undefined) return { auxiliary, main: words(en.base, base) }
  if (needsAuxiliary) return { auxiliary: does, main: words(en.base, base) }
  return { auxiliary: '', main: words(person === 'third' ? en.third : en.base, base) }
}

function negatedAuxiliary(auxiliary: string, negated: boolean): string {
  if (!negated) return auxiliary
  return auxiliary === 'can' ? 'cannot' : `${auxiliary} not`
}

function englishStatement(clause: Clause): string {
  const { subject, object, place, time, fronted = false, frequency, negated } = clause
  const { auxiliary, main } = englishVerb(clause, negated !== undefined)
  return words(
    subject.en.subject,
    negatedAuxiliary(auxiliary, negated !== undefined),
    frequency?.en ?? '',
    main,
    object?.en.object ?? '',
    place?.en ?? '',
    fronted ? '' : (time?.en ?? ''),
  )
}

/** A main clause without its full stop: subject first, or the time first with the German verb before the subject. */
export function mainClause(clause: Clause): Pair {
  const { finite, last } = germanVerb(clause)
  const { subject, time, fronted = false } = clause
  const middle = germanMiddle(clause, !fronted)
  if (!fronted) return { de: words(subject.de.nominative, finite, middle, last), en: englishStatement(clause) }
  return {
    de: words(time?.de ?? '', finite, subject.de.nominative, middle, last),
    en: words(time?.en ?? '', englishStatement(clause)),
  }
}

/** A clause after "dass" or "weil", its verbs last in German. */
export function subordinateClause(clause: Clause): Pair {
  const { subordinate } = germanVerb(clause)
  return {
    de: words(clause.subject.de.nominative, germanMiddle(clause, true), subordinate),
    en: englishStatement(clause),
  }
}

/** A question without its mark; `asked` is "wann"/"when" and so on, or absent for yes and no. */
export function question(clause: Clause, asked: Pair = { de: '', en: '' }): Pair {
  const { subject, object, place, time, negated } = clause
  const { finite, last } = germanVerb(clause)
  const { auxiliary, main } = englishVerb(clause, true)
  return {
    de: words(asked.de, finite, subject.de.nominative, germanMiddle(clause, true), last),
    en: words(
      asked.en,
      negatedAuxiliary(auxiliary, negated !== undefined),
      subject.en.subject,
      main,
      object?.en.object ?? '',
      place?.en ?? '',
      time?.en ?? '',
    ),
  }
}

/** A whole sentence: capital letter, no doubled spaces, closing mark. */
export function sentence(clause: Pair, mark: '.' | '?' = '.'): Pair {
  return { de: capitalised(clause.de) + mark, en: capitalised(clause.en) + mark }
}

function capitalised(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}
