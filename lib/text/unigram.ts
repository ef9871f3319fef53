/**
 * The best segmentation of a text by a SentencePiece unigram model: the pieces whose scores have the largest sum (Viterbi;
 * google/sentencepiece `unigram_model.cc`, `EncodeOptimized`).
 */
import type { Piece } from './sentencepiece-model.js'

/** How much worse an unknown character is than the worst piece. */
const UNKNOWN_PENALTY = 10
const CODE_POINTS = 2 ** 21

export class UnigramSegmenter {
  // A trie of code points: key = node · CODE_POINTS + code point.
  readonly #children = new Map<number, number>()
  /** Score of the piece that ends at a node; NaN where none does. */
  readonly #scores: number[] = [Number.NaN]
  readonly #unknownScore: number

  constructor(pieces: readonly Piece[]) {
    const normal = pieces.filter(({ kind }) => kind === 'normal').map(({ score }) => score)
    const [lowest, highest] = [min(normal), -min(normal.map((score) => -score))]
    this.#unknownScore = Math.fround(lowest - UNKNOWN_PENALTY)
    for (const { piece, kind, score } of pieces) {
      if (kind !== 'normal' && kind !== 'userDefined') continue
      // A piece of the user's own always wins.
      const worth = kind === 'normal' ? score : Buffer.byteLength(piece) * highest - 0.1
      this.#add(piece, Math.fround(worth))
    }
  }

  /** Pieces that joined are the text; a character that no piece has is a piece of its own, marked as unknown. */
  segment(text: string): { readonly text: string; readonly unknown: boolean }[] {
    const characters = [...text]
    const points = characters.map((character) => character.codePointAt(0) ?? 0)
    const count = points.length
    const best = new Float32Array(count + 1).fill(Number.NEGATIVE_INFINITY)
    const startOf = new Int32Array(count + 1).fill(-1)
    const unknown = new Uint8Array(count + 1)
    best[0] = 0
    const reach = (start: number, end: number, score: number, isUnknown: boolean): void => {
      const sum = Math.fround((best[start] ?? 0) + score)
      if (startOf[end] !== -1 && sum <= (best[end] ?? 0)) return
      best[end] = sum
      startOf[end] = start
      unknown[end] = isUnknown ? 1 : 0
    }
    for (let start = 0; start < count; start++) {
      let node = 0
      let single = false
      for (let end = start; end < count; end++) {
        const child = this.#children.get(node * CODE_POINTS + (points[end] ?? 0))
        if (child === undefined) break
        node = child
        const score = this.#scores[node] ?? Number.NaN
        if (Number.isNaN(score)) continue
        reach(start, end + 1, score, false)
        if (end === start) single = true
      }
      if (!single) reach(start, start + 1, this.#unknownScore, true)
    }
    const parts: { text: string; unknown: boolean }[] = []
    for (let end = count; end > 0; end = startOf[end] ?? 0) {
      parts.push({ text: characters.slice(startOf[end] ?? 0, end).join(''), unknown: unknown[end] === 1 })
    }
    return parts.reverse()
  }

  #add(piece: string, score: number): void {
    let node = 0
    for (const character of piece) {
      const key = node * CODE_POINTS + (character.codePointAt(0) ?? 0)
      let child = this.#children.get(key)
      if (child === undefined) {
        child = this.#scores.length
        this.#scores.push(Number.NaN)
        this.#children.set(key, child)
      }
      node = child
    }
    this.#scores[node] = score
  }
}

const min = (values: readonly number[]): number => values.reduce((least, value) => Math.min(least, value), 0)
