import { AlmaError } from '../errors.js'
import { KeyValueCache, type LlamaForCausalLM } from '../model/index.js'
import { BlockPool } from './block-pool.js'
import type { DecodingRequest } from './request.js'

/**
 * Tokens a block. Prompts share whole blocks: the instruction of ALMA's prompt has 13 tokens. And few are wasted at the end of a
 * sequence, or copied when a beam parts from another.
 */
const BLOCK_SIZE = 8

/**
 * The key/value cache of all requests of a model, as large as they need. A request enters with the blocks that it may come to hold
 * reserved, so that none has to be thrown out half-way.
 */
export class CacheMemory {
  readonly pool: BlockPool
  readonly cache: KeyValueCache
  readonly #model: LlamaForCausalLM
  readonly #onMove: () => void
  #reserved = 0

  private constructor(model: LlamaForCausalLM, blocks: number, blockSize: number, onMove: () => void) {
    this.#model = model
    this.#onMove = onMove
    this.cache = new KeyValueCache(model.device, model.config, blocks, blockSize, model.activationDtype)
    this.pool = new BlockPool(blocks, blockSize)
  }

  static blockSize({ config }: LlamaForCausalLM): number {
    return Math.min(BLOCK_SIZE, config.maxPositionEmbeddings)
  }

  /**
   * Memory for the first of the requests, which has to fit, and if possible for all of them.
   *
   * @param onMove called before the cache moves: graphs that were captured with it are of no use then, and hold its memory.
   * @throws AlmaError ERR_ALMA_OUT_OF_MEMORY saying how many beams would fit.
   */
  static forRequests(model: LlamaForCausalLM, requests: readonly DecodingRequest[], onMove: () => void): CacheMemory {
    const blockSize = CacheMemory.blockSize(model)
    const [first] = requests
    const least = first?.reservation(blockSize) ?? 0
    const most = requests.reduce((sum, request) => sum + request.reservation(blockSize), 0)
    const free = freeBlocks(model, blockSize)
    if (first !== undefined && least > free) throw tooLarge(model, first, free)
    return new CacheMemory(model, Math.max(least, Math.min(most, Math.floor(free / 2))), blockSize, onMove)
  }

  /**
   * Makes room for a request, with more memory if there is some: `wanted` blocks if possible. False when it has to wait for others.
   *
   * @param alone nothing of its lane is running.
   *
   * @throws AlmaError ERR_ALMA_OUT_OF_MEMORY saying how many beams would fit.
   */
  reserve(request: DecodingRequest, alone: boolean, wanted: number): boolean {
    const blocks = request.reservation(this.pool.blockSize)
    const needed = this.#reserved + blocks
    if (needed > this.pool.blocks) {
      const unused = this.#reserved === 0
      // An unused cache makes room for a larger one; otherwise both are there while one is filled from the other.
      const free = freeBlocks(this.#model, this.pool.blockSize) + (unused ? this.pool.blocks : 0)
      // At most half of what is free, if it can be helped.
      if (needed > (alone ? free : Math.floor(free / 2))) {
        if (unused) throw tooLarge(this.#model, request, free)
        return false
      }
      this.#enlarge(Math.max(needed, Math.min(this.#reserved + wanted, Math.floor(free / 2))))
    }
    this.#reserved = needed
    return true
  }

  #enlarge(blocks: number): void {
    this.#onMove()
    if (this.#reserved === 0) {
      this.pool.forgetAll()
      this.cache.replace(blocks)
    } else this.cache.grow(blocks)
    this.pool.grow(blocks)
  }

  release(request: DecodingRequest): void {
    request.releaseBlocks(this.pool)
    this.#reserved -= request.reservation(this.pool.blockSize)
  }

  dispose(): void {
    this.cache.dispose()
  }
}

function freeBlocks(model: LlamaForCausalLM, blockSize: number): number {
  const { free, reserved, allocated } = model.device.memory()
  return Math.floor((free + reserved - allocated) / KeyValueCache.bytes(model.config, blockSize, model.activationDtype))
}

function tooLarge(model: LlamaForCausalLM, request: DecodingRequest, freeBlocksNow: number): AlmaError {
  const blockSize = CacheMemory.blockSize(model)
  const blocks = request.reservation(blockSize)
  const bytes = (count: number): string => {
    const megabytes = KeyValueCache.bytes(model.config, count * blockSize, model.activationDtype) / 1e6
    return megabytes < 1000 ? `${megabytes.toFixed(2)} MB` : `${(megabytes / 1000).toFixed(2)} GB`
  }
  const shared = Math.floor(request.prompt.ids.length / blockSize)
  const each = (blocks - shared) / request.width
  const fit = Math.max(0, Math.floor((freeBlocksNow - shared) / each))
  const [name, things] = request.decoding.numBeams > 1 ? ['numBeams', 'beams'] : ['numReturnSequences', 'answers']
  const what = request.width > 1 ? `${name} ${request.width}: the key/value cache of one prompt` : 'the key/value cache'
  const hint = request.width > 1 ? `${fit} ${things} fit` : 'a smaller maxNewTokens needs less'
  return new AlmaError(
    'ERR_ALMA_OUT_OF_MEMORY',
    `${what} with up to ${request.capacity} tokens takes ${bytes(blocks)}, ${bytes(freeBlocksNow)} are free: ${hint}`,
  )
}
