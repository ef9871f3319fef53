/** Learns the merges of a BPE vocabulary from word counts (Sennrich et al. 2016, https://arxiv.org/abs/1508.07909). */

export interface BpeMerge {
  readonly left: string
  readonly right: string
}

export interface LearnMergesOptions {
  /** Pieces to begin with; other characters end a word for the purpose of merging. */
  readonly characters: readonly string[]
  /** New pieces at most. */
  readonly maxPieces: number
  /** In characters. */
  readonly maxPieceLength: number
  /** Whether a piece of this text may come to be. */
  readonly isAllowed: (piece: string) => boolean
}

const UNKNOWN = -1
// A pair is keyed by left * 2^21 + right.
const RADIX = 2 ** 21

interface Word {
  symbols: number[]
  readonly count: number
}

/** Merges, the most frequent pair first. Counts are kept up to date word by word instead of being taken anew for each merge. */
export function learnMerges(words: ReadonlyMap<string, number>, options: LearnMergesOptions): BpeMerge[] {
  const pieces = [...options.characters]
  const symbolOf = new Map(pieces.map((piece, symbol) => [piece, symbol]))
  const lengths = pieces.map(() => 1)
  const corpus: Word[] = []
  for (const [word, count] of words)
    corpus.push({ symbols: Array.from(word, (character) => symbolOf.get(character) ?? UNKNOWN), count })

  const counts = new Map<number, number>()
  const places = new Map<number, Set<number>>()
  const forbidden = new Set<number>()
  const before = (a: number, b: number): boolean => {
    const leftA = pieces[Math.floor(a / RADIX)] as string
    const leftB = pieces[Math.floor(b / RADIX)] as string
    if (leftA !== leftB) return leftA < leftB
    return (pieces[a % RADIX] as string) < (pieces[b % RADIX] as string)
  }
  const queue = new PairQueue(before)
  const mayMerge = (pair: number): boolean => {
    const left = Math.floor(pair / RADIX)
    const right = pair % RADIX
    return (
      (lengths[left] as number) + (lengths[right] as number) <= options.maxPieceLength &&
      options.isAllowed(`${pieces[left]}${pieces[right]}`)
    )
  }
  const change = (pair: number, by: number, word: number, touched: Set<number>): void => {
    if (forbidden.has(pair)) return
    let place = places.get(pair)
    if (place === undefined) {
      if (!mayMerge(pair)) {
        forbidden.add(pair)
        return
      }
      place = new Set()
      places.set(pair, place)
    }
    if (by > 0) place.add(word)
    counts.set(pair, (counts.get(pair) ?? 0) + by)
    touched.add(pair)
  }
  const countPairs = ({ symbols, count }: Word, word: number, sign: 1 | -1, touched: Set<number>): void => {
    for (let i = 0; i + 1 < symbols.length; i++) {
      const left = symbols[i] as number
      const right = symbols[i + 1] as number
      if (left !== UNKNOWN && right !== UNKNOWN) change(left * RADIX + right, sign * count, word, touched)
    }
  }

  const all = new Set<number>()
  for (const [index, word] of corpus.entries()) countPairs(word, index, 1, all)
  for (const pair of all) queue.push(pair, counts.get(pair) ?? 0)

  const merges: BpeMerge[] = []
  let created = 0
  while (created < options.maxPieces) {
    const top = queue.pop()
    if (top === undefined) break
    const [pair, count] = top
    // Queued with a count that has changed since; the changed count was queued as well.
    if (counts.get(pair) !== count || count <= 0) continue
    const left = Math.floor(pair / RADIX)
    const right = pair % RADIX
    const piece = `${pieces[left]}${pieces[right]}`
    merges.push({ left: pieces[left] as string, right: pieces[right] as string })
    let symbol = symbolOf.get(piece)
    if (symbol === undefined) {
      symbol = pieces.length
      pieces.push(piece)
      lengths.push((lengths[left] as number) + (lengths[right] as number))
      symbolOf.set(piece, symbol)
      created++
    }
    const touched = new Set<number>()
    for (const index of places.get(pair) ?? []) {
      const word = corpus[index] as Word
      countPairs(word, index, -1, touched)
      word.symbols = join(word.symbols, left, right, symbol)
      countPairs(word, index, 1, touched)
    }
    counts.delete(pair)
    places.delete(pair)
    touched.delete(pair)
    for (const changed of touched) {
      const now = counts.get(changed) ?? 0
      if (now > 0) queue.push(changed, now)
      else {
        counts.delete(changed)
        places.delete(changed)
      }
    }
  }
  return merges
}

function join(symbols: readonly number[], left: number, right: number, merged: number): number[] {
  const joined: number[] = []
  for (let i = 0; i < symbols.length; i++) {
    if (symbols[i] === left && symbols[i + 1] === right) {
      joined.push(merged)
      i++
    } else joined.push(symbols[i] as number)
  }
  return joined
}

/** A binary heap: the highest count first, then by `before`. */
class PairQueue {
  readonly #before: (a: number, b: number) => boolean
  readonly #items: (readonly [pair: number, count: number])[] = []

  constructor(before: (a: number, b: number) => boolean) {
    this.#before = before
  }

  push(pair: number, count: number): void {
    const items = this.#items
    const item = [pair, count] as const
    let at = items.length
    items.push(item)
    while (at > 0) {
      const parent = (at - 1) >> 1
      const above = items[parent] as readonly [number, number]
      if (!this.#first(item, above)) break
      items[at] = above
      at = parent
    }
    items[at] = item
  }

  pop(): readonly [pair: number, count: number] | undefined {
    const items = this.#items
    const top = items[0]
    const last = items.pop()
    if (top === undefined || last === undefined || items.length === 0) return top
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= items.length) break
      const other = items[child + 1]
      if (other !== undefined && this.#first(other, items[child] as readonly [number, number])) child++
      const below = items[child] as readonly [number, number]
      if (!this.#first(below, last)) break
      items[at] = below
      at = child
    }
    items[at] = last
    return top
  }

  #first(a: readonly [number, number], b: readonly [number, number]): boolean {
    return a[1] !== b[1] ? a[1] > b[1] : a[0] !== b[0] && this.#before(a[0], b[0])
  }
}
