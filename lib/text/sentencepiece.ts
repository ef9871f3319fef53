/** LLaMA's own tokenizer: a SentencePiece BPE model with byte fallback, encoded and decoded exactly as SentencePiece does. */
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { AlmaError, ioError } from '../errors.js'
import { BpeEncoder, META_SPACE, pushUtf8 } from './bpe.js'
import { PairTable } from './pair-table.js'
import { decodeAll, PieceStreamDecoder, type TokenSurface } from './piece-decoder.js'
import {
  byteOfPiece,
  MAX_MODEL_BYTES,
  type Piece,
  parseSentencePieceModel,
  type SentencePieceModel,
} from './sentencepiece-model.js'
import { type AddedToken, createSplitter, readSpecialTokens, type SpecialTokens } from './special-tokens.js'
import {
  copyTokenizerFiles,
  type DecodeOptions,
  type EncodeOptions,
  type StreamDecoder,
  type Tokenizer,
} from './tokenizer.js'

const NO_SPECIAL_TOKENS: SpecialTokens = { bos: undefined, eos: undefined, pad: undefined, unk: undefined, added: [] }

export class SentencePieceTokenizer implements Tokenizer {
  readonly vocabSize: number
  readonly bosTokenId: number | undefined
  readonly eosTokenId: number | undefined
  readonly padTokenId: number | undefined
  readonly unkTokenId: number | undefined
  readonly file: string
  readonly #directory: string
  readonly #model: SentencePieceModel
  readonly #bpe: BpeEncoder
  readonly #space: string
  readonly #surfaces: readonly (TokenSurface | undefined)[]
  // Strings that text is cut at: user-defined pieces and added words always, control tokens when parseSpecial asks for it.
  readonly #splitWords: (text: string) => (string | number)[]
  readonly #splitSpecial: (text: string) => (string | number)[]
  readonly #splitUserDefined: (text: string) => (string | number)[]

  constructor(model: SentencePieceModel, directory: string, special: SpecialTokens = NO_SPECIAL_TOKENS) {
    this.#model = model
    this.#directory = directory
    this.#space = model.escapeWhitespaces ? META_SPACE : ' '
    this.file = join(directory, 'tokenizer.model')
    this.#bpe = new BpeEncoder(bpeModel(model, this.#space))
    const added = special.added.filter(({ id }) => id >= model.pieces.length)
    this.vocabSize = added.reduce((size, { id }) => Math.max(size, id + 1), model.pieces.length)
    this.#surfaces = surfaces(model, added)
    const userDefined = new Map(
      model.pieces.flatMap(({ piece, kind }, id) => (kind === 'userDefined' ? [[piece, id]] : [])),
    )
    const words = new Map(added.filter((token) => !token.special).map(({ id, content }) => [content, id]))
    const control = new Map<string, number>(words)
    for (const [id, { piece, kind }] of model.pieces.entries()) if (kind === 'control') control.set(piece, id)
    for (const { id, content, special } of added) if (special) control.set(content, id)
    this.#splitUserDefined = createSplitter(userDefined)
    this.#splitWords = createSplitter(words)
    this.#splitSpecial = createSplitter(control)

    const ids = new Map(model.pieces.map(({ piece }, id) => [piece, id]))
    for (const { id, content } of added) ids.set(content, id)
    const idOf = (token: string | undefined, own: number, required: string | undefined): number | undefined => {
      if (token === undefined) return own < 0 ? undefined : own
      const id = ids.get(token)
      if (id === undefined && required !== undefined)
        throw new AlmaError(
          'ERR_ALMA_TOKENIZER',
          `${this.file}: has no piece ${JSON.stringify(token)}, the ${required}`,
        )
      return id
    }
    this.bosTokenId = idOf(special.bos, model.bosId, 'bos_token of the JSON files beside it')
    this.eosTokenId = idOf(special.eos, model.eosId, 'eos_token of the JSON files beside it')
    // A pad token is only a filler that attention never sees: a name that is in no vocabulary is not worth refusing a model.
    this.padTokenId = idOf(special.pad, model.padId, undefined)
    this.unkTokenId = idOf(special.unk, model.unkId, undefined) ?? model.unkId
  }

  encode(text: string, options: EncodeOptions = {}): number[] {
    const ids: number[] = []
    if (options.addBos === true) ids.push(required(this.bosTokenId, 'beginning', this.file))
    const parts = options.parseSpecial === true ? this.#splitSpecial(text) : this.#splitWords(text)
    for (const part of parts) {
      if (typeof part === 'number') ids.push(part)
      else this.#encodeText(part, ids)
    }
    if (options.addEos === true) ids.push(required(this.eosTokenId, 'end', this.file))
    return ids
  }

  decode(ids: readonly number[], options: DecodeOptions = {}): string {
    return decodeAll(this.streamDecoder(options), ids)
  }

  streamDecoder(options: DecodeOptions = {}): StreamDecoder {
    const { addDummyPrefix, removeExtraWhitespaces } = this.#model
    const leading = removeExtraWhitespaces ? 'every' : addDummyPrefix ? 'first' : 'keep'
    return new PieceStreamDecoder(this.#surfaces, leading, options.skipSpecialTokens ?? true)
  }

  isSpecial(id: number): boolean {
    return this.#surfaces[id]?.kind === 'control'
  }

  save(directory: string): Promise<void> {
    return copyTokenizerFiles(this.#directory, directory)
  }

  #encodeText(text: string, out: number[]): void {
    const normalized = this.#normalize(text)
    if (this.#model.byteFallback) {
      for (const part of this.#splitUserDefined(normalized)) {
        if (typeof part === 'number') out.push(part)
        else this.#bpe.encode(part, out)
      }
      return
    }
    // Without byte fallback a run of unknown characters is one unknown token.
    const ids: number[] = []
    for (const part of this.#splitUserDefined(normalized)) {
      if (typeof part === 'number') ids.push(part)
      else this.#bpe.encode(part, ids)
    }
    const { unkId } = this.#model
    for (const [index, id] of ids.entries()) if (id !== unkId || ids[index - 1] !== unkId) out.push(id)
  }

  /** SentencePiece's `Normalizer::Normalize` for the identity normalizer. */
  #normalize(text: string): string {
    const { addDummyPrefix, removeExtraWhitespaces } = this.#model
    const space = this.#space
    let body = text
    if (removeExtraWhitespaces) body = body.replace(/^ +/, '').replace(/ {2,}/g, ' ')
    if (body === '') return ''
    let normalized = (addDummyPrefix ? space : '') + (space === ' ' ? body : body.replaceAll(' ', space))
    if (removeExtraWhitespaces) {
      let end = normalized.length
      while (end > 0 && normalized[end - 1] === space) end--
      normalized = normalized.slice(0, end)
    }
    return normalized
  }
}

function required(id: number | undefined, what: string, file: string): number {
  if (id === undefined) throw new AlmaError('ERR_ALMA_TOKENIZER', `${file}: has no ${what}-of-sentence token`)
  return id
}

const takesPartInMerges = ({ kind }: Piece): boolean => kind === 'normal' || kind === 'userDefined' || kind === 'unused'

/** Every way to make a piece of two symbols, ranked by the piece's score: SentencePiece looks merges up by their result. */
export function bpeModel(model: SentencePieceModel, space: string): ConstructorParameters<typeof BpeEncoder>[0] {
  const symbols = new Map<string, number>()
  const ids: number[] = []
  const add = (text: string, id: number): void => {
    symbols.set(text, ids.length)
    ids.push(id)
  }
  for (const [id, piece] of model.pieces.entries()) if (takesPartInMerges(piece)) add(piece.piece, id)
  for (const piece of model.pieces) {
    if (!takesPartInMerges(piece)) continue
    for (const character of piece.piece) if (!symbols.has(character)) add(character, -1)
  }
  const scores = [...new Set(model.pieces.map(({ score }) => score))].sort((a, b) => b - a)
  const rankOfScore = new Map(scores.map((score, rank) => [score, rank]))
  const merges: number[] = []
  const unused = new Set<number>()
  for (const piece of model.pieces) {
    if (!takesPartInMerges(piece)) continue
    const text = piece.piece
    const merged = symbols.get(text) as number
    if (piece.kind === 'unused') unused.add(merged)
    for (let cut = 1; cut < text.length; cut++) {
      const left = symbols.get(text.slice(0, cut))
      const right = left === undefined ? undefined : symbols.get(text.slice(cut))
      if (left !== undefined && right !== undefined)
        merges.push(left, right, rankOfScore.get(piece.score) as number, merged)
    }
  }
  const pairs = new PairTable(merges.length / 4)
  for (let i = 0; i < merges.length; i += 4)
    pairs.set(merges[i] as number, merges[i + 1] as number, merges[i + 2] as number, merges[i + 3] as number)

  const byteIds = new Int32Array(256)
  for (const [id, { piece, kind }] of model.pieces.entries()) {
    if (kind === 'byte') byteIds[byteOfPiece(piece) as number] = id
  }
  const fallback = model.byteFallback
    ? (codePoint: number, out: number[]) => pushUtf8(codePoint, byteIds, out)
    : (_codePoint: number, out: number[]) => out.push(model.unkId)
  return { symbols, ids: Int32Array.from(ids), pairs, fallback, space, unused }
}

function surfaces(model: SentencePieceModel, added: readonly AddedToken[]): (TokenSurface | undefined)[] {
  const list: (TokenSurface | undefined)[] = model.pieces.map(({ piece, kind }) => {
    if (kind === 'control') return { kind, text: piece }
    if (kind === 'unknown') return { kind, text: model.unkSurface }
    if (kind === 'byte') return { kind, byte: byteOfPiece(piece) as number }
    return { kind: 'text', text: piece.replaceAll(META_SPACE, ' ') }
  })
  for (const { id, content, special } of added) list[id] = { kind: special ? 'control' : 'unknown', text: content }
  return list
}

/** Opens `tokenizer.model` of a folder, with the special tokens that the JSON files beside it name. */
export async function openSentencePieceTokenizer(directory: string): Promise<SentencePieceTokenizer> {
  const path = join(directory, 'tokenizer.model')
  let bytes: Uint8Array
  try {
    const { size } = await stat(path)
    if (size > MAX_MODEL_BYTES)
      throw new AlmaError(
        'ERR_ALMA_TOKENIZER',
        `${path}: has ${size} bytes; a SentencePiece model has less than ${MAX_MODEL_BYTES}`,
      )
    bytes = await readFile(path)
  } catch (error) {
    throw error instanceof AlmaError ? error : ioError('read', path, error)
  }
  return new SentencePieceTokenizer(parseSentencePieceModel(bytes, path), directory, await readSpecialTokens(directory))
}
