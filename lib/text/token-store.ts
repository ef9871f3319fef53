/**
 * Token sequences in a file, to be read one by one in any order. Little-endian:
 *
 *     "ALMATOK1" · tokens (u16 or u32 each) · lengths u32 [n] · first labels u32 [n] · header JSON · its length u32 · CRC-32 u32
 *
 * The header stands behind the data because only then it is known; the CRC is of everything before it.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import { AlmaError, ioError, messageOf } from '../errors.js'
import { writeFileAtomic } from '../files/atomic.js'
import { isObject } from '../files/json.js'
import { writeAll } from '../files/write-all.js'

const MAGIC = Buffer.from('ALMATOK1')
const TAIL_BYTES = 8
/** Headers are far smaller. */
const MOST_HEADER_BYTES = 2 ** 24
const PIECE_BYTES = 2 ** 20

/** A training sequence as it is stored: the labels are the ids from `firstLabel` on. */
export interface TokenSequence {
  readonly ids: readonly number[]
  readonly firstLabel: number
  /** The rejected response of a preference pair, whose chosen one this is; a store does not hold it. */
  readonly rejected?: { readonly ids: readonly number[]; readonly firstLabel: number }
}

interface Header {
  readonly format: 1
  /** Bytes of a token: 2 or 4. */
  readonly width: 2 | 4
  readonly sequences: number
  readonly tokens: number
  /** What the writer said about the content. */
  readonly about: Readonly<Record<string, unknown>>
}

/**
 * Writes a store, whole or not at all.
 *
 * @param vocabSize ids are below it.
 * @param write hands over the sequences one by one and returns what is to be said about them; an empty sequence keeps a place.
 * @throws AlmaError ERR_ALMA_IO naming `path`; whatever `write` throws
 */
export async function writeTokenStore(
  path: string,
  vocabSize: number,
  write: (add: (sequence: TokenSequence) => Promise<void>) => Promise<Readonly<Record<string, unknown>>>,
): Promise<void> {
  const width = vocabSize <= 2 ** 16 ? 2 : 4
  await writeFileAtomic(path, async (handle) => {
    const out = new PieceWriter(handle)
    await out.write(MAGIC)
    const lengths = new GrowingWords()
    const firstLabels = new GrowingWords()
    let tokens = 0
    const about = await write(async ({ ids, firstLabel }) => {
      lengths.push(ids.length)
      firstLabels.push(firstLabel)
      tokens += ids.length
      const words = width === 2 ? Uint16Array.from(ids) : Uint32Array.from(ids)
      await out.write(new Uint8Array(words.buffer))
    })
    await out.write(lengths.bytes())
    await out.write(firstLabels.bytes())
    const header: Header = { format: 1, width, sequences: lengths.count, tokens, about }
    const json = Buffer.from(JSON.stringify(header))
    const size = Buffer.alloc(4)
    size.writeUInt32LE(json.length)
    await out.write(json)
    await out.write(size)
    const crc = Buffer.alloc(4)
    crc.writeUInt32LE(out.crc)
    await out.write(crc)
    await out.flush()
  })
}

/** Collects small writes, and the CRC of all of them. */
class PieceWriter {
  crc = 0
  readonly #handle: FileHandle
  readonly #piece = Buffer.alloc(PIECE_BYTES)
  #filled = 0

  constructor(handle: FileHandle) {
    this.#handle = handle
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0) return // of no bytes zlib takes the CRC to be that of a new beginning
    this.crc = crc32(bytes, this.crc)
    for (let from = 0; from < bytes.length; ) {
      const part = bytes.subarray(from, from + PIECE_BYTES - this.#filled)
      this.#piece.set(part, this.#filled)
      this.#filled += part.length
      from += part.length
      if (this.#filled === PIECE_BYTES) await this.flush()
    }
  }

  async flush(): Promise<void> {
    await writeAll(this.#handle, this.#piece.subarray(0, this.#filled))
    this.#filled = 0
  }
}

class GrowingWords {
  count = 0
  #words = new Uint32Array(1024)

  push(word: number): void {
    if (this.count === this.#words.length) {
      const larger = new Uint32Array(2 * this.count)
      larger.set(this.#words)
      this.#words = larger
    }
    this.#words[this.count++] = word
  }

  bytes(): Uint8Array {
    return new Uint8Array(this.#words.buffer, 0, 4 * this.count)
  }
}

/** Sequences between two stored offsets: fewer offsets in memory, at most so many lengths to add for one. */
const OFFSET_STRIDE = 64

/** An open store. Memory: eight bytes a sequence. */
export class TokenStore {
  readonly path: string
  readonly about: Readonly<Record<string, unknown>>
  readonly #handle: FileHandle
  readonly #width: 2 | 4
  readonly #lengths: Uint32Array
  readonly #firstLabels: Uint32Array
  /** In tokens, of every {@link OFFSET_STRIDE}th sequence. */
  readonly #offsets: Float64Array

  private constructor(
    path: string,
    handle: FileHandle,
    header: Header,
    lengths: Uint32Array,
    firstLabels: Uint32Array,
  ) {
    this.path = path
    this.about = header.about
    this.#handle = handle
    this.#width = header.width
    this.#lengths = lengths
    this.#firstLabels = firstLabels
    this.#offsets = new Float64Array(Math.ceil(lengths.length / OFFSET_STRIDE))
    let offset = 0
    for (const [i, length] of lengths.entries()) {
      if (i % OFFSET_STRIDE === 0) this.#offsets[i / OFFSET_STRIDE] = offset
      offset += length
    }
  }

  /**
   * Opens a store and checks all of it against its CRC.
   *
   * @throws AlmaError ERR_ALMA_IO when it cannot be read (the cause's code is ENOENT when there is none), ERR_ALMA_CORPUS when it is
   *   damaged
   */
  static async open(path: string, signal?: AbortSignal): Promise<TokenStore> {
    let handle: FileHandle
    try {
      handle = await open(path, 'r')
    } catch (error) {
      throw ioError('read', path, error)
    }
    try {
      return await TokenStore.#read(path, handle, signal)
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  static async #read(path: string, handle: FileHandle, signal?: AbortSignal): Promise<TokenStore> {
    const damaged = (what: string): AlmaError => new AlmaError('ERR_ALMA_CORPUS', `${path}: damaged: ${what}`)
    const { size } = await handle.stat()
    if (size < MAGIC.length + TAIL_BYTES) throw damaged(`only ${size} bytes`)
    const tail = await readAt(handle, path, size - TAIL_BYTES, TAIL_BYTES)
    const jsonBytes = tail.readUInt32LE(0)
    const jsonBegin = size - TAIL_BYTES - jsonBytes
    if (jsonBytes > MOST_HEADER_BYTES || jsonBegin < MAGIC.length) throw damaged('its header does not fit into it')
    const crc = await crcOf(handle, path, size - 4, signal)
    if (crc !== tail.readUInt32LE(4)) throw damaged('its CRC is another')
    const { header, json } = parseHeader(await readAt(handle, path, jsonBegin, jsonBytes))
    if (header === undefined) throw damaged(json)
    const { sequences, tokens, width } = header
    const lengthsBegin = MAGIC.length + tokens * width
    if (lengthsBegin + 8 * sequences !== jsonBegin) throw damaged('its sizes contradict each other')
    const lengths = words(await readAt(handle, path, lengthsBegin, 4 * sequences))
    const firstLabels = words(await readAt(handle, path, lengthsBegin + 4 * sequences, 4 * sequences))
    if (lengths.reduce((sum, length) => sum + length, 0) !== tokens) throw damaged('its lengths do not add up')
    return new TokenStore(path, handle, header, lengths, firstLabels)
  }

  /** Sequences, empty ones included. */
  get count(): number {
    return this.#lengths.length
  }

  lengthOf(index: number): number {
    return this.#lengths[index] ?? 0
  }

  async read(index: number): Promise<TokenSequence> {
    const length = this.lengthOf(index)
    const stride = Math.floor(index / OFFSET_STRIDE)
    let offset = this.#offsets[stride] ?? 0
    for (let i = stride * OFFSET_STRIDE; i < index; i++) offset += this.#lengths[i] ?? 0
    const bytes = await readAt(this.#handle, this.path, MAGIC.length + offset * this.#width, length * this.#width)
    const ids = new Array<number>(length)
    for (let i = 0; i < length; i++) ids[i] = this.#width === 2 ? bytes.readUInt16LE(2 * i) : bytes.readUInt32LE(4 * i)
    return { ids, firstLabel: this.#firstLabels[index] ?? 0 }
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }
}

async function readAt(handle: FileHandle, path: string, position: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length)
  let filled = 0
  while (filled < length) {
    let bytesRead: number
    try {
      bytesRead = (await handle.read(bytes, filled, length - filled, position + filled)).bytesRead
    } catch (error) {
      throw ioError('read', path, error)
    }
    if (bytesRead === 0) throw new AlmaError('ERR_ALMA_CORPUS', `${path}: damaged: ends at byte ${position + filled}`)
    filled += bytesRead
  }
  return bytes
}

async function crcOf(handle: FileHandle, path: string, end: number, signal?: AbortSignal): Promise<number> {
  let crc = 0
  for (let at = 0; at < end; at += PIECE_BYTES) {
    signal?.throwIfAborted()
    crc = crc32(await readAt(handle, path, at, Math.min(PIECE_BYTES, end - at)), crc)
  }
  return crc
}

function parseHeader(bytes: Buffer): { readonly header: Header | undefined; readonly json: string } {
  let value: unknown
  try {
    value = JSON.parse(bytes.toString('utf8'))
  } catch (error) {
    return { header: undefined, json: messageOf(error) }
  }
  const isCount = (count: unknown): boolean => Number.isSafeInteger(count) && (count as number) >= 0
  const valid =
    isObject(value) &&
    value.format === 1 &&
    (value.width === 2 || value.width === 4) &&
    isCount(value.sequences) &&
    isCount(value.tokens) &&
    isObject(value.about)
  return { header: valid ? (value as unknown as Header) : undefined, json: 'its header is not of this format' }
}

function words(bytes: Buffer): Uint32Array {
  const result = new Uint32Array(bytes.length / 4)
  for (let i = 0; i < result.length; i++) result[i] = bytes.readUInt32LE(4 * i)
  return result
}
