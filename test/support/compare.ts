/** Distances between what was computed and what was expected, and assertions that say how far off it is. */
import { expect } from 'vitest'
import { AlmaError } from '../../lib/errors.js'

export type NumberArray = ArrayLike<number>

export interface Tolerance {
  /** ‖got − expected‖ / ‖expected‖. */
  readonly relativeL2?: number
  readonly maxAbs?: number
}

export function relativeL2(got: NumberArray, expected: NumberArray): number {
  let difference = 0
  let norm = 0
  for (let i = 0; i < expected.length; i++) {
    const e = expected[i] ?? Number.NaN
    difference += ((got[i] ?? Number.NaN) - e) ** 2
    norm += e ** 2
  }
  if (difference === 0) return 0
  return Math.sqrt(difference / norm)
}

export function maxAbs(got: NumberArray, expected: NumberArray): number {
  let largest = 0
  for (let i = 0; i < expected.length; i++) {
    const g = got[i] ?? Number.NaN
    const e = expected[i] ?? Number.NaN
    const difference = g === e ? 0 : Math.abs(g - e)
    // NaN compares false with everything, so it has to be carried on purpose.
    if (Number.isNaN(difference)) return Number.NaN
    largest = Math.max(largest, difference)
  }
  return largest
}

export function expectClose(name: string, got: NumberArray, expected: NumberArray, tolerance: Tolerance): void {
  expect(got.length, `${name}: number of elements`).toBe(expected.length)
  if (tolerance.relativeL2 !== undefined) {
    expect(relativeL2(got, expected), `${name}: relative L2 error`).toBeLessThanOrEqual(tolerance.relativeL2)
  }
  if (tolerance.maxAbs !== undefined) {
    expect(maxAbs(got, expected), `${name}: largest absolute error`).toBeLessThanOrEqual(tolerance.maxAbs)
  }
}

/** `body` throws or is rejected with an AlmaError of this code, whose message matches. */
export async function expectError(body: () => unknown, code: string, message: RegExp): Promise<void> {
  let caught: unknown
  try {
    await body()
  } catch (error) {
    caught = error
  }
  expect(caught, 'an error was expected').toBeInstanceOf(AlmaError)
  const found = caught as AlmaError
  expect({ code: found.code, message: found.message }).toEqual({ code, message: expect.stringMatching(message) })
}
