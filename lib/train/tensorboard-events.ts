/**
 * TensorBoard's event files: records of TensorFlow's TFRecord format (`tensorflow/core/lib/io/record_writer.h`), each an Event message
 * (`tensorflow/core/util/event.proto`) in protobuf's wire format. Only what scalars need.
 */
import { crc32c } from '../files/crc32c.js'

/** What the first record of a file says; with it TensorBoard understands {@link sessionStart}. */
const FILE_VERSION = 'brain.Event:2'

export interface Scalar {
  readonly tag: string
  readonly value: number
}

/** Little-endian length, masked CRC of it, the data, masked CRC of the data. */
export function record(data: Uint8Array): Buffer {
  const bytes = Buffer.alloc(16 + data.length)
  bytes.writeBigUInt64LE(BigInt(data.length), 0)
  bytes.writeUInt32LE(maskedCrc(bytes.subarray(0, 8)), 8)
  bytes.set(data, 12)
  bytes.writeUInt32LE(maskedCrc(data), 12 + data.length)
  return bytes
}

/** Rotated and offset, so that the CRC of data with CRCs in it keeps its strength (`crc32c.h: Mask`). */
function maskedCrc(data: Uint8Array): number {
  const crc = crc32c(data)
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0
}

/** @param wallTime seconds since 1970 */
export function fileVersion(wallTime: number): Buffer {
  return record(Buffer.concat([double(1, wallTime), text(3, FILE_VERSION)]))
}

/** Says that steps from `step` on which other files of the folder have are done again, and count no more. */
export function sessionStart(wallTime: number, step: number): Buffer {
  const start = Buffer.concat([varintField(1, 1)])
  return record(Buffer.concat([double(1, wallTime), varintField(2, step), bytesField(7, start)]))
}

export function scalars(wallTime: number, step: number, values: readonly Scalar[]): Buffer {
  const summary = values.map(({ tag, value }) => bytesField(1, Buffer.concat([text(1, tag), float(2, value)])))
  return record(Buffer.concat([double(1, wallTime), varintField(2, step), bytesField(5, Buffer.concat(summary))]))
}

// Wire types: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.
const key = (field: number, wireType: number): Buffer => varint(field * 8 + wireType)

function varint(value: number): Buffer {
  const bytes: number[] = []
  let rest = value
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) + 0x80)
    rest = Math.floor(rest / 0x80)
  }
  bytes.push(rest)
  return Buffer.from(bytes)
}

function double(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeDoubleLE(value)
  return Buffer.concat([key(field, 1), bytes])
}

function float(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeFloatLE(value)
  return Buffer.concat([key(field, 5), bytes])
}

const varintField = (field: number, value: number): Buffer => Buffer.concat([key(field, 0), varint(value)])
const bytesField = (field: number, bytes: Buffer): Buffer => Buffer.concat([key(field, 2), varint(bytes.length), bytes])
const text = (field: number, value: string): Buffer => bytesField(field, Buffer.from(value, 'utf8'))
