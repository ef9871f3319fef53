/** The bytes of a file, plain or gzip, in pieces of bounded size. */
import { createReadStream } from 'node:fs'
import { pipeline, Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { AlmaError, ioError, messageOf } from '../errors.js'

/** A line or record longer than this is taken for a damaged file: 16 MiB. */
export const MAX_RECORD_BYTES = 16 * 2 ** 20

/**
 * Opens a file; gzip is recognised by its first two bytes (RFC 1952), not by the name. A byte order mark is left out.
 * @throws AlmaError ERR_ALMA_IO when it cannot be read, ERR_ALMA_CORPUS when its gzip data is damaged or ends early
 */
export async function* readBytes(path: string): AsyncGenerator<Buffer> {
  const source = peekable(fileBytes(path))
  const head = await source.peek(2)
  yield* withoutByteOrderMark(head[0] === 0x1f && head[1] === 0x8b ? gunzip(source.rest(), path) : source.rest())
}

async function* fileBytes(path: string): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 18 })) yield chunk as Buffer
  } catch (error) {
    throw ioError('read', path, error)
  }
}

async function* gunzip(source: AsyncIterable<Buffer>, path: string): AsyncGenerator<Buffer> {
  const inflate = createGunzip({ chunkSize: 2 ** 18 })
  // The callback keeps a failure from being thrown a second time; the loop below sees it as well.
  const stream = pipeline(Readable.from(source), inflate, () => {})
  try {
    for await (const chunk of stream) yield chunk as Buffer
  } catch (error) {
    if (error instanceof AlmaError) throw error
    throw new AlmaError('ERR_ALMA_CORPUS', `${path}: damaged or truncated gzip data: ${messageOf(error)}`, {
      cause: error,
    })
  }
}

async function* withoutByteOrderMark(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const bytes = peekable(source)
  const head = await bytes.peek(3)
  let drop = head[0] === 0xef && head[1] === 0xbb && head[2] === 0xbf ? 3 : 0
  for await (const chunk of bytes.rest()) {
    const skipped = Math.min(drop, chunk.length)
    drop -= skipped
    yield skipped === 0 ? chunk : chunk.subarray(skipped)
  }
}

export interface PeekableBytes {
  /** At least `count` bytes from the beginning, fewer only if there are no more; they stay in the stream. */
  peek(count: number): Promise<Buffer>
  /** Everything, from the beginning. Call it once. */
  rest(): AsyncGenerator<Buffer>
}

/** Lets one look at the beginning of a stream before it is read; pipes can be read only once. */
export function peekable(source: AsyncIterable<Buffer>): PeekableBytes {
  const iterator = source[Symbol.asyncIterator]()
  let head: Buffer = Buffer.alloc(0)
  let ended = false
  return {
    async peek(count) {
      while (head.length < count && !ended) {
        const next = await iterator.next()
        if (next.done === true) ended = true
        else head = head.length === 0 ? next.value : Buffer.concat([head, next.value])
      }
      return head
    },
    async *rest() {
      try {
        if (head.length > 0) yield head
        head = Buffer.alloc(0)
        while (!ended) {
          const next = await iterator.next()
          if (next.done === true) return
          yield next.value
        }
      } finally {
        // Ends the stream below when the reader stops early; after the end it does nothing.
        await iterator.return?.()
      }
    },
  }
}
