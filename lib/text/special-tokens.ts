/** The special tokens that the JSON files beside a tokenizer name, and how a text is cut at them. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AlmaError, ioError, messageOf } from '../errors.js'

export interface AddedToken {
  readonly id: number
  readonly content: string
  readonly special: boolean
}

export interface SpecialTokens {
  readonly bos: string | undefined
  readonly eos: string | undefined
  readonly pad: string | undefined
  readonly unk: string | undefined
  readonly added: readonly AddedToken[]
}

export type JsonObject = { readonly [key: string]: unknown }

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The object in a JSON file, or undefined when there is no such file. */
export async function readJsonObject(path: string): Promise<JsonObject | undefined> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return undefined
    throw ioError('read', path, error)
  }
  let value: unknown
  try {
    value = JSON.parse(text.charCodeAt(0) === 0xfeff ? text.slice(1) : text)
  } catch (error) {
    throw new AlmaError('ERR_ALMA_TOKENIZER', `${path}: not JSON: ${messageOf(error)}`)
  }
  if (!isObject(value)) throw new AlmaError('ERR_ALMA_TOKENIZER', `${path}: expected a JSON object`)
  return value
}

/** `"<s>"` or `{"content": "<s>", …}`; both forms are written by transformers. */
function tokenText(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  return isObject(value) && typeof value.content === 'string' ? value.content : undefined
}

/**
 * Reads tokenizer_config.json, special_tokens_map.json and added_tokens.json, as far as they exist. Where two of them name the
 * same token, tokenizer_config.json counts, as in transformers.
 */
export async function readSpecialTokens(directory: string): Promise<SpecialTokens> {
  const configPath = join(directory, 'tokenizer_config.json')
  const config = (await readJsonObject(configPath)) ?? {}
  const map = (await readJsonObject(join(directory, 'special_tokens_map.json'))) ?? {}
  const extra = (await readJsonObject(join(directory, 'added_tokens.json'))) ?? {}
  const token = (name: string): string | undefined => tokenText(config[name]) ?? tokenText(map[name])
  const named = { bos: token('bos_token'), eos: token('eos_token'), pad: token('pad_token'), unk: token('unk_token') }
  const special = new Set(Object.values(named))
  const added = new Map<number, AddedToken>()
  for (const [content, id] of Object.entries(extra)) {
    if (typeof id === 'number') added.set(checkedId(id, directory), { id, content, special: special.has(content) })
  }
  const decoder = config.added_tokens_decoder
  for (const [key, value] of Object.entries(isObject(decoder) ? decoder : {})) {
    const content = tokenText(value)
    if (content === undefined || content === '') continue
    const id = checkedId(Number(key), configPath)
    added.set(id, { id, content, special: isObject(value) && value.special === true })
  }
  return { ...named, added: [...added.values()] }
}

function checkedId(id: number, where: string): number {
  // 2^24: far above any vocabulary, and low enough that a table with this index is no memory problem.
  if (!Number.isInteger(id) || id < 0 || id >= 2 ** 24)
    throw new AlmaError('ERR_ALMA_TOKENIZER', `${where}: ${id} is not a token id`)
  return id
}

/** Cuts a text at the given strings, the longest first: parts of text, and the ids of what stood between them. */
export function createSplitter(tokens: ReadonlyMap<string, number>): (text: string) => (string | number)[] {
  if (tokens.size === 0) return (text) => (text === '' ? [] : [text])
  const strings = [...tokens.keys()].sort((a, b) => b.length - a.length)
  const pattern = new RegExp(strings.map((s) => s.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')).join('|'), 'g')
  return (text) => {
    const parts: (string | number)[] = []
    let start = 0
    for (const match of text.matchAll(pattern)) {
      if (match.index > start) parts.push(text.slice(start, match.index))
      parts.push(tokens.get(match[0]) as number)
      start = match.index + match[0].length
    }
    if (start < text.length) parts.push(text.slice(start))
    return parts
  }
}
