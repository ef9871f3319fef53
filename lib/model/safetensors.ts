/**
 * The safetensors file format: 8 bytes of header length (little-endian), a JSON header, the tensors' bytes without gaps.
 * Source: the format section of the README of huggingface/safetensors, and the checks of its `SafeTensors::read_metadata`.
 */
import type { FileHandle } from 'node:fs/promises'
import { concatUint8Arrays } from 'typed-array-utils'
import { AlmaError } from '../errors.js'
import { writeFileAtomic } from '../files/atomic.js'
import { describe, fileSize, isArrayOf, isObject, isString, parseJson, readBytes } from '../files/json.js'
import { writeAll } from '../files/write-all.js'

/** Bytes of one element. */
export const safetensorsDtypeBytes = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
} as const

export type SafetensorsDtype = keyof typeof safetensorsDtypeBytes

export interface SafetensorsTensorInfo {
  readonly dtype: SafetensorsDtype
  readonly shape: readonly number[]
  /** Of the first byte, counted from the beginning of the file. */
  readonly byteOffset: number
  readonly byteLength: number
}

export interface SafetensorsHeader {
  readonly path: string
  /** Where the tensors' bytes begin in the file. */
  readonly dataOffset: number
  /** Bytes. */
  readonly fileSize: number
  /** `__metadata__` of the file; empty when it has none. */
  readonly metadata: ReadonlyMap<string, string>
  /** In the order of the header. */
  readonly tensors: ReadonlyMap<string, SafetensorsTensorInfo>
}

/** A tensor to be written. A function is called when its turn comes and its result let go, so one is in memory at a time. */
export interface SafetensorsTensor {
  readonly name: string
  readonly dtype: SafetensorsDtype
  readonly shape: readonly number[]
  /** Little-endian elements, row-major. */
  readonly data: Uint8Array | (() => Uint8Array | Promise<Uint8Array>)
}

/** As in the reference implementation. */
const maxHeaderBytes = 100_000_000

const metadataKey = '__metadata__'

function damaged(path: string, problem: string): AlmaError {
  return new AlmaError('ERR_ALMA_CHECKPOINT', `${path}: ${problem}`)
}

/**
 * Reads and verifies the header of a safetensors file, and nothing of its tensors. When it returns, every tensor's bytes are
 * inside the file, as long as dtype and shape say, and shared with no other tensor.
 *
 * @throws AlmaError ERR_ALMA_CHECKPOINT naming the file and the tensor; ERR_ALMA_IO when the file cannot be read.
 */
export async function readSafetensorsHeader(path: string): Promise<SafetensorsHeader> {
  const size = await fileSize(path, 'ERR_ALMA_CHECKPOINT')
  if (size === undefined) throw damaged(path, 'no such file')
  if (size < 8) throw damaged(path, `truncated: ${size} bytes, expected a safetensors file`)
  const prefix = await readBytes(path, 0, 8)
  if (prefix.length < 8) throw damaged(path, 'truncated while it was read')
  const headerLength = new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true)
  if (headerLength > maxHeaderBytes) {
    throw damaged(path, `header of ${headerLength} bytes, expected at most ${maxHeaderBytes}: not a safetensors file`)
  }
  const dataOffset = 8 + Number(headerLength)
  if (dataOffset > size) throw damaged(path, `truncated: header ends at byte ${dataOffset}, file has ${size} bytes`)

  const bytes = await readBytes(path, 8, Number(headerLength))
  if (bytes.length < Number(headerLength)) throw damaged(path, 'truncated while it was read')
  if (bytes[0] !== 0x7b) throw damaged(path, "header does not begin with '{': not a safetensors file")
  const json = parseJson(bytes, `${path}: header`, 'ERR_ALMA_CHECKPOINT', true)
  if (!isObject(json)) throw damaged(path, 'header is not a JSON object')

  let metadata: ReadonlyMap<string, string> = new Map()
  const tensors = new Map<string, SafetensorsTensorInfo>()
  for (const [name, value] of Object.entries(json)) {
    if (name === metadataKey) metadata = parseMetadata(value, path)
    else tensors.set(name, parseTensor(name, value, path, dataOffset, size))
  }
  verifyContiguous(tensors, path, dataOffset, size)
  return { path, dataOffset, fileSize: size, metadata, tensors }
}

function parseMetadata(value: unknown, path: string): ReadonlyMap<string, string> {
  // null: some writers have it for "none".
  if (value === null) return new Map()
  const entries = isObject(value) ? Object.entries(value) : undefined
  if (entries === undefined) throw damaged(path, `${metadataKey} is ${describe(value)}, expected an object of strings`)
  const metadata = new Map<string, string>()
  for (const [key, text] of entries) {
    if (!isString(text)) throw damaged(path, `${metadataKey}.${key} is ${describe(text)}, expected a string`)
    metadata.set(key, text)
  }
  return metadata
}

function parseTensor(
  name: string,
  value: unknown,
  path: string,
  dataOffset: number,
  size: number,
): SafetensorsTensorInfo {
  const tensor = `tensor ${describe(name)}`
  if (!isObject(value)) throw damaged(path, `${tensor} is ${describe(value)}, expected an object`)
  const { dtype, shape, data_offsets: offsets } = value
  if (!isDtype(dtype)) {
    const known = Object.keys(safetensorsDtypeBytes).join(', ')
    throw damaged(path, `${tensor} has dtype ${describe(dtype)}, expected one of ${known}`)
  }
  const bytes = isArrayOf(shape, isSize) ? shapeBytes(shape, dtype) : undefined
  if (!isArrayOf(shape, isSize) || bytes === undefined) {
    throw damaged(path, `${tensor} has shape ${describe(shape)}, expected non-negative sizes of a possible tensor`)
  }
  const [begin, end] = isArrayOf(offsets, isSize) && offsets.length === 2 ? offsets : []
  if (begin === undefined || end === undefined || end < begin) {
    throw damaged(path, `${tensor} has data_offsets ${describe(offsets)}, expected [begin, end]`)
  }
  if (dataOffset + end > size) {
    throw damaged(path, `truncated: ${tensor} ends at byte ${dataOffset + end}, file has ${size} bytes`)
  }
  if (end - begin !== bytes) {
    throw damaged(path, `${tensor} has ${end - begin} bytes, expected ${bytes} for ${dtype} ${describe(shape)}`)
  }
  return { dtype, shape, byteOffset: dataOffset + begin, byteLength: bytes }
}

/** Bytes that no tensor names could hide anything, and tensors that share bytes would be trained as one. */
function verifyContiguous(
  tensors: ReadonlyMap<string, SafetensorsTensorInfo>,
  path: string,
  dataOffset: number,
  size: number,
): void {
  const order = [...tensors].sort(([, a], [, b]) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength)
  let expected = dataOffset
  for (const [name, { byteOffset, byteLength }] of order) {
    if (byteOffset !== expected) {
      const problem = byteOffset < expected ? 'overlaps the tensor before it' : 'leaves a hole before it'
      throw damaged(path, `tensor ${describe(name)} ${problem}: begins at byte ${byteOffset}, expected ${expected}`)
    }
    expected = byteOffset + byteLength
  }
  if (expected !== size) throw damaged(path, `${size - expected} bytes after the last tensor, expected none`)
}

function isDtype(value: unknown): value is SafetensorsDtype {
  return isString(value) && Object.hasOwn(safetensorsDtypeBytes, value)
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

/** Bytes of a tensor; undefined when the product is not a safe integer. */
function shapeBytes(shape: readonly number[], dtype: SafetensorsDtype): number | undefined {
  if (shape.includes(0)) return 0
  let bytes: number = safetensorsDtypeBytes[dtype]
  for (const size of shape) {
    bytes *= size
    if (!Number.isSafeInteger(bytes)) return undefined
  }
  return bytes
}

/**
 * Bytes of a tensor of that dtype and shape.
 *
 * @throws AlmaError ERR_ALMA_SHAPE for negative or fractional sizes, or more bytes than a number can count.
 */
export function tensorByteLength(shape: readonly number[], dtype: SafetensorsDtype): number {
  const bytes = shape.every(isSize) ? shapeBytes(shape, dtype) : undefined
  if (bytes === undefined) throw new AlmaError('ERR_ALMA_SHAPE', `not the shape of a tensor: ${describe(shape)}`)
  return bytes
}

/**
 * Writes a safetensors file, atomically and with one tensor in memory at a time. Equal tensors make equal files.
 *
 * @param metadata strings for `__metadata__`; Hugging Face's readers want `format`.
 * @throws AlmaError ERR_ALMA_CHECKPOINT when a name occurs twice or data is not as long as its shape says; ERR_ALMA_IO naming
 *   the file when it cannot be written. The file that was there is then as before.
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<SafetensorsTensor> | AsyncIterable<SafetensorsTensor>,
  metadata: Readonly<Record<string, string>> = { format: 'pt' },
): Promise<void> {
  const list: SafetensorsTensor[] = []
  for await (const tensor of tensors) list.push(tensor)
  await writeFileAtomic(path, (handle) => writeSafetensorsTo(handle, list, path, metadata))
}

/** The same into an open, empty file; `path` is for error messages. */
export async function writeSafetensorsTo(
  handle: FileHandle,
  tensors: readonly SafetensorsTensor[],
  path: string,
  metadata: Readonly<Record<string, string>> = { format: 'pt' },
): Promise<void> {
  // Widest elements first, as the reference implementation orders them: every tensor is then aligned to its elements.
  const order = tensors.toSorted((a, b) => safetensorsDtypeBytes[b.dtype] - safetensorsDtypeBytes[a.dtype])
  await writeAll(handle, encodeHeader(order, path, metadata))
  for (const { name, dtype, shape, data } of order) {
    const bytes = typeof data === 'function' ? await data() : data
    const expected = tensorByteLength(shape, dtype)
    if (bytes.byteLength !== expected) {
      const found = `tensor ${describe(name)} has ${bytes.byteLength} bytes`
      throw damaged(path, `${found}, expected ${expected} for ${dtype} ${describe(shape)}`)
    }
    // Not writeFile, which writes small pieces: the system then keeps the file in small pages, and every load of it takes longer.
    await writeAll(handle, bytes)
  }
}

/** Length and JSON, padded with spaces so that the tensors begin at a multiple of 8. */
function encodeHeader(
  tensors: readonly SafetensorsTensor[],
  path: string,
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  const names = new Set<string>([metadataKey])
  // Text by text, because as a property of an object the name "__proto__" would be lost.
  const fields = [`${JSON.stringify(metadataKey)}:${JSON.stringify(metadata)}`]
  let begin = 0
  for (const { name, dtype, shape } of tensors) {
    if (names.has(name)) throw damaged(path, `tensor ${describe(name)} cannot be written: the name is taken`)
    names.add(name)
    const end = begin + tensorByteLength(shape, dtype)
    fields.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [begin, end] })}`)
    begin = end
  }
  const json = new TextEncoder().encode(`{${fields.join(',')}}`)
  const padding = new Uint8Array((8 - (json.length % 8)) % 8).fill(0x20)
  const length = new Uint8Array(8)
  new DataView(length.buffer).setBigUint64(0, BigInt(json.length + padding.length), true)
  return concatUint8Arrays(length, json, padding)
}
