/**
 * Counts of the n-grams of a hypothesis and of what references share with them.
 *
 * The n-grams are the nodes of a trie whose edges lie in one open-addressed table, emptied by a new stamp instead of
 * being cleared, so that no n-gram becomes a string and the tables serve the whole corpus. References only walk: an
 * n-gram that the hypothesis lacks ends its walk, since no longer one can match.
 */
export class NgramTrie {
  private readonly maxOrder: number
  private mask = 0
  private stamps = new Int32Array(0)
  private parents = new Int32Array(0)
  private symbols = new Int32Array(0)
  private children = new Int32Array(0)
  private stamp = 0

  // Per node; node 0 is the empty n-gram.
  private nodes = 1
  private depths = new Uint8Array(0)
  private hypothesisCounts = new Int32Array(0)
  private referenceCounts = new Int32Array(0)
  private clips = new Int32Array(0)

  /** @param maxOrder n-grams of 1 to this many symbols are counted */
  constructor(maxOrder: number) {
    this.maxOrder = maxOrder
  }

  /** Starts anew with the n-grams of a hypothesis. Symbols are integers from 0. */
  setHypothesis(sequence: readonly number[]): void {
    this.reserve(sequence.length * this.maxOrder + 1)
    this.stamp++
    this.nodes = 1
    for (let start = 0; start < sequence.length; start++) {
      const end = Math.min(start + this.maxOrder, sequence.length)
      let node = 0
      for (let i = start; i < end; i++) {
        node = this.child(node, sequence[i] ?? 0, i - start + 1)
        this.hypothesisCounts[node] = (this.hypothesisCounts[node] ?? 0) + 1
      }
    }
  }

  /** Takes a reference in: an n-gram may match as often as it stands in the reference that has it most often. */
  addReference(sequence: readonly number[]): void {
    for (let start = 0; start < sequence.length; start++) {
      const end = Math.min(start + this.maxOrder, sequence.length)
      let node = 0
      for (let i = start; i < end; i++) {
        node = this.child(node, sequence[i] ?? 0, 0)
        if (node < 0) break
        this.referenceCounts[node] = (this.referenceCounts[node] ?? 0) + 1
      }
    }
    for (let node = 1; node < this.nodes; node++) {
      const count = this.referenceCounts[node] ?? 0
      if (count > (this.clips[node] ?? 0)) this.clips[node] = count
      this.referenceCounts[node] = 0
    }
  }

  /** Adds to `totals[n - 1]` the matched n-grams of each order, and forgets the references. */
  takeMatches(totals: number[]): void {
    for (let node = 1; node < this.nodes; node++) {
      const order = (this.depths[node] ?? 1) - 1
      totals[order] = (totals[order] ?? 0) + Math.min(this.hypothesisCounts[node] ?? 0, this.clips[node] ?? 0)
      this.clips[node] = 0
    }
  }

  /** The node of an n-gram one symbol longer; a `depth` above 0 creates it, otherwise −1 tells that there is none. */
  private child(node: number, symbol: number, depth: number): number {
    let slot = (Math.imul(node, 0x9e3779b1) ^ Math.imul(symbol + 1, 0x85ebca6b)) >>> 0
    slot = (slot ^ (slot >>> 15)) & this.mask
    while (this.stamps[slot] === this.stamp) {
      if (this.parents[slot] === node && this.symbols[slot] === symbol) return this.children[slot] ?? -1
      slot = (slot + 1) & this.mask
    }
    if (depth === 0) return -1
    const created = this.nodes++
    this.stamps[slot] = this.stamp
    this.parents[slot] = node
    this.symbols[slot] = symbol
    this.children[slot] = created
    this.depths[created] = depth
    this.hypothesisCounts[created] = 0
    this.referenceCounts[created] = 0
    this.clips[created] = 0
    return created
  }

  private reserve(nodes: number): void {
    if (nodes <= this.depths.length) return
    const size = 2 ** Math.ceil(Math.log2(nodes + 1))
    const slots = 2 * size
    this.mask = slots - 1
    this.stamps = new Int32Array(slots)
    this.parents = new Int32Array(slots)
    this.symbols = new Int32Array(slots)
    this.children = new Int32Array(slots)
    this.stamp = 0
    this.depths = new Uint8Array(size)
    this.hypothesisCounts = new Int32Array(size)
    this.referenceCounts = new Int32Array(size)
    this.clips = new Int32Array(size)
  }
}

/** Adds to `totals[n - 1]` how many n-grams a sequence of that length has. */
export function addTotals(totals: number[], length: number): void {
  for (let n = 1; n <= totals.length; n++) totals[n - 1] = (totals[n - 1] ?? 0) + Math.max(0, length - n + 1)
}

/** Numbers for words, for the length of one sentence. */
export class WordNumbers {
  private readonly numbers = new Map<string, number>()

  clear(): void {
    this.numbers.clear()
  }

  of(words: readonly string[]): number[] {
    return words.map((word) => {
      const known = this.numbers.get(word)
      if (known !== undefined) return known
      this.numbers.set(word, this.numbers.size)
      return this.numbers.size - 1
    })
  }
}
