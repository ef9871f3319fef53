/** Checks a Hugging Face `tokenizer.json` and recognises the kind that LLaMA-1/2 has, which our own BPE encodes faster. */
import { AlmaError } from '../errors.js'
import { BpeEncoder, MAX_RANK, META_SPACE, pushUtf8 } from './bpe.js'
import { PairTable } from './pair-table.js'
import { byteOfPiece } from './sentencepiece-model.js'
import { type AddedToken, isObject, type JsonObject } from './special-tokens.js'

export interface TokenizerJsonContent {
  readonly json: JsonObject
  readonly model: JsonObject
  /** Piece to id; without the added tokens that are not in the model. */
  readonly vocabulary: ReadonlyMap<string, number>
  readonly added: readonly AddedToken[]
}

/** @throws AlmaError ERR_ALMA_TOKENIZER naming the field that is not as the format has it */
export function checkTokenizerJson(json: JsonObject, path: string): TokenizerJsonContent {
  const bad = (what: string): AlmaError => new AlmaError('ERR_ALMA_TOKENIZER', `${path}: ${what}`)
  const model = json.model
  if (!isObject(model)) throw bad('has no object "model"')
  const vocabulary = new Map<string, number>()
  const checkId = (id: unknown, what: string): number => {
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id > MAX_RANK)
      throw bad(`${what} has the id ${JSON.stringify(id)}; expected an integer from 0 to ${MAX_RANK}`)
    return id
  }
  const entries = model.vocab
  if (Array.isArray(entries)) {
    for (const [id, entry] of entries.entries()) {
      if (!Array.isArray(entry) || typeof entry[0] !== 'string')
        throw bad(`model.vocab[${id}] is not a pair [piece, score]`)
      vocabulary.set(entry[0], id)
    }
  } else if (isObject(entries)) {
    const owners = new Map<number, string>()
    for (const [piece, value] of Object.entries(entries)) {
      const id = checkId(value, `the piece ${JSON.stringify(piece)}`)
      const other = owners.get(id)
      if (other !== undefined)
        throw bad(`the pieces ${JSON.stringify(other)} and ${JSON.stringify(piece)} both have the id ${id}`)
      owners.set(id, piece)
      vocabulary.set(piece, id)
    }
  } else throw bad('has no vocabulary "model.vocab"')
  if (vocabulary.size === 0) throw bad('the vocabulary "model.vocab" is empty')
  if (model.type === 'BPE' || model.merges !== undefined) {
    const merges = model.merges
    if (!Array.isArray(merges)) throw bad('has no list "model.merges"')
    for (const [index, merge] of merges.entries())
      if (mergePair(merge) === undefined) throw bad(`model.merges[${index}] is not a pair`)
  }
  const tokens = json.added_tokens ?? []
  if (!Array.isArray(tokens)) throw bad('"added_tokens" is not a list')
  const added = tokens.map((token: unknown, index): AddedToken => {
    if (!isObject(token) || typeof token.content !== 'string' || token.content === '')
      throw bad(`added_tokens[${index}] has no "content"`)
    return {
      id: checkId(token.id, `added_tokens[${index}]`),
      content: token.content,
      special: token.special === true,
    }
  })
  return { json, model, vocabulary, added }
}

/** `"a b"` or `["a", "b"]`. */
export function mergePair(merge: unknown): readonly [string, string] | undefined {
  const parts: unknown = typeof merge === 'string' ? merge.split(' ') : merge
  if (!Array.isArray(parts) || parts.length !== 2) return undefined
  const [left, right] = parts as unknown[]
  return typeof left === 'string' && typeof right === 'string' ? [left, right] : undefined
}

const isPrepend = (part: unknown): boolean => isObject(part) && part.type === 'Prepend' && part.prepend === META_SPACE

function isReplace(part: unknown, from: string, to: string): boolean {
  if (!isObject(part) || part.type !== 'Replace' || part.content !== to) return false
  const pattern = part.pattern
  return isObject(pattern) && pattern.String === from
}

/** What a decoder does with the pieces, as far as we can do it ourselves; undefined for all other decoders. */
export function decoderKind(
  json: JsonObject,
): { kind: 'byteFallback'; stripsPrefix: boolean } | { kind: 'byteLevel' } | undefined {
  const decoder = json.decoder
  if (!isObject(decoder)) return undefined
  const list = decoder.type === 'Sequence' && Array.isArray(decoder.decoders) ? decoder.decoders : [decoder]
  const parts: readonly unknown[] = list
  const type = (part: unknown): unknown => (isObject(part) ? part.type : undefined)
  if (parts.length === 1 && type(parts[0]) === 'ByteLevel') return { kind: 'byteLevel' }
  const [replace, fallback, fuse, strip] = parts
  if (!isReplace(replace, META_SPACE, ' ') || type(fallback) !== 'ByteFallback' || type(fuse) !== 'Fuse')
    return undefined
  if (parts.length === 3) return { kind: 'byteFallback', stripsPrefix: false }
  if (parts.length !== 4 || !isObject(strip) || strip.type !== 'Strip') return undefined
  return strip.content === ' ' && strip.start === 1 && strip.stop === 0
    ? { kind: 'byteFallback', stripsPrefix: true }
    : undefined
}

/**
 * Our own encoder for a file of LLaMA-1/2's kind: BPE with byte fallback on the whole text, `▁` put in front and for spaces, and
 * no added words that are not special. Undefined for all others. Its ids are those of Hugging Face tokenizers; on 8,000
 * unlike lines @huggingface/tokenizers 0.2.0 encodes 0.33 MB/s.
 */
export function fastEncoder(content: TokenizerJsonContent): ((text: string, out: number[]) => void) | undefined {
  const { json, model, vocabulary, added } = content
  const normalizer = json.normalizer
  const steps: readonly unknown[] =
    isObject(normalizer) && Array.isArray(normalizer.normalizers) ? normalizer.normalizers : []
  const llama =
    isObject(normalizer) &&
    normalizer.type === 'Sequence' &&
    steps.length === 2 &&
    isPrepend(steps[0]) &&
    isReplace(steps[1], ' ', META_SPACE) &&
    (json.pre_tokenizer ?? null) === null &&
    model.type === 'BPE' &&
    model.byte_fallback === true &&
    model.ignore_merges !== true &&
    (model.dropout ?? null) === null &&
    (model.continuing_subword_prefix ?? null) === null &&
    (model.end_of_word_suffix ?? null) === null &&
    added.every(({ special }) => special)
  if (!llama || !Array.isArray(model.merges)) return undefined

  const byteIds = new Int32Array(256).fill(-1)
  const special = new Set(added.map(({ content }) => content))
  const symbols = new Map<string, number>()
  const ids: number[] = []
  for (const [piece, id] of vocabulary) {
    const byte = byteOfPiece(piece)
    if (byte !== undefined) byteIds[byte] = id
    if (special.has(piece)) continue
    symbols.set(piece, ids.length)
    ids.push(id)
  }
  if (byteIds.includes(-1)) return undefined
  const merges: readonly unknown[] = model.merges
  const pairs = new PairTable(merges.length)
  for (const [rank, merge] of merges.entries()) {
    const [left, right] = mergePair(merge) ?? ['', '']
    const parts = [symbols.get(left), symbols.get(right), symbols.get(left + right)] as const
    // A merge of what is not in the vocabulary, or into a control token, is left to the library's own rules.
    if (parts[0] === undefined || parts[1] === undefined || parts[2] === undefined) return undefined
    pairs.set(parts[0], parts[1], rank, parts[2])
  }
  const bpe = new BpeEncoder({
    symbols,
    ids: Int32Array.from(ids),
    pairs,
    fallback: (codePoint, out) => pushUtf8(codePoint, byteIds, out),
    space: META_SPACE,
  })
  return (text, out) => {
    if (text !== '') bpe.encode(META_SPACE + text.replaceAll(' ', META_SPACE), out)
  }
}
