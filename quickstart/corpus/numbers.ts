/** Cardinal and ordinal numbers written out in German and English. */

const germanSmall =
  'null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn'.split(
    ' ',
  )
const germanTens = '- zehn zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig'.split(' ')
const englishSmall =
  'zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen'.split(
    ' ',
  )
const englishTens = '- ten twenty thirty forty fifty sixty seventy eighty ninety'.split(' ')

function entry(list: readonly string[], index: number): string {
  const word = list[index]
  if (word === undefined) throw new RangeError(`no number word for ${index}`)
  return word
}

function requireRange(value: number, first: number, last: number): void {
  if (!Number.isInteger(value) || value < first || value > last) {
    throw new RangeError(`${value} is not an integer from ${first} to ${last}`)
  }
}

/** 21 → "einundzwanzig", 1100 → "eintausendeinhundert"; 0 to 9999, as one word, "eins" when it stands alone. */
export function germanCardinal(value: number): string {
  requireRange(value, 0, 9999)
  if (value < 20) return entry(germanSmall, value)
  if (value < 100) {
    const unit = value % 10
    return (unit === 0 ? '' : `${germanBound(unit)}und`) + entry(germanTens, Math.floor(value / 10))
  }
  const [size, word] = value < 1000 ? [100, 'hundert'] : [1000, 'tausend']
  const rest = value % size
  return germanBound(Math.floor(value / size)) + word + (rest === 0 ? '' : germanCardinal(rest))
}

/** The form inside a longer number or before a noun: 1 is "ein" there. */
export function germanBound(value: number): string {
  return value === 1 ? 'ein' : germanCardinal(value)
}

/** 21 → "twenty-one", 3105 → "three thousand one hundred and five"; 0 to 9999, British "and". */
export function englishCardinal(value: number): string {
  requireRange(value, 0, 9999)
  if (value < 20) return entry(englishSmall, value)
  if (value < 100) {
    const unit = value % 10
    return entry(englishTens, Math.floor(value / 10)) + (unit === 0 ? '' : `-${entry(englishSmall, unit)}`)
  }
  const [size, word] = value < 1000 ? [100, 'hundred'] : [1000, 'thousand']
  const head = `${englishCardinal(Math.floor(value / size))} ${word}`
  const rest = value % size
  if (rest === 0) return head
  return rest < 100 ? `${head} and ${englishCardinal(rest)}` : `${head} ${englishCardinal(rest)}`
}

const germanIrregularOrdinals = new Map([
  [1, 'erste'],
  [3, 'dritte'],
  [7, 'siebte'],
  [8, 'achte'],
])

/** 3 → "dritte", 21 → "einundzwanzigste": the nominative after "der"; 1 to 31. */
export function germanOrdinal(value: number): string {
  requireRange(value, 1, 31)
  return germanIrregularOrdinals.get(value) ?? germanCardinal(value) + (value < 20 ? 'te' : 'ste')
}

const englishIrregularOrdinals = new Map([
  [1, 'first'],
  [2, 'second'],
  [3, 'third'],
  [5, 'fifth'],
  [8, 'eighth'],
  [9, 'ninth'],
  [12, 'twelfth'],
  [20, 'twentieth'],
  [30, 'thirtieth'],
])

/** 3 → "third", 21 → "twenty-first"; 1 to 31. */
export function englishOrdinal(value: number): string {
  requireRange(value, 1, 31)
  const irregular = englishIrregularOrdinals.get(value)
  if (irregular !== undefined) return irregular
  if (value > 20) return `${entry(englishTens, Math.floor(value / 10))}-${englishOrdinal(value % 10)}`
  return `${englishCardinal(value)}th`
}
