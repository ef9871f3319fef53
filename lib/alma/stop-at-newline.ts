import type { ResolvedDecoding } from '../decode/index.js'
import type { Tokenizer } from '../text/index.js'

/** Decoding that ends an answer where its first line that is not blank ends, if that was asked for: ALMA takes nothing behind it. */
export function withStops(decoding: ResolvedDecoding, tokenizer: () => Tokenizer): ResolvedDecoding {
  return decoding.stopAtNewline ? { ...decoding, stops: endsLine(tokenizer()) } : decoding
}

/** Whether a token completes the first line of an answer; `before` gives the tokens that the answer has already. */
function endsLine(tokenizer: Tokenizer): (token: number, before: () => readonly number[]) => boolean {
  const known = new Map<number, boolean>()
  const hasNewline = (token: number): boolean => {
    const found = known.get(token) ?? tokenizer.decode([token]).includes('\n')
    known.set(token, found)
    return found
  }
  return (token, before) => hasNewline(token) && /\S[^\n]*\n/.test(tokenizer.decode([...before(), token]))
}
