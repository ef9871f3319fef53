/**
 * The random numbers of NumPy's `default_rng(seed)`, so that significance tests draw the samples that sacreBLEU draws:
 * SeedSequence (O'Neill's seed_seq_fe) into PCG64 (O'Neill, 2014; XSL-RR, 128 bits of state), bounded integers by
 * Lemire's method (2019), and booleans 32 at a time.
 */
import { AlmaError } from '../errors.js'

const LIMBS = 8 // of 16 bits, the lowest first

/** 0x2360ed051fc65da44385df649fccf645 */
const MULTIPLIER = Uint16Array.of(0xf645, 0x9fcc, 0xdf64, 0x4385, 0x5da4, 0x1fc6, 0xed05, 0x2360)

export class NumpyRandom {
  readonly #state = new Uint16Array(LIMBS)
  readonly #increment = new Uint16Array(LIMBS)
  readonly #product = new Float64Array(LIMBS)
  #high = 0
  #hasHigh = false

  /** @param seed an integer from 0 */
  constructor(seed: number) {
    if (!Number.isSafeInteger(seed) || seed < 0) {
      throw new AlmaError('ERR_ALMA_OPTION', `seed must be an integer from 0 to 2^53 − 1, not ${seed}`)
    }
    const words = seedWords(seed, 8)
    // Each pair of words is a 64-bit number, low word first; of state and stream the high number comes first.
    const initial = limbsOf([words[2], words[3], words[0], words[1]])
    const stream = limbsOf([words[6], words[7], words[4], words[5]])
    let carry = 1
    for (let i = 0; i < LIMBS; i++) {
      const doubled = (stream[i] ?? 0) * 2 + carry
      this.#increment[i] = doubled
      carry = doubled > 0xffff ? 1 : 0
    }
    this.#step()
    add(this.#state, initial)
    this.#step()
  }

  /** 32 random bits. */
  uint32(): number {
    if (this.#hasHigh) {
      this.#hasHigh = false
      return this.#high
    }
    this.#step()
    const [s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0, s5 = 0, s6 = 0, s7 = 0] = this.#state
    const low = ((s0 ^ s4) | ((s1 ^ s5) << 16)) >>> 0
    const high = ((s2 ^ s6) | ((s3 ^ s7) << 16)) >>> 0
    // Rotates the 64 bits to the right by the top six bits of the state.
    const rotation = s7 >>> 10
    const [a, b] = rotation >= 32 ? [high, low] : [low, high]
    const by = rotation & 31
    this.#hasHigh = true
    if (by === 0) {
      this.#high = b
      return a
    }
    this.#high = ((b >>> by) | (a << (32 - by))) >>> 0
    return ((a >>> by) | (b << (32 - by))) >>> 0
  }

  /** Integers in [0, `bound`), 1 ≤ bound < 2^32: `rng.choice(bound, size=out.length)`. */
  fillBelow(bound: number, out: Uint32Array): void {
    if (bound === 1) {
      out.fill(0)
      return
    }
    const threshold = 2 ** 32 % bound
    for (let i = 0; i < out.length; i++) {
      for (;;) {
        // random · bound as 64 bits: the high word is the number, the low word tells whether it would be biased.
        const random = this.uint32()
        const low = Math.imul(random, bound) >>> 0
        if (low >= threshold) {
          out[i] = multiplyHigh(random, bound)
          break
        }
      }
    }
  }

  /** A source of booleans, one bit after the other of 32-bit draws: `rng.integers(2, size=…, dtype=bool)`. */
  booleans(): () => boolean {
    let buffer = 0
    let left = 0
    return () => {
      if (left === 0) {
        buffer = this.uint32()
        left = 32
      } else buffer >>>= 1
      left--
      return (buffer & 1) === 1
    }
  }

  #step(): void {
    const [state, product] = [this.#state, this.#product]
    product.fill(0)
    for (let i = 0; i < LIMBS; i++) {
      const a = state[i] ?? 0
      // At most 8 products of 32 bits in a sum: exact in a double.
      for (let j = 0; i + j < LIMBS; j++) product[i + j] = (product[i + j] ?? 0) + a * (MULTIPLIER[j] ?? 0)
    }
    let carry = 0
    for (let i = 0; i < LIMBS; i++) {
      const sum = (product[i] ?? 0) + carry + (this.#increment[i] ?? 0)
      state[i] = sum % 0x10000
      carry = Math.floor(sum / 0x10000)
    }
  }
}

function add(target: Uint16Array, other: Uint16Array): void {
  let carry = 0
  for (let i = 0; i < LIMBS; i++) {
    const sum = (target[i] ?? 0) + (other[i] ?? 0) + carry
    target[i] = sum
    carry = sum > 0xffff ? 1 : 0
  }
}

/** 128 bits from 32-bit words, the lowest first. */
function limbsOf(words: readonly (number | undefined)[]): Uint16Array {
  return Uint16Array.from(words.flatMap((word = 0) => [word & 0xffff, word >>> 16]))
}

/** The upper 32 bits of the product of two 32-bit integers. */
function multiplyHigh(a: number, b: number): number {
  const [aLow, aHigh] = [a & 0xffff, a >>> 16]
  const [bLow, bHigh] = [b & 0xffff, b >>> 16]
  const middle = aHigh * bLow + Math.floor((aLow * bLow) / 0x10000)
  const other = (middle % 0x10000) + aLow * bHigh
  return aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(other / 0x10000)
}

const POOL = 4

/** `SeedSequence(seed).generate_state(count)`: 32-bit words. */
function seedWords(seed: number, count: number): number[] {
  const entropy = [seed >>> 0, Math.floor(seed / 2 ** 32)]
  let hash = 0x43b0d7e5
  const mixIn = (value: number): number => {
    const mixed = value ^ hash
    hash = Math.imul(hash, 0x931e8875)
    const product = Math.imul(mixed, hash)
    return product ^ (product >>> 16)
  }
  const pool = Array.from({ length: POOL }, (_, i) => mixIn(entropy[i] ?? 0))
  for (let source = 0; source < POOL; source++) {
    for (let target = 0; target < POOL; target++) {
      if (source === target) continue
      const other = mixIn(pool[source] ?? 0)
      const mixed = (Math.imul(0xca01f9dd, pool[target] ?? 0) - Math.imul(0x4973f715, other)) | 0
      pool[target] = mixed ^ (mixed >>> 16)
    }
  }
  let output = 0x8b51f9dd
  return Array.from({ length: count }, (_, i) => {
    const mixed = (pool[i % POOL] ?? 0) ^ output
    output = Math.imul(output, 0x58f38ded)
    const product = Math.imul(mixed, output)
    return (product ^ (product >>> 16)) >>> 0
  })
}
