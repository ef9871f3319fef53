/** Reads a whole safetensors file for a test. Shares no code with the library, and trusts the file. */
import { readFileSync } from 'node:fs'

export interface LoadedTensor {
  readonly shape: readonly number[]
  /** Floating-point dtypes as float32, integers as int32. */
  readonly data: Float32Array | Int32Array
}

export function loadTensors(path: string): Map<string, LoadedTensor> {
  const file = readFileSync(path)
  const dataOffset = 8 + Number(file.readBigUInt64LE(0))
  const header = JSON.parse(file.toString('utf8', 8, dataOffset)) as Record<string, HeaderEntry>
  const tensors = new Map<string, LoadedTensor>()
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    if (name === '__metadata__') continue
    const [begin, end] = data_offsets
    // A copy, as typed arrays need aligned bytes.
    const bytes = new Uint8Array(file.subarray(dataOffset + begin, dataOffset + end))
    tensors.set(name, { shape, data: decode(bytes, dtype) })
  }
  return tensors
}

interface HeaderEntry {
  readonly dtype: string
  readonly shape: readonly number[]
  readonly data_offsets: readonly [number, number]
}

function decode(bytes: Uint8Array<ArrayBuffer>, dtype: string): Float32Array | Int32Array {
  switch (dtype) {
    case 'F32':
      return new Float32Array(bytes.buffer)
    case 'F64':
      return Float32Array.from(new Float64Array(bytes.buffer))
    case 'BF16': {
      const bits = Uint32Array.from(new Uint16Array(bytes.buffer), (half) => half << 16)
      return new Float32Array(bits.buffer)
    }
    case 'F16':
      return Float32Array.from(new Uint16Array(bytes.buffer), float16Value)
    case 'I32':
      return new Int32Array(bytes.buffer)
    case 'I64':
      return Int32Array.from(new BigInt64Array(bytes.buffer), Number)
    case 'U8':
    case 'BOOL':
      return Int32Array.from(bytes)
    default:
      throw new Error(`no test needs ${dtype} yet`)
  }
}

function float16Value(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 0x1f
  const fraction = bits & 0x3ff
  if (exponent === 0) return sign * fraction * 2 ** -24
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
}
