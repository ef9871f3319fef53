import { AlmaError } from '../errors.js'

/**
 * Which block of a key/value cache belongs to whom: reference counts, and what is in the blocks that hold whole pieces of prompts, so
 * that prompts that begin alike share them. A block that nobody uses keeps its contents until it is needed again.
 */
export class BlockPool {
  /** Tokens a block. */
  readonly blockSize: number
  readonly #references: number[] = []
  /** Unused blocks in the order in which they were released: the first one is taken next. */
  readonly #free = new Set<number>()
  /** Blocks with known contents. A key is the serial number of what comes before, and the block's own ids. */
  readonly #known = new Map<string, number>()
  readonly #contents: ({ readonly key: string; readonly serial: number } | undefined)[] = []
  #serial = 0

  constructor(blocks: number, blockSize: number) {
    this.blockSize = blockSize
    this.grow(blocks)
  }

  get blocks(): number {
    return this.#references.length
  }

  /** Blocks that somebody uses. */
  get inUse(): number {
    return this.blocks - this.#free.size
  }

  /** Blocks that so many tokens take. */
  blocksOf(tokens: number): number {
    return Math.ceil(tokens / this.blockSize)
  }

  grow(blocks: number): void {
    for (let block = this.blocks; block < blocks; block++) {
      this.#references.push(0)
      this.#contents.push(undefined)
      this.#free.add(block)
    }
  }

  /** A block for the caller alone, with undefined contents. */
  allocate(): number {
    const { value: block } = this.#free.values().next()
    if (block === undefined) {
      throw new AlmaError('ERR_ALMA_OUT_OF_MEMORY', `all ${this.blocks} blocks of the key/value cache are in use`)
    }
    this.#free.delete(block)
    this.#references[block] = 1
    this.#forget(block)
    return block
  }

  retain(block: number): void {
    this.#references[block] = this.references(block) + 1
    this.#free.delete(block)
  }

  release(block: number): void {
    const references = this.references(block) - 1
    this.#references[block] = references
    if (references === 0) this.#free.add(block)
  }

  references(block: number): number {
    return this.#references[block] ?? 0
  }

  /** The blocks, retained for the caller, that hold the beginning of `ids`: at most `most` of them. */
  match(ids: Int32Array, most: number): number[] {
    const blocks: number[] = []
    let before = 0
    while (blocks.length < most) {
      const block = this.#known.get(this.#keyOf(before, ids, blocks.length))
      if (block === undefined) break
      this.retain(block)
      blocks.push(block)
      before = this.#contents[block]?.serial ?? 0
    }
    return blocks
  }

  /** Notes that block `index` of a sequence holds ids[index · blockSize …], behind the blocks before it, which were noted as well. */
  register(ids: Int32Array, blocks: readonly number[], index: number): void {
    const block = blocks[index] ?? -1
    if (this.#contents[block] !== undefined) return
    const previous = index === 0 ? undefined : this.#contents[blocks[index - 1] ?? -1]
    if (index > 0 && previous === undefined) return
    const key = this.#keyOf(previous?.serial ?? 0, ids, index)
    const same = this.#contents[this.#known.get(key) ?? -1]
    // Computed twice, by sequences that could not see each other: the first one stays the one to share.
    this.#contents[block] = { key, serial: same?.serial ?? ++this.#serial }
    if (same === undefined) this.#known.set(key, block)
  }

  /** Nothing that a block holds is to be relied upon: what should have filled them failed. */
  forgetAll(): void {
    this.#known.clear()
    this.#contents.fill(undefined)
  }

  #keyOf(before: number, ids: Int32Array, index: number): string {
    return `${before}:${ids.subarray(index * this.blockSize, (index + 1) * this.blockSize).join()}`
  }

  #forget(block: number): void {
    const contents = this.#contents[block]
    if (contents === undefined) return
    this.#contents[block] = undefined
    if (this.#known.get(contents.key) === block) this.#known.delete(contents.key)
  }
}
