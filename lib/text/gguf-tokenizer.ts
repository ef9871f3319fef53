/**
 * A tokenizer as llama.cpp wants it in a GGUF file (`tokenizer.ggml.…`): SentencePiece models, tokenizer.json of the same kind
 * (BPE with byte fallback), and byte-level BPE as in LLaMA 3.
 */

import { readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { AlmaError, ioError } from '../errors.js'
import { parseJson } from '../files/json.js'
import { type PieceKind, parseSentencePieceModel } from './sentencepiece-model.js'
import { isObject } from './special-tokens.js'
import type { Tokenizer } from './tokenizer.js'
import { checkTokenizerJson, type TokenizerJsonContent } from './tokenizer-json.js'

/** Keys without the prefix `tokenizer.ggml.`, and their values. */
export interface GgufTokenizer {
  /** `llama`: merges by the pieces' scores. `gpt2`: byte-level, merges by their list. */
  readonly model: 'llama' | 'gpt2'
  readonly pre: string
  readonly tokens: readonly string[]
  readonly scores: readonly number[]
  readonly types: readonly number[]
  readonly merges: readonly string[]
  readonly addSpacePrefix: boolean
}

const TYPES: Readonly<Record<PieceKind, number>> = {
  normal: 1,
  unknown: 2,
  control: 3,
  userDefined: 4,
  unused: 5,
  byte: 6,
}

/**
 * @param vocabSize rows of the model's embedding; ids that the tokenizer lacks become unused tokens
 * @throws AlmaError ERR_ALMA_TOKENIZER for a kind that llama.cpp's two do not cover; ERR_ALMA_IO
 */
export async function ggufTokenizer(tokenizer: Tokenizer, vocabSize: number): Promise<GgufTokenizer> {
  const { file } = tokenizer
  const bytes = await readFile(file).catch((error: unknown) => {
    throw ioError('read', file, error)
  })
  const made =
    basename(file) === 'tokenizer.model'
      ? fromSentencePiece(bytes, file)
      : fromTokenizerJson(parseJson(bytes, file, 'ERR_ALMA_TOKENIZER', false), file)
  const tokens = [...made.tokens]
  const scores = [...made.scores]
  const types = [...made.types]
  for (let id = 0; id < vocabSize; id++) {
    if (tokens[id] !== undefined) continue
    tokens[id] = `[PAD${id}]`
    scores[id] = -1e9
    types[id] = TYPES.unused
  }
  return {
    ...made,
    tokens: tokens.slice(0, vocabSize),
    scores: scores.slice(0, vocabSize),
    types: types.slice(0, vocabSize),
  }
}

function fromSentencePiece(bytes: Uint8Array, file: string): GgufTokenizer {
  const { pieces, addDummyPrefix } = parseSentencePieceModel(bytes, file)
  return {
    model: 'llama',
    pre: 'default',
    tokens: pieces.map(({ piece }) => piece),
    scores: pieces.map(({ score }) => score),
    types: pieces.map(({ kind }) => TYPES[kind]),
    merges: [],
    addSpacePrefix: addDummyPrefix,
  }
}

function fromTokenizerJson(json: unknown, file: string): GgufTokenizer {
  if (!isObject(json)) throw new AlmaError('ERR_ALMA_TOKENIZER', `${file}: is not a JSON object`)
  const content = checkTokenizerJson(json, file)
  const byteLevel = isByteLevel(json.pre_tokenizer) || isByteLevel(json.decoder)
  if (content.model.type !== 'BPE' || (!byteLevel && content.model.byte_fallback !== true)) {
    const kind = `${String(content.model.type)}${byteLevel ? '' : ' without byte fallback'}`
    throw new AlmaError(
      'ERR_ALMA_TOKENIZER',
      `${file}: a ${kind} tokenizer has no counterpart in llama.cpp's "llama" model`,
    )
  }
  const tokens: string[] = []
  for (const [piece, id] of content.vocabulary) tokens[id] = piece
  const ranks = mergeRanks(content)
  const scores = tokens.map((piece) => -(ranks.get(piece) ?? ranks.size))
  const types = tokens.map((piece) => (/^<0x[0-9A-F]{2}>$/.test(piece) && !byteLevel ? TYPES.byte : TYPES.normal))
  for (const { id, content: text, special } of content.added) {
    tokens[id] = text
    scores[id] = 0
    types[id] = text === content.model.unk_token ? TYPES.unknown : special ? TYPES.control : TYPES.userDefined
  }
  return {
    model: byteLevel ? 'gpt2' : 'llama',
    pre: byteLevel ? 'llama-bpe' : 'default',
    tokens,
    scores,
    types,
    merges: byteLevel ? mergesOf(content).map(([left, right]) => `${left} ${right}`) : [],
    addSpacePrefix: !byteLevel,
  }
}

function mergesOf({ model }: TokenizerJsonContent): (readonly [string, string])[] {
  return (model.merges as readonly (string | readonly [string, string])[]).map((merge) => {
    if (typeof merge !== 'string') return merge
    const at = merge.indexOf(' ', 1)
    return [merge.slice(0, at), merge.slice(at + 1)]
  })
}

/** Of what the merges make; the first merge that makes a piece counts. */
function mergeRanks(content: TokenizerJsonContent): Map<string, number> {
  const ranks = new Map<string, number>()
  for (const [rank, [left, right]] of mergesOf(content).entries()) {
    if (!ranks.has(left + right)) ranks.set(left + right, rank)
  }
  return ranks
}

function isByteLevel(part: unknown): boolean {
  if (!isObject(part)) return false
  if (part.type === 'ByteLevel') return true
  const parts = part.pretokenizers ?? part.decoders
  return Array.isArray(parts) && parts.some(isByteLevel)
}
