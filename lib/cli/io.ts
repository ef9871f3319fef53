/** Where a command reads and writes: the process's streams, or a test's. */
import { createWriteStream } from 'node:fs'
import { open } from 'node:fs/promises'
import type { Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { AlmaError, ioError } from '../errors.js'
import { readBytes } from '../text/byte-source.js'
import { readLines } from '../text/lines.js'

export interface CliIo {
  readonly stdin: AsyncIterable<Buffer>
  readonly stdout: Writable
  readonly stderr: Writable & { readonly isTTY?: boolean; readonly columns?: number }
  /** Aborted by Ctrl-C, and when nobody reads stdout any more. */
  readonly signal: AbortSignal
}

const BYTE_ORDER_MARK = '\uFEFF'

/** Lines of a file (plain or gzip), or of stdin; memory is bounded by the longest line. */
export async function* inputLines(io: CliIo, file: string | undefined): AsyncGenerator<string, void, undefined> {
  const bytes = file === undefined ? io.stdin : readBytes(file)
  for await (const { text, line } of readLines(bytes, file ?? 'stdin')) {
    yield line === 1 && text.startsWith(BYTE_ORDER_MARK) ? text.slice(1) : text
  }
}

/** All lines of a file. @throws AlmaError ERR_ALMA_CORPUS when it has none. */
export async function fileLines(io: CliIo, file: string): Promise<string[]> {
  const lines: string[] = []
  for await (const line of inputLines(io, file)) lines.push(line)
  if (lines.length === 0) throw new AlmaError('ERR_ALMA_CORPUS', `${file}: has no lines`)
  return lines
}

/** A place for results. `write` waits when the reader is slow, so that results do not pile up in memory. */
export interface Output {
  write(text: string): Promise<void>
  close(): Promise<void>
}

/** stdout, or a file, which is opened at once: what cannot be written is known before the work begins. */
export async function openOutput(io: CliIo, file: string | undefined, flags: 'w' | 'a' = 'w'): Promise<Output> {
  if (file === undefined) return { write: (text) => writeTo(io.stdout, text, io.signal), close: async () => {} }
  try {
    await (await open(file, flags)).close()
  } catch (error) {
    throw ioError('write', file, error)
  }
  const stream = createWriteStream(file, { flags })
  let failure: unknown
  stream.on('error', (error) => {
    failure ??= error
  })
  const check = (): void => {
    if (failure !== undefined) throw ioError('write', file, failure)
  }
  return {
    async write(text) {
      check()
      await writeTo(stream, text, io.signal).catch((error: unknown) => {
        check()
        throw error
      })
    },
    async close() {
      stream.end()
      await finished(stream).catch(() => {})
      check()
    },
  }
}

/** Resolves when the stream takes more. */
export async function writeTo(stream: Writable, text: string, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  if (stream.write(text)) return
  await new Promise<void>((resolve, reject) => {
    const settle = (error?: unknown): void => {
      stream.off('drain', onDrain)
      stream.off('error', settle)
      stream.off('close', onDrain)
      signal.removeEventListener('abort', onAbort)
      if (error === undefined) resolve()
      else reject(error)
    }
    const onDrain = (): void => settle()
    const onAbort = (): void => settle(signal.reason)
    stream.on('drain', onDrain)
    stream.on('error', settle)
    stream.on('close', onDrain)
    signal.addEventListener('abort', onAbort)
  })
}

/** One line that renews itself, on a terminal; nothing elsewhere. */
export class StatusLine {
  readonly #stream: CliIo['stderr']
  #shown = false

  constructor(io: CliIo) {
    this.#stream = io.stderr
  }

  show(text: string): void {
    if (this.#stream.isTTY !== true) return
    this.#stream.write(`\r\u001b[K${text.slice(0, (this.#stream.columns ?? 80) - 1)}`)
    this.#shown = true
  }

  clear(): void {
    if (this.#shown) this.#stream.write('\r\u001b[K')
    this.#shown = false
  }
}
