/** Philox 4x32-10 (Salmon et al. 2011), once more and slowly. */
export function philox(key: readonly [number, number], counter: readonly number[]): number[] {
  let [k0, k1] = key.map(BigInt) as [bigint, bigint]
  let c = counter.map((word) => BigInt(word))
  const mask = 0xffffffffn
  for (let round = 0; round < 10; round++) {
    const a = 0xd2511f53n * (c[0] ?? 0n)
    const b = 0xcd9e8d57n * (c[2] ?? 0n)
    c = [(b >> 32n) ^ (c[1] ?? 0n) ^ k0, b & mask, (a >> 32n) ^ (c[3] ?? 0n) ^ k1, a & mask]
    k0 = (k0 + 0x9e3779b9n) & mask
    k1 = (k1 + 0xbb67ae85n) & mask
  }
  return c.map(Number)
}
