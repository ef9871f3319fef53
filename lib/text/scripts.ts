/** Which scripts a language is written in, and how much of a text is in them. */

/** ISO 639-1 codes by Unicode script; languages that are not here are written in Latin letters alone. */
const codesByScript: Readonly<Record<string, string>> = {
  Han: 'zh ja ko',
  Hiragana: 'ja',
  Katakana: 'ja',
  Hangul: 'ko',
  Cyrillic: 'ru uk bg mk sr kk ky uz az',
  Arabic: 'ar fa ur az kk ky uz',
  Hebrew: 'he',
  Greek: 'el',
  Georgian: 'ka',
  Devanagari: 'hi mr ne',
  Gujarati: 'gu',
  Thai: 'th',
  Latin: 'sr kk ky uz az',
}

const patterns = new Map<string, RegExp>()

function patternFor(code: string): RegExp {
  const known = patterns.get(code)
  if (known !== undefined) return known
  const scripts = Object.keys(codesByScript).filter((script) => codesByScript[script]?.split(' ').includes(code))
  const names = scripts.length > 0 ? scripts : ['Latin']
  const pattern = new RegExp(`[${names.map((name) => `\\p{Script=${name}}`).join('')}]`, 'gu')
  patterns.set(code, pattern)
  return pattern
}

const LETTERS = /\p{L}/gu

/** Fewer letters than these, such as a product's name, say nothing about the language. */
const FEWEST_LETTERS = 10
/** A sentence may quote much in another script. */
const SMALLEST_SHARE = 0.25

/** Whether most letters of a text are of a script that the language (ISO 639-1) is not written in. */
export function isOfOtherScript(text: string, code: string): boolean {
  const letters = text.match(LETTERS)?.length ?? 0
  if (letters < FEWEST_LETTERS) return false
  return (text.match(patternFor(code))?.length ?? 0) < SMALLEST_SHARE * letters
}
