import { AlmaError } from '../errors.js'
import { type Device, type DType, dtypeSize, ops, Tensor } from '../runtime/index.js'
import type { LlamaConfig } from './config.js'
import type { LayerCache } from './forward-context.js'

/**
 * Keys and values of earlier tokens: for every layer a pool of blocks of so many tokens each (Kwon et al. 2023, PagedAttention). Which
 * block belongs to whom is the caller's business; a sequence that has a block of its own as large as its context needs no table.
 */
export class KeyValueCache {
  /** Tokens a block. */
  readonly blockSize: number
  readonly #device: Device
  readonly #dtype: DType
  readonly #config: LlamaConfig
  #blocks: number
  /** [2 · layers, blocks, blockSize, keyValueHeads, headDim]: layer after layer, keys then values. */
  #table: Tensor
  #layers: { readonly keys: Tensor; readonly values: Tensor }[] = []

  constructor(device: Device, config: LlamaConfig, blocks: number, blockSize: number, dtype: DType) {
    if (blockSize > config.maxPositionEmbeddings) {
      throw new AlmaError(
        'ERR_ALMA_CONTEXT',
        `a context of ${blockSize} tokens was asked for, the model has max_position_embeddings ${config.maxPositionEmbeddings}`,
      )
    }
    this.#device = device
    this.#dtype = dtype
    this.#config = config
    this.#blocks = blocks
    this.blockSize = blockSize
    this.#table = this.#allocate(blocks)
    this.#layers = this.#views()
  }

  /** Bytes that a cache of so many tokens takes. */
  static bytes(config: LlamaConfig, tokens: number, dtype: DType): number {
    return 2 * config.numHiddenLayers * tokens * config.numKeyValueHeads * config.headDim * dtypeSize[dtype]
  }

  get blocks(): number {
    return this.#blocks
  }

  /** Row of token `offset` of a block in the tables of {@link layer}. */
  row(block: number, offset: number): number {
    return block * this.blockSize + offset
  }

  /** The part of layer `layer`, with the rows (i32 [tokens]) that this pass writes. */
  layer(layer: number, rows: Tensor): LayerCache {
    const found = this.#layers[layer]
    if (found === undefined) throw new AlmaError('ERR_ALMA_DISPOSED', 'the key/value cache was disposed')
    return { ...found, rows }
  }

  /** Enqueues copies of blocks, in all layers; `pairs` as in {@link ops.copyBlocks}. */
  copyBlocks(pairs: Tensor): void {
    ops.copyBlocks(this.#table, pairs)
  }

  /** Other memory of so many blocks, with undefined contents: what there was makes room for it first. See {@link grow}. */
  replace(blocks: number): void {
    this.dispose()
    this.#table = this.#allocate(blocks)
    this.#blocks = blocks
    this.#layers = this.#views()
  }

  /** More blocks; the old ones keep their numbers and contents. Graphs that were captured with the cache still use the old memory. */
  grow(blocks: number): void {
    const table = this.#allocate(blocks)
    const groups = 2 * this.#config.numHiddenLayers
    const [before, after] = [this.#table.count / groups, table.count / groups]
    for (let group = 0; group < groups; group++) {
      using from = this.#table.view([before], group * before)
      using to = table.view([before], group * after)
      ops.cast(from, to)
    }
    this.dispose()
    this.#blocks = blocks
    this.#table = table
    this.#layers = this.#views()
  }

  dispose(): void {
    for (const { keys, values } of this.#layers) {
      keys.dispose()
      values.dispose()
    }
    this.#layers.length = 0
    this.#table.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  #allocate(blocks: number): Tensor {
    const { numHiddenLayers, numKeyValueHeads, headDim } = this.#config
    const shape = [2 * numHiddenLayers, blocks, this.blockSize, numKeyValueHeads, headDim]
    return Tensor.empty(this.#device, shape, this.#dtype)
  }

  #views(): { readonly keys: Tensor; readonly values: Tensor }[] {
    const { numHiddenLayers, numKeyValueHeads, headDim } = this.#config
    const shape = [this.#blocks * this.blockSize, numKeyValueHeads, headDim]
    const count = this.#table.count / (2 * numHiddenLayers)
    return Array.from({ length: numHiddenLayers }, (_, layer) => ({
      keys: this.#table.view(shape, 2 * layer * count),
      values: this.#table.view(shape, (2 * layer + 1) * count),
    }))
  }
}
