/** Nouns with gender, plural and what can be done with them. */

export type Gender = 'm' | 'f' | 'n'

/** What a noun can stand for in a sentence; verbs ask for one of these. */
export type NounClass =
  | 'person'
  | 'family'
  | 'animal'
  | 'thing'
  | 'readable'
  | 'writable'
  | 'edible'
  | 'repairable'
  | 'washable'
  | 'audible'
  | 'openable'
  | 'portable'
  | 'support'

export interface Noun {
  readonly gender: Gender
  readonly de: { readonly singular: string; readonly plural: string }
  readonly en: { readonly singular: string; readonly plural: string }
  readonly classes: readonly NounClass[]
}

// gender | German singular, plural | English singular, plural | classes. One German noun for one English noun; no
// nouns of the weak declension ("den Jungen"), so that only the determiner and the adjective show the case.
const nounTable = `
m | Mann Männer | man men | person
f | Frau Frauen | woman women | person
n | Kind Kinder | child children | person
m | Lehrer Lehrer | teacher teachers | person
m | Arzt Ärzte | doctor doctors | person
m | Freund Freunde | friend friends | family
m | Bruder Brüder | brother brothers | family
f | Schwester Schwestern | sister sisters | family
m | Vater Väter | father fathers | family
f | Mutter Mütter | mother mothers | family
m | Sohn Söhne | son sons | family
f | Tochter Töchter | daughter daughters | family
f | Tante Tanten | aunt aunts | family
m | Hund Hunde | dog dogs | animal washable
f | Katze Katzen | cat cats | animal
n | Pferd Pferde | horse horses | animal washable
m | Vogel Vögel | bird birds | animal audible
n | Buch Bücher | book books | thing readable writable portable
m | Brief Briefe | letter letters | thing readable writable portable
f | Zeitung Zeitungen | newspaper newspapers | thing readable portable
n | Lied Lieder | song songs | writable audible
m | Apfel Äpfel | apple apples | thing edible portable
m | Kuchen Kuchen | cake cakes | thing edible portable
n | Ei Eier | egg eggs | thing edible portable
f | Birne Birnen | pear pears | thing edible portable
n | Haus Häuser | house houses | thing
n | Auto Autos | car cars | thing repairable washable
n | Fahrrad Fahrräder | bicycle bicycles | thing repairable washable
m | Tisch Tische | table tables | thing repairable support
m | Stuhl Stühle | chair chairs | thing repairable support
f | Lampe Lampen | lamp lamps | thing repairable portable
f | Tür Türen | door doors | openable repairable
n | Fenster Fenster | window windows | openable repairable
m | Koffer Koffer | suitcase suitcases | thing openable portable
f | Tasche Taschen | bag bags | thing openable portable
m | Schlüssel Schlüssel | key keys | thing portable
f | Blume Blumen | flower flowers | thing portable
f | Tasse Tassen | cup cups | thing washable portable
n | Hemd Hemden | shirt shirts | thing washable portable
m | Hut Hüte | hat hats | thing portable
n | Bild Bilder | picture pictures | thing portable
`

function parse(line: string): Noun {
  const [gender = '', german = '', english = '', classes = ''] = line.split('|').map((field) => field.trim())
  const [deSingular = '', dePlural = ''] = german.split(' ')
  const [enSingular = '', enPlural = ''] = english.split(' ')
  return {
    gender: gender as Gender,
    de: { singular: deSingular, plural: dePlural },
    en: { singular: enSingular, plural: enPlural },
    classes: classes.split(' ') as NounClass[],
  }
}

export const nouns: readonly Noun[] = nounTable.trim().split('\n').map(parse)

const byClass = new Map<NounClass, Noun[]>()
for (const noun of nouns) {
  for (const name of noun.classes) byClass.set(name, [...(byClass.get(name) ?? []), noun])
}

/** All nouns of a class, in the order of the table. */
export function nounsOf(name: NounClass): readonly Noun[] {
  return byClass.get(name) ?? []
}
