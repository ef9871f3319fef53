/** Adjectives: stem for the endings of German, comparative, and what they can describe. */
import type { NounClass } from './nouns.js'

export interface Adjective {
  readonly de: string
  readonly en: string
  readonly comparative: { readonly de: string; readonly en: string }
  /** `person` also covers family and animals. */
  readonly describes: readonly ('person' | 'thing')[]
}

function adjective(de: string, en: string, more: string, than: string, describes: string): Adjective {
  return { de, en, comparative: { de: more, en: than }, describes: describes.split(' ') as ('person' | 'thing')[] }
}

/** Used before nouns and after "ist". No stem changes with an ending. */
export const adjectives: readonly Adjective[] = [
  adjective('groß', 'big', 'größer', 'bigger', 'person thing'),
  adjective('klein', 'small', 'kleiner', 'smaller', 'person thing'),
  adjective('alt', 'old', 'älter', 'older', 'person thing'),
  adjective('schön', 'beautiful', 'schöner', 'more beautiful', 'person thing'),
  adjective('jung', 'young', 'jünger', 'younger', 'person'),
  adjective('neu', 'new', 'neuer', 'newer', 'thing'),
  adjective('billig', 'cheap', 'billiger', 'cheaper', 'thing'),
  adjective('schwer', 'heavy', 'schwerer', 'heavier', 'thing'),
]

/** Colours stand before nouns and after "ist", and are not compared. */
export const colours: readonly { readonly de: string; readonly en: string }[] = [
  { de: 'rot', en: 'red' },
  { de: 'blau', en: 'blue' },
  { de: 'grün', en: 'green' },
  { de: 'schwarz', en: 'black' },
]

/** How people feel; only after "ist". */
export const feelings: readonly { readonly de: string; readonly en: string }[] = [
  { de: 'müde', en: 'tired' },
  { de: 'krank', en: 'sick' },
  { de: 'glücklich', en: 'happy' },
  { de: 'traurig', en: 'sad' },
  { de: 'hungrig', en: 'hungry' },
]

const livingClasses: readonly NounClass[] = ['person', 'family', 'animal']

/** The comparable adjectives that fit a noun of these classes. */
export function adjectivesFor(classes: readonly NounClass[]): readonly Adjective[] {
  const kind = classes.some((name) => livingClasses.includes(name)) ? 'person' : 'thing'
  return adjectives.filter((entry) => entry.describes.includes(kind))
}
