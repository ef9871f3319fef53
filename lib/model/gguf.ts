/**
 * The GGUF file format of ggml and llama.cpp, version 3, for writing: magic, metadata, tensor descriptions, aligned data.
 * Source: ggml's `docs/gguf.md`.
 */
import { writeFileAtomic } from '../files/atomic.js'
import { writeAll } from '../files/write-all.js'

export type GgufValue =
  | { readonly type: 'u32'; readonly value: number }
  | { readonly type: 'i32'; readonly value: number }
  | { readonly type: 'f32'; readonly value: number }
  | { readonly type: 'bool'; readonly value: boolean }
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'strings'; readonly value: readonly string[] }
  | { readonly type: 'f32s'; readonly value: readonly number[] }
  | { readonly type: 'i32s'; readonly value: readonly number[] }

/** Numbers of ggml's types. */
export const ggufTensorTypes = { F32: 0, F16: 1, BF16: 30 } as const
export type GgufTensorType = keyof typeof ggufTensorTypes

export interface GgufTensor {
  readonly name: string
  readonly type: GgufTensorType
  /** Row-major, as everywhere here; the file has the extents in reverse order. */
  readonly shape: readonly number[]
  /** Called when its turn comes: one tensor is in memory at a time. Little-endian elements. */
  readonly data: () => Promise<Uint8Array>
}

const ALIGNMENT = 32
const VALUE_TYPES = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 } as const

/** Grows as it is written to; everything is little-endian. */
class ByteWriter {
  #bytes = Buffer.alloc(1 << 16)
  #length = 0

  u32(value: number): void {
    this.#reserve(4)
    this.#length = this.#bytes.writeUInt32LE(value, this.#length)
  }
  i32(value: number): void {
    this.#reserve(4)
    this.#length = this.#bytes.writeInt32LE(value, this.#length)
  }
  u64(value: number): void {
    this.#reserve(8)
    this.#length = this.#bytes.writeBigUInt64LE(BigInt(value), this.#length)
  }
  f32(value: number): void {
    this.#reserve(4)
    this.#length = this.#bytes.writeFloatLE(value, this.#length)
  }
  u8(value: number): void {
    this.#reserve(1)
    this.#length = this.#bytes.writeUInt8(value, this.#length)
  }
  string(value: string): void {
    const bytes = Buffer.from(value)
    this.u64(bytes.length)
    this.#reserve(bytes.length)
    bytes.copy(this.#bytes, this.#length)
    this.#length += bytes.length
  }
  pad(alignment: number): void {
    while (this.#length % alignment !== 0) this.u8(0)
  }
  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length)
  }

  #reserve(count: number): void {
    if (this.#length + count <= this.#bytes.length) return
    const larger = Buffer.alloc(Math.max(2 * this.#bytes.length, this.#length + count))
    this.#bytes.copy(larger)
    this.#bytes = larger
  }
}

function writeValue(out: ByteWriter, given: GgufValue): void {
  const array = <T>(type: number, values: readonly T[], write: (value: T) => void): void => {
    out.u32(VALUE_TYPES.array)
    out.u32(type)
    out.u64(values.length)
    for (const value of values) write(value)
  }
  switch (given.type) {
    case 'strings':
      array(VALUE_TYPES.string, given.value, (value) => out.string(value))
      break
    case 'f32s':
      array(VALUE_TYPES.f32, given.value, (value) => out.f32(value))
      break
    case 'i32s':
      array(VALUE_TYPES.i32, given.value, (value) => out.i32(value))
      break
    default:
      out.u32(VALUE_TYPES[given.type])
      if (given.type === 'string') out.string(given.value)
      else if (given.type === 'bool') out.u8(given.value ? 1 : 0)
      else out[given.type](given.value)
  }
}

const byteLengthOf = ({ shape, type }: GgufTensor): number =>
  shape.reduce((product, extent) => product * extent, type === 'F32' ? 4 : 2)

const aligned = (length: number): number => Math.ceil(length / ALIGNMENT) * ALIGNMENT

/**
 * Writes a GGUF file; an older one stays whole until the new one is.
 *
 * @throws AlmaError ERR_ALMA_IO
 */
export async function writeGguf(
  path: string,
  metadata: ReadonlyMap<string, GgufValue>,
  tensors: readonly GgufTensor[],
): Promise<void> {
  const head = new ByteWriter()
  head.u32(0x46554747) // "GGUF"
  head.u32(3)
  head.u64(tensors.length)
  head.u64(metadata.size)
  for (const [key, value] of metadata) {
    head.string(key)
    writeValue(head, value)
  }
  let offset = 0
  for (const tensor of tensors) {
    head.string(tensor.name)
    head.u32(tensor.shape.length)
    for (const extent of tensor.shape.toReversed()) head.u64(extent)
    head.u32(ggufTensorTypes[tensor.type])
    head.u64(offset)
    offset += aligned(byteLengthOf(tensor))
  }
  head.pad(ALIGNMENT)
  await writeFileAtomic(path, async (handle) => {
    await writeAll(handle, head.bytes)
    for (const tensor of tensors) {
      const data = await tensor.data()
      await writeAll(handle, data)
      await writeAll(handle, new Uint8Array(aligned(data.length) - data.length))
    }
  })
}
