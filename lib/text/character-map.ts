/**
 * The compiled character map of a SentencePiece normaliser (`precompiled_charsmap`, e.g. of `nmt_nfkc`): a double-array trie
 * (Darts-clone) from UTF-8 prefixes to offsets into a block of NUL-terminated replacements. It comes from a file, so that no
 * unit may lead outside the array and no offset outside the block.
 */

/** What is wrong with a map, for the reader of the file to report. */
export class CharacterMapError extends Error {}

const BRANCH_LABEL = 0x800000ff
const VALUE = 0x7fffffff
const utf8 = new TextDecoder('utf-8')

export class CharacterMap {
  readonly #units: Uint32Array
  readonly #replacements: Uint8Array

  /** @throws CharacterMapError */
  constructor(bytes: Uint8Array) {
    if (bytes.length < 4) throw new CharacterMapError(`the character map has ${bytes.length} bytes`)
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const size = view.getUint32(0, true)
    if (size === 0 || size % 4 !== 0 || size > bytes.length - 4) {
      throw new CharacterMapError(`the character map names ${size} bytes of trie, it has ${bytes.length - 4}`)
    }
    this.#units = Uint32Array.from({ length: size / 4 }, (_, i) => view.getUint32(4 + 4 * i, true))
    this.#replacements = bytes.subarray(4 + size)
  }

  /** The longest prefix of `text` from `at` on that has a replacement: its length in bytes, and the replacement. */
  match(text: Uint8Array, at: number): { readonly length: number; readonly replacement: string } | undefined {
    const units = this.#units
    let node = offsetOf(units[0] ?? 0)
    let value = -1
    let length = 0
    for (let i = at; i < text.length; i++) {
      const byte = text[i] ?? 0
      node = (node ^ byte) >>> 0
      const unit = units[node]
      if (unit === undefined || (unit & BRANCH_LABEL) >>> 0 !== byte) break
      node = (node ^ offsetOf(unit)) >>> 0
      if (((unit >>> 8) & 1) === 0) continue
      const leaf = units[node]
      if (leaf === undefined) break
      value = leaf & VALUE
      length = i + 1 - at
    }
    if (value < 0) return undefined
    const start = Math.min(value, this.#replacements.length)
    const end = this.#replacements.indexOf(0, start)
    const bytes = this.#replacements.subarray(start, end < 0 ? this.#replacements.length : end)
    return { length, replacement: utf8.decode(bytes) }
  }
}

function offsetOf(unit: number): number {
  return ((unit >>> 10) << ((unit & 0x200) >>> 6)) >>> 0
}
