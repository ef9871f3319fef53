/** Noun phrases in both languages: determiner, adjective and noun, with gender, number and case. */
import type { Gender, Noun } from './nouns.js'
import type { Person } from './verbs.js'

export type Case = 'nominative' | 'accusative' | 'dative'

/** Anything that can be a subject or an object. */
export interface Phrase {
  readonly de: Readonly<Record<Case, string>>
  readonly en: { readonly subject: string; readonly object: string }
  readonly person: Person
  /** False for "ein", "kein" and bare plurals, which "nicht" does not negate. */
  readonly definite: boolean
}

/** Possessives inflect as "ein" does; `her` is "ihr", and "their" is left out, which would be "ihr" too. */
export type Possessive = 'mein' | 'dein' | 'sein' | 'ihr' | 'unser'
export type Determiner = 'definite' | 'indefinite' | 'none' | 'negative' | Possessive

const englishPossessives: Readonly<Record<Possessive, string>> = {
  mein: 'my',
  dein: 'your',
  sein: 'his',
  ihr: 'her',
  unser: 'our',
}
export const possessives = Object.keys(englishPossessives) as readonly Possessive[]

type Slot = Gender | 'plural'

const definiteArticles: Readonly<Record<Case, Readonly<Record<Slot, string>>>> = {
  nominative: { m: 'der', f: 'die', n: 'das', plural: 'die' },
  accusative: { m: 'den', f: 'die', n: 'das', plural: 'die' },
  dative: { m: 'dem', f: 'der', n: 'dem', plural: 'den' },
}
const einEndings: Readonly<Record<Case, Readonly<Record<Slot, string>>>> = {
  nominative: { m: '', f: 'e', n: '', plural: 'e' },
  accusative: { m: 'en', f: 'e', n: '', plural: 'e' },
  dative: { m: 'em', f: 'er', n: 'em', plural: 'en' },
}
/** Adjective endings where the determiner shows nothing ("ein alter Mann"); elsewhere they are -e or -en. */
const strongEndings: Readonly<Record<Case, Readonly<Record<Slot, string>>>> = {
  nominative: { m: 'er', f: 'e', n: 'es', plural: 'e' },
  accusative: { m: 'en', f: 'e', n: 'es', plural: 'e' },
  dative: { m: 'em', f: 'er', n: 'em', plural: 'en' },
}

function germanDeterminer(determiner: Determiner, slot: Slot, kase: Case): string {
  if (determiner === 'definite') return definiteArticles[kase][slot]
  if (determiner === 'none' || (determiner === 'indefinite' && slot === 'plural')) return ''
  const stem = determiner === 'indefinite' ? 'ein' : determiner === 'negative' ? 'kein' : determiner
  return stem + einEndings[kase][slot]
}

function adjectiveEnding(determiner: Determiner, slot: Slot, kase: Case): string {
  const bare = determiner === 'none' || (determiner === 'indefinite' && slot === 'plural')
  if (bare) return strongEndings[kase][slot]
  if (determiner !== 'definite' && einEndings[kase][slot] === '') return strongEndings[kase][slot]
  const weak = slot !== 'plural' && (kase === 'nominative' || (kase === 'accusative' && slot !== 'm'))
  return weak ? 'e' : 'en'
}

function englishDeterminer(determiner: Determiner, plural: boolean, next: string): string {
  if (determiner === 'definite') return 'the'
  if (determiner === 'none') return ''
  if (determiner === 'indefinite') return plural ? '' : article(next)
  if (determiner === 'negative') return plural ? 'any' : article(next)
  return englishPossessives[determiner]
}

/** "a" or "an" by the first letter, which is enough for the words used here. */
function article(next: string): string {
  return /^[aeiou]/.test(next) ? 'an' : 'a'
}

/** Words with single spaces; empty ones vanish. */
export function words(...parts: readonly string[]): string {
  return parts.filter((part) => part !== '').join(' ')
}

export interface NounPhraseOptions {
  readonly determiner: Determiner
  readonly plural?: boolean
  /** Uninflected in both languages. */
  readonly adjective?: { readonly de: string; readonly en: string } | undefined
  /** Stands where the determiner would ("zwölf große Stühle"). */
  readonly count?: { readonly de: string; readonly en: string }
}

/** Renders a noun in its three cases. "negative" is "kein", whose English "a"/"any" needs a negated verb. */
export function nounPhrase(noun: Noun, options: NounPhraseOptions): Phrase {
  const { determiner, plural = false, adjective, count } = options
  const slot: Slot = plural ? 'plural' : noun.gender
  const german = (kase: Case): string =>
    words(
      count?.de ?? germanDeterminer(determiner, slot, kase),
      adjective === undefined ? '' : adjective.de + adjectiveEnding(determiner, slot, kase),
      plural ? inflectedPlural(noun.de.plural, kase) : noun.de.singular,
    )
  const tail = words(adjective?.en ?? '', plural ? noun.en.plural : noun.en.singular)
  const english = words(count?.en ?? englishDeterminer(determiner, plural, tail), tail)
  return {
    de: { nominative: german('nominative'), accusative: german('accusative'), dative: german('dative') },
    en: { subject: english, object: english },
    person: plural ? 'plural' : 'third',
    definite: determiner === 'definite' || determiner in englishPossessives,
  }
}

/** The dative plural ends in -n, except after -n and -s. */
function inflectedPlural(plural: string, kase: Case): string {
  return kase === 'dative' && !/[ns]$/.test(plural) ? `${plural}n` : plural
}

function pronoun(person: Person, german: string, subject: string, object: string): Phrase {
  const [nominative = '', accusative = '', dative = ''] = german.split(' ')
  return { de: { nominative, accusative, dative }, en: { subject, object }, person, definite: true }
}

/** "you" is always "du"; "ihr" and the polite "Sie" are left out, so that every pronoun has one translation. */
export const subjectPronouns: readonly Phrase[] = [
  pronoun('first', 'ich mich mir', 'I', 'me'),
  pronoun('second', 'du dich dir', 'you', 'you'),
  pronoun('third', 'er ihn ihm', 'he', 'him'),
  pronoun('third', 'sie sie ihr', 'she', 'her'),
  pronoun('plural', 'wir uns uns', 'we', 'us'),
  pronoun('plural', 'sie sie ihnen', 'they', 'them'),
]

/** Those whose accusative is not ambiguous ("sie" would be "her" and "them"). */
export const objectPronouns: readonly Phrase[] = subjectPronouns.filter((entry) => entry.de.accusative !== 'sie')

/** First names are the same in all cases and in both languages. */
export const names: readonly Phrase[] = ['Anna', 'Maria', 'Paul', 'Peter'].map((name) =>
  pronoun('third', `${name} ${name} ${name}`, name, name),
)
