/** A seeded source of choices: the same seed gives the same corpus on every machine (mulberry32, 32-bit state). */
export class Random {
  private state: number

  constructor(seed: number) {
    this.state = seed >>> 0
  }

  /** A number in [0, 1). */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0
    let mixed = this.state
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }

  /** An integer between `first` and `last`, both included. */
  integer(first: number, last: number): number {
    return first + Math.floor(this.next() * (last - first + 1))
  }

  /** True with the given probability. */
  chance(probability: number): boolean {
    return this.next() < probability
  }

  /** One entry of a list, all equally likely. */
  pick<T>(list: readonly T[]): T {
    if (list.length === 0) throw new RangeError('cannot pick from an empty list')
    return list[Math.floor(this.next() * list.length)] as T
  }

  /** One entry of a weighted list. */
  pickWeighted<T>(list: readonly (readonly [weight: number, entry: T])[]): T {
    const total = list.reduce((sum, [weight]) => sum + weight, 0)
    let left = this.next() * total
    for (const [weight, entry] of list) {
      left -= weight
      if (left < 0) return entry
    }
    throw new RangeError('cannot pick from an empty list')
  }
}
