/** Verbs: the forms that the sentences use in both languages, and what kind of object they take. */
import type { NounClass } from './nouns.js'

/** German and English agree with the same four: ich, du, er/sie/es, wir/sie (plural). English shares all but the third. */
export type Person = 'first' | 'second' | 'third' | 'plural'

export interface Verb {
  readonly de: {
    readonly infinitive: string
    readonly present: Readonly<Record<Person, string>>
    /** The part that a separable verb leaves at the end of a main clause ("an" of "anrufen"); empty for the others. */
    readonly prefix: string
    readonly auxiliary: 'haben' | 'sein'
    readonly participle: string
  }
  readonly en: { readonly base: string; readonly third: string; readonly past: string; readonly participle: string }
  /** The class of its objects; undefined for verbs without one. */
  readonly object: NounClass | undefined
  /** A state is told in the plain present ("he needs a car"), an event with a time or in the perfect. */
  readonly tells: 'state' | 'event' | 'both'
}

// German: infinitive (a slash after a separable prefix), ich, du, er, auxiliary, participle | English: base, third person,
// past, participle (an underscore stands for a space) | object class | s: state, b: both (default: event)
const verbTable = `
lesen lese liest liest haben gelesen | read reads read read | readable |
schreiben schreibe schreibst schreibt haben geschrieben | write writes wrote written | writable |
kaufen kaufe kaufst kauft haben gekauft | buy buys bought bought | thing |
verkaufen verkaufe verkaufst verkauft haben verkauft | sell sells sold sold | thing |
finden finde findest findet haben gefunden | find finds found found | portable |
brauchen brauche brauchst braucht haben gebraucht | need needs needed needed | thing | s
sehen sehe siehst sieht haben gesehen | see sees saw seen | person | b
hören höre hörst hört haben gehört | hear hears heard heard | audible | b
essen esse isst isst haben gegessen | eat eats ate eaten | edible |
öffnen öffne öffnest öffnet haben geöffnet | open opens opened opened | openable |
waschen wasche wäschst wäscht haben gewaschen | wash washes washed washed | washable |
reparieren repariere reparierst repariert haben repariert | repair repairs repaired repaired | repairable |
kennen kenne kennst kennt haben gekannt | know knows knew known | person | s
lieben liebe liebst liebt haben geliebt | love loves loved loved | family | s
besuchen besuche besuchst besucht haben besucht | visit visits visited visited | family |
treffen treffe triffst trifft haben getroffen | meet meets met met | person |
an/rufen rufe rufst ruft haben angerufen | call calls called called | family |
ein/laden lade lädst lädt haben eingeladen | invite invites invited invited | family |
mit/bringen bringe bringst bringt haben mitgebracht | bring brings brought brought | portable |
ab/holen hole holst holt haben abgeholt | pick_up picks_up picked_up picked_up | family |
arbeiten arbeite arbeitest arbeitet haben gearbeitet | work works worked worked | |
schlafen schlafe schläfst schläft haben geschlafen | sleep sleeps slept slept | |
spielen spiele spielst spielt haben gespielt | play plays played played | |
tanzen tanze tanzt tanzt haben getanzt | dance dances danced danced | |
warten warte wartest wartet haben gewartet | wait waits waited waited | |
gehen gehe gehst geht sein gegangen | go goes went gone | |
fahren fahre fährst fährt sein gefahren | drive drives drove driven | |
fliegen fliege fliegst fliegt sein geflogen | fly flies flew flown | |
bleiben bleibe bleibst bleibt sein geblieben | stay stays stayed stayed | |
auf/stehen stehe stehst steht sein aufgestanden | get_up gets_up got_up got_up | |
ein/schlafen schlafe schläfst schläft sein eingeschlafen | fall_asleep falls_asleep fell_asleep fallen_asleep | |
an/kommen komme kommst kommt sein angekommen | arrive arrives arrived arrived | |
ab/fahren fahre fährst fährt sein abgefahren | leave leaves left left | |
haben habe hast hat haben gehabt | have has had had | thing | s
wissen weiß weißt weiß haben gewusst | know knows knew known | | s
sagen sage sagst sagt haben gesagt | say says said said | | s
hoffen hoffe hoffst hofft haben gehofft | hope hopes hoped hoped | | s
`

function parse(line: string): Verb {
  const [german = '', english = '', object = '', flags = ''] = line.split('|').map((field) => field.trim())
  const [marked = '', first = '', second = '', third = '', auxiliary = '', participle = ''] = german.split(' ')
  const slash = marked.indexOf('/')
  const prefix = slash < 0 ? '' : marked.slice(0, slash)
  const [base = '', enThird = '', past = '', enParticiple = ''] = english.split(' ')
  const spaced = (form: string): string => form.replaceAll('_', ' ')
  return {
    de: {
      infinitive: marked.replace('/', ''),
      present: { first, second, third, plural: marked.slice(slash + 1) },
      prefix,
      auxiliary: auxiliary as 'haben' | 'sein',
      participle,
    },
    en: { base: spaced(base), third: spaced(enThird), past: spaced(past), participle: spaced(enParticiple) },
    object: object === '' ? undefined : (object as NounClass),
    tells: flags === 's' ? 'state' : flags === 'b' ? 'both' : 'event',
  }
}

const verbs: readonly Verb[] = verbTable.trim().split('\n').map(parse)
const byInfinitive = new Map(verbs.map((verb) => [verb.de.infinitive, verb]))

/** A verb by its German infinitive ("anrufen"). */
export function verb(infinitive: string): Verb {
  const found = byInfinitive.get(infinitive)
  if (found === undefined) throw new RangeError(`no verb ${infinitive}`)
  return found
}

/** The verbs with an object, but not "haben", whose sentences are counted ones. */
export const transitiveVerbs: readonly Verb[] = verbs.filter(
  (entry) => entry.object !== undefined && entry.de.infinitive !== 'haben',
)

/** How a modal is said: German present, English words before the base form. */
export interface Modal {
  readonly de: Readonly<Record<Person, string>>
  /** English auxiliary; "want" is a full verb and has none. */
  readonly auxiliary: string | undefined
  readonly en: { readonly base: string; readonly third: string }
  /** "must not" is not "muss nicht": only these are negated. */
  readonly negatable: boolean
}

function modal(de: string, auxiliary: string | undefined, base: string, third: string, negatable: boolean): Modal {
  const [first = '', second = '', plural = ''] = de.split(' ')
  return { de: { first, second, third: first, plural }, auxiliary, en: { base, third }, negatable }
}

export const modals: readonly Modal[] = [
  modal('kann kannst können', 'can', '', '', true),
  modal('muss musst müssen', 'must', '', '', false),
  modal('will willst wollen', undefined, 'want to', 'wants to', true),
  modal('möchte möchtest möchten', 'would', 'like to', 'like to', false),
]
