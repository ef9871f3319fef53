import { AlmaError } from '../errors.js'
import { type Device, type DType, dtypeSize, Tensor } from '../runtime/index.js'
import type { LlamaConfig } from './config.js'
import type { LayerCache } from './forward-context.js'

/**
 * Keys and values of earlier tokens: for every layer a table of `slots × capacity` rows. A sequence occupies one slot; its token at
 * position p lies in row slot · capacity + p.
 */
export class KeyValueCache {
  readonly slots: number
  /** Tokens a slot. */
  readonly capacity: number
  readonly #layers: { readonly keys: Tensor; readonly values: Tensor }[] = []

  constructor(device: Device, config: LlamaConfig, slots: number, capacity: number, dtype: DType) {
    if (capacity > config.maxPositionEmbeddings) {
      throw new AlmaError(
        'ERR_ALMA_CONTEXT',
        `a context of ${capacity} tokens was asked for, the model has max_position_embeddings ${config.maxPositionEmbeddings}`,
      )
    }
    this.slots = slots
    this.capacity = capacity
    const shape = [slots * capacity, config.numKeyValueHeads, config.headDim]
    try {
      for (let layer = 0; layer < config.numHiddenLayers; layer++) {
        this.#layers.push({ keys: Tensor.empty(device, shape, dtype), values: Tensor.empty(device, shape, dtype) })
      }
    } catch (error) {
      this.dispose()
      throw error
    }
  }

  /** Bytes that a cache of so many tokens takes. */
  static bytes(config: LlamaConfig, tokens: number, dtype: DType): number {
    return 2 * config.numHiddenLayers * tokens * config.numKeyValueHeads * config.headDim * dtypeSize[dtype]
  }

  /** Row of the token at `position` of the sequence in `slot`. */
  row(slot: number, position: number): number {
    return slot * this.capacity + position
  }

  /** The part of layer `layer`, with the rows (i32 [tokens]) that this pass writes. */
  layer(layer: number, rows: Tensor): LayerCache {
    const found = this.#layers[layer]
    if (found === undefined) throw new AlmaError('ERR_ALMA_DISPOSED', 'the key/value cache was disposed')
    return { ...found, rows }
  }

  dispose(): void {
    for (const { keys, values } of this.#layers) {
      keys.dispose()
      values.dispose()
    }
    this.#layers.length = 0
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}
