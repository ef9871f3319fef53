import type { BlockPool } from './block-pool.js'

/** One continuation of a prompt while it is being written: what was generated, and where its keys and values are. */
export class Branch {
  readonly tokens: number[]
  /** Blocks of the cache, in the order of the positions. The last one may be shared: {@link Branch.extend}. */
  readonly blocks: number[]
  /** Sum of the log-probabilities of `tokens`, nats. */
  sumLogprob: number
  /** Which random numbers it draws. */
  stream: number

  constructor(stream: number, blocks: number[] = [], tokens: number[] = [], sumLogprob = 0) {
    this.stream = stream
    this.blocks = blocks
    this.tokens = tokens
    this.sumLogprob = sumLogprob
  }

  /** A second continuation with the same history. Nothing is copied: both hold the same blocks. */
  fork(pool: BlockPool, stream = this.stream): Branch {
    for (const block of this.blocks) pool.retain(block)
    return new Branch(stream, [...this.blocks], [...this.tokens], this.sumLogprob)
  }

  /**
   * Sees to it that the block of `position`, the next one to be written, belongs to this branch alone. Returns the block that has to be
   * copied into it, if any.
   */
  extend(pool: BlockPool, position: number): number | undefined {
    const index = Math.floor(position / pool.blockSize)
    const shared = this.blocks[index]
    if (shared === undefined) {
      this.blocks.push(pool.allocate())
      return undefined
    }
    if (pool.references(shared) === 1) return undefined
    this.blocks[index] = pool.allocate()
    pool.release(shared)
    return shared
  }

  release(pool: BlockPool): void {
    for (const block of this.blocks) pool.release(block)
    this.blocks.length = 0
  }
}
