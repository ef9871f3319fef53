/** The normalisation of Tercom (sacreBLEU `tokenizer_ter.py`), with whose words TER is counted. */
import { splitWords, trimEnd } from './python-text.js'
import { splitStops, splitSymbols } from './tokenize-13a.js'

export interface TercomOptions {
  /** Splits punctuation from words; false by default. */
  readonly normalized?: boolean
  /** Drops punctuation; false by default. */
  readonly noPunct?: boolean
  /** Treats Chinese and Japanese characters as words, with `normalized`; false by default. */
  readonly asianSupport?: boolean
  /** False by default: case is ignored. */
  readonly caseSensitive?: boolean
}

const asianPunctuation = /([\u3001\u3002\u3008-\u3011\u3014-\u301f\uff61-\uff65\u30fb])/g
const fullWidthPunctuation = /([\uff0e\uff0c\uff1f\uff1a\uff1b\uff01\uff02\uff08\uff09])/g

/** Ideographs, strokes and compatibility blocks; the last range ends at U+3F22 in the original too. */
const ideographs: readonly RegExp[] = [
  /([\u4e00-\u9fff\u3400-\u4dbf])/g,
  /([\u31c0-\u31ef\u2e80-\u2eff])/g,
  /([\u3300-\u33ff\uf900-\ufaff\ufe30-\ufe4f])/g,
  /([\u3200-\u3f22])/g,
]

/**
 * Hiragana, Katakana and its extensions: the original means "next to something else", but its pattern only matches a
 * run that is the whole line, or that follows one such character at the start. Kept, for the same scores.
 */
const kana: readonly RegExp[] = [
  /(^|^[\u3040-\u309f])([\u3040-\u309f]+)(?=$)/g,
  /(^|^[\u30a0-\u30ff])([\u30a0-\u30ff]+)(?=$)/g,
  /(^|^[\u31f0-\u31ff])([\u31f0-\u31ff]+)(?=$)/g,
]

/** The words of a line. */
export function tokenizeTercom(line: string, options: Required<TercomOptions>): string[] {
  let text = trimEnd(line)
  if (!options.caseSensitive) text = text.toLowerCase()
  if (options.normalized) {
    text = normalize(text)
    if (options.asianSupport) text = splitAsian(text)
  }
  if (options.noPunct) {
    text = text.replace(/[.,?:;!"()]/g, '')
    if (options.asianSupport) text = text.replace(asianPunctuation, '').replace(fullWidthPunctuation, '')
  }
  return splitWords(text)
}

function normalize(line: string): string {
  const text = line
    .replaceAll('\n-', '')
    .replaceAll('\n', ' ')
    .replaceAll('&quot;', '"')
    .replaceAll('&amp;', '&')
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
  const possessives = splitSymbols(` ${text} `).replaceAll("'s ", " 's ").replace(/'s$/, " 's")
  return splitStops(possessives)
}

function splitAsian(line: string): string {
  let text = line
  for (const pattern of ideographs) text = text.replace(pattern, ' $1 ')
  for (const pattern of kana) text = text.replace(pattern, '$1 $2 ')
  return text.replace(asianPunctuation, ' $1 ').replace(fullWidthPunctuation, ' $1 ')
}
