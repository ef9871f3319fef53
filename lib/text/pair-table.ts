/** A hash table from a pair of symbols to the merge that joins them: the inner loop of every BPE encoder. */

const EMPTY = -1

/**
 * Open addressing with linear probing over typed arrays, at most half full. A `Map` keyed by `left * n + right` boxes its keys
 * (they exceed 31 bits) and was the hottest line of the encoder.
 */
export class PairTable {
  readonly #mask: number
  readonly #left: Int32Array
  readonly #right: Int32Array
  /** Priority of the merge in a slot; smaller merges first. */
  readonly rank: Int32Array
  /** The symbol that the merge in a slot yields. */
  readonly merged: Int32Array

  /** @param count how many pairs will be set at most */
  constructor(count: number) {
    let slots = 16
    while (slots < 2 * count) slots *= 2
    this.#mask = slots - 1
    this.#left = new Int32Array(slots).fill(EMPTY)
    this.#right = new Int32Array(slots)
    this.rank = new Int32Array(slots)
    this.merged = new Int32Array(slots)
  }

  /** Adds a pair, or replaces it: in a list of merges with duplicates the last one counts, as in Hugging Face tokenizers. */
  set(left: number, right: number, rank: number, merged: number): void {
    const slot = this.#probe(left, right)
    this.#left[slot] = left
    this.#right[slot] = right
    this.rank[slot] = rank
    this.merged[slot] = merged
  }

  /** The slot of a pair, or −1. Negative symbols (characters that no piece contains) have no merges. */
  find(left: number, right: number): number {
    if (left < 0 || right < 0) return -1
    const slot = this.#probe(left, right)
    return this.#left[slot] === EMPTY ? -1 : slot
  }

  #probe(left: number, right: number): number {
    // Odd multipliers of the golden ratio and of MurmurHash3; the shift brings the well mixed high bits down to the mask.
    let hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b)
    hash ^= hash >>> 15
    let slot = hash & this.#mask
    while (this.#left[slot] !== EMPTY && (this.#left[slot] !== left || this.#right[slot] !== right)) {
      slot = (slot + 1) & this.#mask
    }
    return slot
  }
}
