/** A small seedable generator of random numbers whose state can be saved: equal seeds give equal training data everywhere. */
import { AlmaError } from '../errors.js'

/** The four 32-bit words of a generator; plain data for a checkpoint. */
export type RandomState = readonly [number, number, number, number]

const MASK_64 = (1n << 64n) - 1n

/** xoshiro128** 1.1 of Blackman and Vigna (2018), https://prng.di.unimi.it/xoshiro128starstar.c: 32-bit, period 2^128 − 1. */
export class Random {
  #a = 0
  #b = 0
  #c = 0
  #d = 0

  /** @param seed an integer; its 64 bits are spread over the state by splitmix64, as the authors recommend */
  constructor(seed: number) {
    if (!Number.isSafeInteger(seed)) throw new AlmaError('ERR_ALMA_OPTION', `seed: expected an integer, got ${seed}`)
    let state = BigInt(seed) & MASK_64
    const splitmix64 = (): bigint => {
      state = (state + 0x9e3779b97f4a7c15n) & MASK_64
      let z = state
      z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK_64
      z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & MASK_64
      return z ^ (z >> 31n)
    }
    const low = splitmix64()
    const high = splitmix64()
    this.restore(
      [low, low >> 32n, high, high >> 32n].map((word) => Number(word & 0xffffffffn)) as unknown as RandomState,
    )
  }

  static fromState(state: RandomState): Random {
    const random = new Random(0)
    random.restore(state)
    return random
  }

  /** Uniform in 0 … 2^32 − 1. */
  uint32(): number {
    const result = Math.imul(rotateLeft(Math.imul(this.#b, 5), 7), 9) >>> 0
    const shifted = this.#b << 9
    this.#c ^= this.#a
    this.#d ^= this.#b
    this.#b ^= this.#c
    this.#a ^= this.#d
    this.#c ^= shifted
    this.#d = rotateLeft(this.#d, 11)
    return result
  }

  /** Uniform in [0, 1), with 53 random bits. */
  float(): number {
    const high = this.uint32() >>> 5
    const low = this.uint32() >>> 6
    return (high * 2 ** 26 + low) / 2 ** 53
  }

  /** Uniform in 0 … bound − 1, without bias; `bound` from 1 to 2^32. */
  below(bound: number): number {
    if (!Number.isInteger(bound) || bound < 1 || bound > 2 ** 32)
      throw new AlmaError('ERR_ALMA_OPTION', `bound: expected an integer from 1 to 2^32, got ${bound}`)
    const fair = 2 ** 32 - (2 ** 32 % bound)
    for (;;) {
      const value = this.uint32()
      if (value < fair) return value % bound
    }
  }

  state(): RandomState {
    return [this.#a >>> 0, this.#b >>> 0, this.#c >>> 0, this.#d >>> 0]
  }

  restore(state: RandomState): void {
    const valid = state.length === 4 && state.every((word) => Number.isInteger(word) && word >= 0 && word < 2 ** 32)
    if (!valid || state.every((word) => word === 0))
      throw new AlmaError(
        'ERR_ALMA_OPTION',
        `random state: expected four 32-bit words, not all zero, got [${state.join(', ')}]`,
      )
    const [a, b, c, d] = state
    this.#a = a | 0
    this.#b = b | 0
    this.#c = c | 0
    this.#d = d | 0
  }
}

function rotateLeft(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits))
}
