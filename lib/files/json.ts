/** Reading of JSON files that may be damaged or hostile: bounded, strictly UTF-8, and with errors that name the file. */
import { open, stat } from 'node:fs/promises'
import { AlmaError, type AlmaErrorCode, ioError, messageOf } from '../errors.js'

export interface ReadJsonOptions {
  /** Larger files are refused before they are read, in bytes (64 MiB). */
  readonly maxBytes?: number
  /** Refuses an object that has a key twice, where readers could disagree about the meaning (`false`). */
  readonly uniqueKeys?: boolean
}

/**
 * The parsed content of a JSON file; `undefined` when there is no such file.
 *
 * @throws AlmaError with `code` when the file is too large, not UTF-8 or not JSON; ERR_ALMA_IO when it cannot be read.
 */
export async function readJsonFile(path: string, code: AlmaErrorCode, options: ReadJsonOptions = {}): Promise<unknown> {
  const { maxBytes = 64 * 2 ** 20, uniqueKeys = false } = options
  const size = await fileSize(path, code)
  if (size === undefined) return undefined
  if (size > maxBytes) throw new AlmaError(code, `${path}: ${size} bytes, expected at most ${maxBytes}`)
  const bytes = await readBytes(path, 0, size)
  return parseJson(bytes, path, code, uniqueKeys)
}

/** Parses UTF-8 JSON; `where` begins the error message. */
export function parseJson(bytes: Uint8Array, where: string, code: AlmaErrorCode, uniqueKeys: boolean): unknown {
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    throw new AlmaError(code, `${where}: not UTF-8 text`, { cause: error })
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new AlmaError(code, `${where}: not JSON: ${messageOf(error)}`, { cause: error })
  }
  const twice = uniqueKeys ? duplicateKey(text) : undefined
  if (twice !== undefined) throw new AlmaError(code, `${where}: the key ${describe(twice)} occurs twice`)
  return value
}

/** Bytes in a regular file; `undefined` when there is none. Opening a pipe or device instead could block for ever. */
export async function fileSize(path: string, code: AlmaErrorCode): Promise<number | undefined> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
    throw ioError('read', path, error)
  })
  if (found !== undefined && !found.isFile()) throw new AlmaError(code, `${path}: not a regular file`)
  return found?.size
}

/** `length` bytes from `offset`; fewer where the file ends earlier. */
export async function readBytes(path: string, offset: number, length: number): Promise<Uint8Array> {
  try {
    const handle = await open(path, 'r')
    try {
      const bytes = new Uint8Array(length)
      let filled = 0
      while (filled < length) {
        const { bytesRead } = await handle.read(bytes, filled, length - filled, offset + filled)
        if (bytesRead === 0) break
        filled += bytesRead
      }
      return bytes.subarray(0, filled)
    } finally {
      await handle.close()
    }
  } catch (error) {
    throw ioError('read', path, error)
  }
}

/** The first key that some object of the text has twice; `text` must be valid JSON. JSON.parse would keep the last. */
function duplicateKey(text: string): string | undefined {
  const open: Set<string>[] = []
  for (let at = 0; at < text.length; at++) {
    const character = text[at]
    if (character === '{' || character === '[') open.push(new Set())
    else if (character === '}' || character === ']') open.pop()
    else if (character === '"') {
      const start = at
      for (at++; text[at] !== '"'; at++) if (text[at] === '\\') at++
      let next = at + 1
      while (text[next] === ' ' || text[next] === '\n' || text[next] === '\r' || text[next] === '\t') next++
      if (text[next] !== ':') continue
      const key: string = JSON.parse(text.slice(start, at + 1))
      const keys = open.at(-1)
      if (keys?.has(key)) return key
      keys?.add(key)
    }
  }
  return undefined
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function isArrayOf<T>(value: unknown, is: (element: unknown) => element is T): value is T[] {
  return Array.isArray(value) && value.every(is)
}

export function isString(value: unknown): value is string {
  return typeof value === 'string'
}

/** A name that stays inside the folder it is joined to, on every platform. */
export function isPlainFileName(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value !== '.' && value !== '..' && !/[/\\:\0]/.test(value)
}

/** A value as an error message shows it: short, whatever a hostile file holds. */
export function describe(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (typeof value === 'string') return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value)
  if (Array.isArray(value)) {
    const short = value.length <= 8 && value.every((element) => typeof element === 'number')
    return short ? `[${value.join(', ')}]` : `an array of ${value.length}`
  }
  if (typeof value === 'object' && value !== null) return 'an object'
  return typeof value === 'function' ? 'a function' : String(value)
}
