/** Lines of UTF-8 text out of a stream of bytes, with their numbers. */
import { AlmaError } from '../errors.js'
import { MAX_RECORD_BYTES } from './byte-source.js'

export interface TextLine {
  readonly text: string
  /** From 1. */
  readonly line: number
}

const NEWLINE = 0x0a
const CARRIAGE_RETURN = 0x0d
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export function decodeUtf8(bytes: Uint8Array, path: string, line: number): string {
  try {
    return utf8.decode(bytes)
  } catch {
    throw new AlmaError('ERR_ALMA_CORPUS', `${path}:${line}: not valid UTF-8; save the file as UTF-8`)
  }
}

export function tooLong(what: string, path: string, line: number): AlmaError {
  return new AlmaError(
    'ERR_ALMA_CORPUS',
    `${path}:${line}: a ${what} of more than ${MAX_RECORD_BYTES / 2 ** 20} MiB; expected one sentence or document a ${what}`,
  )
}

/**
 * Splits at `\n` (or `\r\n`). Memory: one line, at most 16 MiB.
 * @throws AlmaError ERR_ALMA_CORPUS naming the line that is longer or not UTF-8
 */
export async function* readLines(bytes: AsyncIterable<Buffer>, path: string): AsyncGenerator<TextLine> {
  let line = 1
  let parts: Buffer[] = []
  let length = 0
  const finish = (last: Buffer): TextLine => {
    const whole = parts.length === 0 ? last : Buffer.concat([...parts, last])
    parts = []
    length = 0
    const end = whole[whole.length - 1] === CARRIAGE_RETURN ? whole.length - 1 : whole.length
    return { text: decodeUtf8(whole.subarray(0, end), path, line), line: line++ }
  }
  for await (const chunk of bytes) {
    let start = 0
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      if (length + end - start > MAX_RECORD_BYTES) throw tooLong('line', path, line)
      yield finish(chunk.subarray(start, end))
      start = end + 1
    }
    if (start < chunk.length) {
      parts.push(chunk.subarray(start))
      length += chunk.length - start
      if (length > MAX_RECORD_BYTES) throw tooLong('line', path, line)
    }
  }
  if (length > 0) yield finish(Buffer.alloc(0))
}
