/** JSON objects out of a stream of bytes: one a line (JSON Lines), or the elements of one array of any size. */
import { AlmaError, messageOf } from '../errors.js'
import { MAX_RECORD_BYTES } from './byte-source.js'
import { decodeUtf8, readLines, tooLong } from './lines.js'

export interface JsonRecord {
  readonly value: { readonly [key: string]: unknown }
  /** The line on which it begins, from 1. */
  readonly line: number
  /** `file:line`, and in an array the number of the element; for error messages. */
  readonly where: string
}

function parseObject(text: string, where: string): JsonRecord['value'] {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new AlmaError('ERR_ALMA_CORPUS', `${where}: not JSON: ${messageOf(error)}; expected one JSON object a line`)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new AlmaError('ERR_ALMA_CORPUS', `${where}: expected a JSON object, found ${excerpt(text)}`)
  return value as JsonRecord['value']
}

function excerpt(text: string): string {
  return text.length > 40 ? `${text.slice(0, 40)}…` : text
}

/** The objects of a JSON Lines file; blank lines are skipped. */
export async function* readJsonLines(bytes: AsyncIterable<Buffer>, path: string): AsyncGenerator<JsonRecord> {
  for await (const { text, line } of readLines(bytes, path)) {
    const where = `${path}:${line}`
    if (text.trim() !== '') yield { value: parseObject(text, where), line, where }
  }
}

const code = (character: string): number => character.charCodeAt(0)
const [QUOTE, BACKSLASH, OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET, COMMA, NEWLINE] = [
  code('"'),
  code('\\'),
  code('{'),
  code('}'),
  code('['),
  code(']'),
  code(','),
  code('\n'),
] as const

const isSpace = (byte: number): boolean => byte === 0x20 || (byte >= 0x09 && byte <= 0x0d)

/**
 * The objects of one JSON array, as ALMA's valid and test files are (all on a single line). The array is scanned for where each
 * object ends and only one object at a time is held, so that it may be larger than memory.
 * @throws AlmaError ERR_ALMA_CORPUS when the array ends early, or has anything but objects in it
 */
export async function* readJsonArray(bytes: AsyncIterable<Buffer>, path: string): AsyncGenerator<JsonRecord> {
  let state = 'start' as 'start' | 'first' | 'element' | 'object' | 'separator' | 'end'
  let line = 1
  let count = 0
  let depth = 0
  let inString = false
  let escaped = false
  let startLine = 1
  let parts: Buffer[] = []
  let length = 0
  for await (const chunk of bytes) {
    let start = 0
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at] as number
      if (byte === NEWLINE) line++
      if (state === 'object') {
        if (escaped) escaped = false
        else if (inString) {
          if (byte === BACKSLASH) escaped = true
          else if (byte === QUOTE) inString = false
        } else if (byte === QUOTE) inString = true
        else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) depth++
        else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) depth--
        if (depth > 0) continue
        const whole = Buffer.concat([...parts, chunk.subarray(start, at + 1)])
        parts = []
        length = 0
        if (whole.length > MAX_RECORD_BYTES) throw tooLong('record', path, startLine)
        const where = `${path}:${startLine} (record ${count})`
        yield { value: parseObject(decodeUtf8(whole, path, startLine), where), line: startLine, where }
        state = 'separator'
        continue
      }
      if (isSpace(byte)) continue
      if (state === 'start' && byte === OPEN_BRACKET) state = 'first'
      else if ((state === 'first' || state === 'element') && byte === OPEN_BRACE) {
        state = 'object'
        count++
        depth = 1
        start = at
        startLine = line
      } else if ((state === 'first' || state === 'separator') && byte === CLOSE_BRACKET) state = 'end'
      else if (state === 'separator' && byte === COMMA) state = 'element'
      else {
        const found = JSON.stringify(String.fromCharCode(byte))
        const expected =
          state === 'separator' ? '"," or "]"' : state === 'end' ? 'nothing behind the array' : 'a JSON object "{…}"'
        throw new AlmaError(
          'ERR_ALMA_CORPUS',
          `${path}:${line}: found ${found} after record ${count}; expected ${expected}`,
        )
      }
    }
    if (state === 'object') {
      parts.push(chunk.subarray(start))
      length += chunk.length - start
      if (length > MAX_RECORD_BYTES) throw tooLong('record', path, startLine)
    }
  }
  if (state !== 'end' && state !== 'start')
    throw new AlmaError('ERR_ALMA_CORPUS', `${path}:${line}: the JSON array ends after record ${count} without "]"`)
}
