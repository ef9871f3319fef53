/**
 * Byte-pair encoding of a text into token ids: merges are taken best first, ties from the left, as in SentencePiece
 * (`bpe_model.cc`) and Hugging Face tokenizers (`models/bpe/word.rs`). O(n log n) in the length of the text.
 */
import type { PairTable } from './pair-table.js'

/** U+2581, which stands for a space inside pieces. */
export const META_SPACE = '\u2581'

const REPLACEMENT = 0xfffd
// A queue key is rank * 2^31 + position: exact in a double while ranks stay below 2^21, which the readers of models ensure.
const POSITION_RANGE = 2 ** 31
export const MAX_RANK = 2 ** 21 - 1
// Longer words hardly repeat; 50,000 entries are about 10 MB and hold all frequent words of a language.
const MAX_CACHED_WORD = 32
const MAX_CACHED_WORDS = 50_000

export interface BpeModel {
  /** Piece or character to symbol. A symbol is an index into `ids`. */
  readonly symbols: ReadonlyMap<string, number>
  /** Token id of a symbol; −1 for a character that occurs inside pieces but is none itself. */
  readonly ids: Int32Array
  readonly pairs: PairTable
  /** Appends the ids of a character that is not a piece (its bytes, or the unknown token). */
  readonly fallback: (codePoint: number, out: number[]) => void
  /** The character that begins a word in the normalised text: `▁`, or a space where whitespace is not escaped. */
  readonly space: string
  /** Symbols that may take part in merges but must be split up again in the result (SentencePiece's UNUSED pieces). */
  readonly unused?: ReadonlySet<number>
}

/** Whether words can be encoded one by one: no piece has a `space` behind another character, so no merge crosses that border. */
function wordsAreIndependent(model: BpeModel): boolean {
  for (const piece of model.symbols.keys()) {
    for (let at = piece.indexOf(model.space, 1); at > 0; at = piece.indexOf(model.space, at + 1)) {
      if (piece[at - 1] !== model.space) return false
    }
  }
  // A piece that is split up again takes the split that was seen last anywhere in the text.
  return model.unused === undefined || model.unused.size === 0
}

export class BpeEncoder {
  readonly #model: BpeModel
  readonly #byWord: boolean
  readonly #basicPlane = new Int32Array(0x10000).fill(-1)
  readonly #supplementary = new Map<number, number>()
  /** Code points of the symbols without an id. */
  readonly #characters = new Map<number, number>()
  readonly #cache = new Map<string, readonly number[]>()
  // Working arrays, reused by every call and grown to the longest segment seen.
  #codePoints = new Int32Array(0)
  #symbol = new Int32Array(0)
  #previous = new Int32Array(0)
  #next = new Int32Array(0)
  #pairRank = new Int32Array(0)
  #pairMerged = new Int32Array(0)
  #queue = new Float64Array(0)
  #queued = 0

  constructor(model: BpeModel) {
    this.#model = model
    this.#byWord = wordsAreIndependent(model)
    for (const [piece, symbol] of model.symbols) {
      const codePoint = piece.codePointAt(0) ?? 0
      if (String.fromCodePoint(codePoint) !== piece) continue
      if (codePoint < 0x10000) this.#basicPlane[codePoint] = symbol
      else this.#supplementary.set(codePoint, symbol)
      if (model.ids[symbol] === -1) this.#characters.set(symbol, codePoint)
    }
  }

  /** Appends the ids of a normalised text to `out`. Lone surrogates count as U+FFFD. */
  encode(text: string, out: number[]): void {
    if (!this.#byWord) {
      this.#encodeSegment(text, out)
      return
    }
    const space = this.#model.space
    let start = 0
    while (start < text.length) {
      let end = start
      while (text[end] === space) end++
      end = text.indexOf(space, end)
      if (end < 0) end = text.length
      this.#encodeWord(text.slice(start, end), out)
      start = end
    }
  }

  #encodeWord(word: string, out: number[]): void {
    if (word.length > MAX_CACHED_WORD) {
      this.#encodeSegment(word, out)
      return
    }
    let ids = this.#cache.get(word)
    if (ids === undefined) {
      const fresh: number[] = []
      this.#encodeSegment(word, fresh)
      ids = fresh
      if (this.#cache.size >= MAX_CACHED_WORDS) this.#cache.clear()
      // V8 slices share their parent: a copy keeps a whole document from living as long as one of its words.
      this.#cache.set(Buffer.from(word, 'utf16le').toString('utf16le'), ids)
    }
    for (let i = 0; i < ids.length; i++) out.push(ids[i] as number)
  }

  #encodeSegment(text: string, out: number[]): void {
    if (this.#symbol.length < text.length) this.#grow(text.length)
    const symbol = this.#symbol
    const next = this.#next
    const previous = this.#previous
    let count = 0
    for (let i = 0; i < text.length; i++) {
      let codePoint = text.charCodeAt(i)
      if (codePoint >= 0xd800 && codePoint <= 0xdfff) {
        const whole = text.codePointAt(i) as number
        if (whole > 0xffff) i++
        codePoint = whole > 0xffff ? whole : REPLACEMENT
      }
      this.#codePoints[count] = codePoint
      symbol[count] =
        codePoint < 0x10000 ? (this.#basicPlane[codePoint] as number) : (this.#supplementary.get(codePoint) ?? -1)
      count++
    }
    for (let i = 0; i < count; i++) {
      previous[i] = i - 1
      next[i] = i + 1 < count ? i + 1 : -1
    }
    const splits = this.#model.unused?.size ? new Map<number, readonly [number, number]>() : undefined
    this.#queued = 0
    for (let i = 0; i + 1 < count; i++) this.#consider(i, splits)
    while (this.#queued > 0) {
      const key = this.#pop()
      const left = key % POSITION_RANGE
      // A key is stale when its pair has changed since. A new pair at the same place with the same rank has a key of its own
      // that is equal to this one, so that serving it now is in order.
      if (this.#pairRank[left] !== (key - left) / POSITION_RANGE) continue
      const right = next[left] as number
      const after = next[right] as number
      symbol[left] = this.#pairMerged[left] as number
      this.#pairRank[right] = -1
      next[left] = after
      if (after >= 0) previous[after] = left
      this.#pairRank[left] = -1
      if (after >= 0) this.#consider(left, splits)
      const before = previous[left] as number
      if (before >= 0) this.#consider(before, splits)
    }
    for (let i = 0; i >= 0 && i < count; i = next[i] as number) this.#emit(symbol[i] as number, i, splits, out)
  }

  /** Looks up the pair that begins at `left` and queues it. */
  #consider(left: number, splits: Map<number, readonly [number, number]> | undefined): void {
    const first = this.#symbol[left] as number
    const second = this.#symbol[this.#next[left] as number] as number
    const { pairs } = this.#model
    const slot = pairs.find(first, second)
    if (slot < 0) {
      this.#pairRank[left] = -1
      return
    }
    const rank = pairs.rank[slot] as number
    const merged = pairs.merged[slot] as number
    this.#pairRank[left] = rank
    this.#pairMerged[left] = merged
    this.#push(rank * POSITION_RANGE + left)
    if (splits !== undefined && this.#model.unused?.has(merged)) splits.set(merged, [first, second])
  }

  #emit(
    symbol: number,
    at: number,
    splits: ReadonlyMap<number, readonly [number, number]> | undefined,
    out: number[],
  ): void {
    if (splits !== undefined && this.#model.unused?.has(symbol)) {
      const parts = splits.get(symbol)
      if (parts !== undefined) {
        this.#emit(parts[0], at, splits, out)
        this.#emit(parts[1], at, splits, out)
        return
      }
    }
    const id = symbol < 0 ? -1 : (this.#model.ids[symbol] as number)
    if (id >= 0) out.push(id)
    else this.#model.fallback(this.#characters.get(symbol) ?? (this.#codePoints[at] as number), out)
  }

  #grow(length: number): void {
    const size = Math.max(256, length + (length >> 1))
    this.#codePoints = new Int32Array(size)
    this.#symbol = new Int32Array(size)
    this.#previous = new Int32Array(size)
    this.#next = new Int32Array(size)
    this.#pairRank = new Int32Array(size)
    this.#pairMerged = new Int32Array(size)
    // n − 1 pairs at the beginning and at most two more for each of at most n − 1 merges.
    this.#queue = new Float64Array(3 * size)
  }

  #push(key: number): void {
    const queue = this.#queue
    let at = this.#queued++
    while (at > 0) {
      const parent = (at - 1) >> 1
      const above = queue[parent] as number
      if (above <= key) break
      queue[at] = above
      at = parent
    }
    queue[at] = key
  }

  #pop(): number {
    const queue = this.#queue
    const top = queue[0] as number
    const last = queue[--this.#queued] as number
    const count = this.#queued
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= count) break
      if (child + 1 < count && (queue[child + 1] as number) < (queue[child] as number)) child++
      if ((queue[child] as number) >= last) break
      queue[at] = queue[child] as number
      at = child
    }
    queue[at] = last
    return top
  }
}

/** The UTF-8 bytes of a code point, appended as ids: `byteIds[b]` is the id of byte b. */
export function pushUtf8(codePoint: number, byteIds: ArrayLike<number>, out: number[]): void {
  const push = (byte: number): void => {
    out.push(byteIds[byte] as number)
  }
  if (codePoint < 0x80) push(codePoint)
  else if (codePoint < 0x800) {
    push(0xc0 | (codePoint >> 6))
    push(0x80 | (codePoint & 63))
  } else if (codePoint < 0x10000) {
    push(0xe0 | (codePoint >> 12))
    push(0x80 | ((codePoint >> 6) & 63))
    push(0x80 | (codePoint & 63))
  } else {
    push(0xf0 | (codePoint >> 18))
    push(0x80 | ((codePoint >> 12) & 63))
    push(0x80 | ((codePoint >> 6) & 63))
    push(0x80 | (codePoint & 63))
  }
}
