/** bfloat16 in TypeScript: round to nearest, ties to even. */
const word = new Uint32Array(1)
const float = new Float32Array(word.buffer)

export function bf16Bits(value: number): number {
  float[0] = value
  const bits = word[0] ?? 0
  if (Number.isNaN(value)) return (bits >>> 16) | 0x40
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff
}

export function bf16Value(bits: number): number {
  word[0] = bits << 16
  return float[0] ?? 0
}

export const roundToBf16 = (value: number): number => bf16Value(bf16Bits(value))

export function roundAllToBf16(values: ArrayLike<number>): Float32Array {
  return Float32Array.from(values, roundToBf16)
}
