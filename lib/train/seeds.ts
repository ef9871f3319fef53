/** Seeds of different passes, sources and lines must differ, and not by a pattern that repeats within the run. */
export function seedOf(seed: number, ...parts: readonly number[]): number {
  let mixed = seed
  for (const part of parts) mixed = (Math.imul(mixed ^ (mixed >>> 16), 0x45d9f3b) + part * 0x9e3779b1) >>> 0
  return mixed
}
