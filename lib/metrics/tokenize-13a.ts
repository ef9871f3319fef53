/** The tokenisation of mteval-v13a, the default of BLEU at WMT (sacreBLEU `tokenizer_13a.py`, `tokenizer_re.py`). */

/** ASCII punctuation apart, but not apostrophes, hyphens, full stops and commas. */
export function splitSymbols(line: string): string {
  return line.replace(/([{-~[-` -&(-+:-@/])/g, ' $1 ')
}

/** Full stops and commas apart unless between digits, and hyphens after digits. */
export function splitStops(line: string): string {
  return line
    .replace(/([^0-9])([.,])/g, '$1 $2 ')
    .replace(/([.,])([^0-9])/g, ' $1 $2')
    .replace(/([0-9])(-)/g, '$1 $2 ')
}

/** The part that 13a and zh share. */
export function splitPunctuation(line: string): string {
  return splitStops(splitSymbols(line))
}

/** Tokens stand between white space in the result. */
export function tokenize13a(line: string): string {
  let text = line.replaceAll('<skipped>', '').replaceAll('-\n', '').replaceAll('\n', ' ')
  if (text.includes('&')) {
    text = text.replaceAll('&quot;', '"').replaceAll('&amp;', '&').replaceAll('&lt;', '<').replaceAll('&gt;', '>')
  }
  return splitPunctuation(` ${text} `)
}
