/** From token ids of a byte-level BPE vocabulary (GPT-2's, LLaMA-3's) to text, piece by piece. */
import { AlmaError } from '../errors.js'
import type { StreamDecoder } from './tokenizer.js'

/** The bytes of a token, or the text of an added one. */
export type ByteLevelSurface = Uint8Array | { readonly text: string; readonly special: boolean }

/** GPT-2's `bytes_to_unicode` (openai/gpt-2 `src/encoder.py`), inverted: printable Latin-1 stands for itself, the rest for U+0100 on. */
const byteOfCharacter: ReadonlyMap<string, number> = (() => {
  const map = new Map<string, number>()
  let next = 0x100
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae
    map.set(String.fromCharCode(printable ? byte : next++), byte)
  }
  return map
})()

/** The bytes that a piece of a byte-level vocabulary stands for; characters outside that alphabet stand for themselves. */
export function bytesOfPiece(piece: string): Uint8Array {
  const bytes: number[] = []
  for (const character of piece) {
    const byte = byteOfCharacter.get(character)
    if (byte === undefined) bytes.push(...Buffer.from(character, 'utf8'))
    else bytes.push(byte)
  }
  return Uint8Array.from(bytes)
}

export class ByteLevelStreamDecoder implements StreamDecoder {
  readonly #surfaces: readonly (ByteLevelSurface | undefined)[]
  readonly #skipSpecialTokens: boolean
  // WHATWG streaming: what is fed in parts decodes to what the whole decodes to.
  readonly #utf8 = new TextDecoder('utf-8', { ignoreBOM: true })

  constructor(surfaces: readonly (ByteLevelSurface | undefined)[], skipSpecialTokens: boolean) {
    this.#surfaces = surfaces
    this.#skipSpecialTokens = skipSpecialTokens
  }

  push(id: number): string {
    if (!Number.isSafeInteger(id) || id < 0) throw new AlmaError('ERR_ALMA_OPTION', `decode: ${id} is not a token id`)
    const surface = this.#surfaces[id]
    if (surface === undefined) return ''
    if (surface instanceof Uint8Array) return this.#utf8.decode(surface, { stream: true })
    // A token that is left out does not end a character whose bytes stand on both sides of it, as in Hugging Face tokenizers.
    return surface.special && this.#skipSpecialTokens ? '' : this.#utf8.decode() + surface.text
  }

  end(): string {
    return this.#utf8.decode()
  }
}
