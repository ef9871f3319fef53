/**
 * From token ids of a byte-fallback vocabulary to text, piece by piece, exactly as SentencePiece 0.1.97
 * (`SentencePieceProcessor::Decode`): every byte token that is not part of valid UTF-8 becomes its own U+FFFD.
 */
import { AlmaError } from '../errors.js'
import type { StreamDecoder } from './tokenizer.js'

export type TokenSurface =
  | { readonly kind: 'text'; readonly text: string } // with `▁` already replaced by a space
  | { readonly kind: 'byte'; readonly byte: number }
  | { readonly kind: 'unknown'; readonly text: string }
  | { readonly kind: 'control'; readonly text: string }

/** Which leading spaces are the encoder's and not the text's: the dummy prefix; one of every piece before the first text; none. */
export type LeadingSpace = 'first' | 'every' | 'keep'

const INVALID = 0
const INCOMPLETE = -1

/** Length of the UTF-8 sequence at `at`, INVALID, or INCOMPLETE when bytes to come could complete it. Unicode 15, table 3-7. */
function sequenceLength(bytes: readonly number[], at: number): number {
  const lead = bytes[at] as number
  if (lead < 0x80) return 1
  const length =
    lead >= 0xc2 && lead <= 0xdf ? 2 : lead >= 0xe0 && lead <= 0xef ? 3 : lead >= 0xf0 && lead <= 0xf4 ? 4 : 0
  if (length === 0) return INVALID
  for (let i = 1; i < length; i++) {
    const byte = bytes[at + i]
    if (byte === undefined) return INCOMPLETE
    // The second byte excludes overlong forms, surrogates and what lies above U+10FFFF.
    const low = i > 1 ? 0x80 : lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80
    const high = i > 1 ? 0xbf : lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf
    if (byte < low || byte > high) return INVALID
  }
  return length
}

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true })

export class PieceStreamDecoder implements StreamDecoder {
  readonly #surfaces: readonly (TokenSurface | undefined)[]
  readonly #leading: LeadingSpace
  readonly #skipSpecialTokens: boolean
  #bytes: number[] = []
  #atStart = true
  #sawPrefix = false

  constructor(surfaces: readonly (TokenSurface | undefined)[], leading: LeadingSpace, skipSpecialTokens: boolean) {
    this.#surfaces = surfaces
    this.#leading = leading
    this.#skipSpecialTokens = skipSpecialTokens
  }

  push(id: number): string {
    const surface = surfaceOf(this.#surfaces, id)
    // Rows that pad a model's vocabulary have no text; they still end a run of bytes.
    if (surface === undefined) return this.#drain(true)
    if (surface.kind === 'byte') {
      this.#bytes.push(surface.byte)
      return this.#drain(false)
    }
    const bytes = this.#drain(true)
    if (this.#sawPrefix) this.#atStart = false
    this.#sawPrefix = false
    let text = surface.text
    if (surface.kind === 'control') {
      if (this.#skipSpecialTokens) text = ''
    } else if (surface.kind === 'text' && this.#atStart && this.#leading !== 'keep' && text.startsWith(' ')) {
      text = text.slice(1)
      this.#sawPrefix = this.#leading === 'first'
    }
    if (text !== '') this.#atStart = false
    return bytes + text
  }

  end(): string {
    return this.#drain(true)
  }

  /** The text of the bytes held back: as much as is certain, or all. */
  #drain(final: boolean): string {
    const bytes = this.#bytes
    if (bytes.length === 0) return ''
    let text = ''
    let at = 0
    while (at < bytes.length) {
      const length = sequenceLength(bytes, at)
      if (length === INCOMPLETE && !final) break
      if (length > 0) {
        text += utf8.decode(Uint8Array.from(bytes.slice(at, at + length)))
        at += length
      } else {
        text += '\ufffd'
        at += 1
      }
    }
    this.#bytes = bytes.slice(at)
    if (text !== '') this.#atStart = false
    return text
  }
}

function surfaceOf(surfaces: readonly (TokenSurface | undefined)[], id: number): TokenSurface | undefined {
  if (!Number.isSafeInteger(id) || id < 0)
    throw new AlmaError(
      'ERR_ALMA_OPTION',
      `decode: ${id} is not a token id (an integer from 0 to ${surfaces.length - 1})`,
    )
  return surfaces[id]
}

/** Decodes a whole list of ids with a fresh stream decoder, so that both ways agree by construction. */
export function decodeAll(decoder: StreamDecoder, ids: readonly number[]): string {
  let text = ''
  for (const id of ids) text += decoder.push(id)
  return text + decoder.end()
}
