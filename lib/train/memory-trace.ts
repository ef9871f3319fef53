/** The device's allocator and a training step's allocations, without a device: what a step will need can be counted beforehand. */

/** What memory is for. */
export const memoryParts = [
  'weights',
  'gradients',
  'moments',
  'masterWeights',
  'activations',
  'logits',
  'workspace',
] as const
export type MemoryPart = (typeof memoryParts)[number]

/** Bytes of each part; together they are the peak. */
export type MemoryByPart = Readonly<Record<MemoryPart, number>>

export interface TracedBlock {
  readonly bytes: number
  readonly part: MemoryPart
}

/** Counts allocations as the native caching allocator does: sizes are rounded, and freed blocks are used again. */
export class MemoryTrace {
  readonly #now: Record<MemoryPart, number> = empty()
  #peakParts: Record<MemoryPart, number> = empty()
  #allocated = 0
  #peak = 0
  /** Sizes of freed blocks, ascending. */
  readonly #cached: number[] = []

  get peak(): number {
    return this.#peak
  }

  /** What the peak was made of. */
  get peakParts(): MemoryByPart {
    return this.#peakParts
  }

  allocate(bytes: number, part: MemoryPart): TracedBlock {
    const wanted = sizeClass(bytes)
    const found = this.#cached.findIndex((size) => size >= wanted)
    const size = this.#cached[found]
    let block = { bytes: wanted, part }
    if (size !== undefined && size <= wanted + Math.floor(wanted / 2)) {
      this.#cached.splice(found, 1)
      block = { bytes: size, part }
    }
    this.#now[part] += block.bytes
    this.#allocated += block.bytes
    if (this.#allocated > this.#peak) {
      this.#peak = this.#allocated
      this.#peakParts = { ...this.#now }
    }
    return block
  }

  free(...blocks: readonly (TracedBlock | undefined)[]): void {
    for (const block of blocks) {
      if (block === undefined) continue
      this.#now[block.part] -= block.bytes
      this.#allocated -= block.bytes
      const at = this.#cached.findIndex((size) => size >= block.bytes)
      this.#cached.splice(at < 0 ? this.#cached.length : at, 0, block.bytes)
    }
  }
}

function empty(): Record<MemoryPart, number> {
  return Object.fromEntries(memoryParts.map((part) => [part, 0])) as Record<MemoryPart, number>
}

/** As in native/runtime/caching_allocator.cpp. */
function sizeClass(bytes: number): number {
  let power = 256
  while (power * 2 <= bytes) power *= 2
  const step = power >= 2 ** 30 ? 2 ** 21 : Math.max(power / 8, 256)
  return Math.ceil(Math.max(bytes, 1) / step) * step
}
