import { type Device, type ops, Tensor } from '../runtime/index.js'
import { type LlamaConfig, ropeInverseFrequencies } from './config.js'

const FIRST_POSITIONS = 512

/**
 * cos and sin of position × frequency. Angles are formed in float64: at position 100,000 a float32 angle is off by 0.01 rad.
 * The table starts small and doubles when a longer context is used; a 131,072-token LLaMA-3 table would be 67 MB.
 */
export class RopeCache {
  readonly #device: Device
  readonly #inverseFrequencies: Float64Array
  #positions = 0
  #table: ops.RopeTable | undefined

  constructor(device: Device, config: LlamaConfig) {
    this.#device = device
    this.#inverseFrequencies = ropeInverseFrequencies(config)
  }

  /** A table for the positions 0 … positions − 1 at least. */
  table(positions: number): ops.RopeTable {
    if (this.#table === undefined || positions > this.#positions) {
      this.dispose()
      this.#positions = ropePositions(positions)
      this.#table = buildTable(this.#device, this.#inverseFrequencies, this.#positions)
    }
    return this.#table
  }

  dispose(): void {
    this.#table?.cosine.dispose()
    this.#table?.sine.dispose()
    this.#table = undefined
  }
}

/** Positions of a table for so many: a power of two, so that it does not grow with every longer sequence. */
export function ropePositions(positions: number): number {
  let capacity = FIRST_POSITIONS
  while (capacity < positions) capacity *= 2
  return capacity
}

function buildTable(device: Device, inverseFrequencies: Float64Array, positions: number): ops.RopeTable {
  const half = inverseFrequencies.length
  const cosine = new Float32Array(positions * half)
  const sine = new Float32Array(positions * half)
  for (let position = 0; position < positions; position++) {
    inverseFrequencies.forEach((frequency, i) => {
      cosine[position * half + i] = Math.cos(position * frequency)
      sine[position * half + i] = Math.sin(position * frequency)
    })
  }
  const shape = [positions, half]
  return { cosine: Tensor.from(device, cosine, shape), sine: Tensor.from(device, sine, shape) }
}
