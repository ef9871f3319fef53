/**
 * Reads a SentencePiece `tokenizer.model`: a protobuf message `ModelProto` (google/sentencepiece
 * `src/sentencepiece_model.proto`), of which only the fields that decide about encoding and decoding are kept. The file may be
 * damaged or hostile: every length is checked against what is there, and sizes are limited.
 */
import { AlmaError } from '../errors.js'
import { CharacterMap, CharacterMapError } from './character-map.js'

export type PieceKind = 'normal' | 'unknown' | 'control' | 'userDefined' | 'unused' | 'byte'

export interface Piece {
  readonly piece: string
  readonly score: number
  readonly kind: PieceKind
}

export interface SentencePieceModel {
  /** Index = token id. */
  readonly pieces: readonly Piece[]
  readonly unkId: number
  /** −1 where the model has none. */
  readonly bosId: number
  readonly eosId: number
  readonly padId: number
  readonly byteFallback: boolean
  /** What an unknown token decodes to. */
  readonly unkSurface: string
  readonly addDummyPrefix: boolean
  readonly removeExtraWhitespaces: boolean
  readonly escapeWhitespaces: boolean
  readonly algorithm: 'unigram' | 'bpe'
  /** What the normaliser replaces; absent in LLaMA's models. */
  readonly characterMap?: CharacterMap
}

/** LLaMA-2's file has 0.5 MB, the largest vocabularies in use (256,000 pieces) 4 MB. */
export const MAX_MODEL_BYTES = 32 * 2 ** 20
const MAX_PIECES = 2 ** 20
// SentencePiece trains pieces of at most 16 characters; building the merge table is quadratic in this length.
const MAX_PIECE_LENGTH = 256

const KINDS: readonly (PieceKind | undefined)[] = [
  undefined,
  'normal',
  'unknown',
  'control',
  'userDefined',
  'unused',
  'byte',
]
const MODEL_TYPES: readonly (string | undefined)[] = [undefined, 'unigram', 'BPE', 'word', 'character']
const UNIGRAM = 1
const BPE = 2

type Field =
  | { readonly number: number; readonly wire: 'varint'; readonly value: number }
  | { readonly number: number; readonly wire: 'bytes'; readonly value: Uint8Array }
  | { readonly number: number; readonly wire: 'fixed32'; readonly value: number }
  | { readonly number: number; readonly wire: 'fixed64' }

class Damage extends Error {}

/** The fields of a message in file order. Varints are taken as the int32 that all numbers of this format are. */
function* fields(bytes: Uint8Array): Generator<Field> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let at = 0
  const varint = (): number => {
    let low = 0
    for (let index = 0; index < 10; index++) {
      const byte = bytes[at++]
      if (byte === undefined) throw new Damage('the file ends inside a number')
      if (index < 5) low |= (byte & 127) << (7 * index)
      if (byte < 128) return low
    }
    throw new Damage('a number has more than 10 bytes')
  }
  const need = (count: number): void => {
    if (count < 0 || count > bytes.length - at)
      throw new Damage(`a field of ${count >>> 0} bytes where ${bytes.length - at} are left`)
  }
  while (at < bytes.length) {
    const tag = varint() >>> 0
    const number = tag >>> 3
    if (number === 0) throw new Damage('a field number 0')
    switch (tag & 7) {
      case 0:
        yield { number, wire: 'varint', value: varint() }
        break
      case 1:
        need(8)
        at += 8
        yield { number, wire: 'fixed64' }
        break
      case 2: {
        const length = varint()
        need(length)
        yield { number, wire: 'bytes', value: bytes.subarray(at, at + length) }
        at += length
        break
      }
      case 5:
        need(4)
        yield { number, wire: 'fixed32', value: view.getFloat32(at, true) }
        at += 4
        break
      default:
        throw new Damage(`a field of the unknown wire type ${tag & 7}`)
    }
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function text(bytes: Uint8Array, what: string): string {
  try {
    return utf8.decode(bytes)
  } catch {
    throw new Damage(`${what} is not UTF-8`)
  }
}

function readPiece(bytes: Uint8Array, id: number): Piece {
  let piece = ''
  let score = 0
  let kind: PieceKind = 'normal'
  for (const field of fields(bytes)) {
    if (field.number === 1 && field.wire === 'bytes') {
      // Before decoding: a piece of megabytes is not worth reading.
      if (field.value.length > 4 * MAX_PIECE_LENGTH)
        throw new Damage(`piece ${id} has ${field.value.length} bytes, more than ${4 * MAX_PIECE_LENGTH}`)
      piece = text(field.value, `piece ${id}`)
    } else if (field.number === 2 && field.wire === 'fixed32') score = field.value
    else if (field.number === 3 && field.wire === 'varint') {
      const named = KINDS[field.value]
      if (named === undefined) throw new Damage(`piece ${id} is of the unknown type ${field.value}`)
      kind = named
    }
  }
  if (piece === '') throw new Damage(`piece ${id} is empty`)
  if (piece.length > MAX_PIECE_LENGTH) throw new Damage(`piece ${id} is longer than ${MAX_PIECE_LENGTH} characters`)
  if (!Number.isFinite(score)) throw new Damage(`piece ${id} has the score ${score}`)
  return { piece, score, kind }
}

interface TrainerSpec {
  modelType: number
  byteFallback: boolean
  bosId: number
  eosId: number
  padId: number
  unkSurface: string
  whitespaceAsSuffix: boolean
}

function readTrainerSpec(bytes: Uint8Array, spec: TrainerSpec): void {
  for (const field of fields(bytes)) {
    if (field.wire === 'varint') {
      if (field.number === 3) spec.modelType = field.value
      else if (field.number === 24) spec.whitespaceAsSuffix = field.value !== 0
      else if (field.number === 35) spec.byteFallback = field.value !== 0
      else if (field.number === 41) spec.bosId = field.value
      else if (field.number === 42) spec.eosId = field.value
      else if (field.number === 43) spec.padId = field.value
    } else if (field.wire === 'bytes' && field.number === 44) spec.unkSurface = text(field.value, 'unk_surface')
  }
}

interface NormalizerSpec {
  name: string
  characterMap: Uint8Array
  addDummyPrefix: boolean
  removeExtraWhitespaces: boolean
  escapeWhitespaces: boolean
}

function readNormalizerSpec(bytes: Uint8Array, spec: NormalizerSpec): void {
  for (const field of fields(bytes)) {
    if (field.wire === 'bytes') {
      if (field.number === 1) spec.name = text(field.value, 'the normalizer name')
      else if (field.number === 2) spec.characterMap = field.value
    } else if (field.wire === 'varint') {
      if (field.number === 3) spec.addDummyPrefix = field.value !== 0
      else if (field.number === 4) spec.removeExtraWhitespaces = field.value !== 0
      else if (field.number === 5) spec.escapeWhitespaces = field.value !== 0
    }
  }
}

const newNormalizerSpec = (): NormalizerSpec => ({
  name: '',
  characterMap: new Uint8Array(),
  addDummyPrefix: true,
  removeExtraWhitespaces: true,
  escapeWhitespaces: true,
})

function readModel(bytes: Uint8Array, kinds: 'llama' | 'all'): SentencePieceModel {
  if (bytes.length > MAX_MODEL_BYTES) throw new Damage(`it has ${bytes.length} bytes, more than ${MAX_MODEL_BYTES}`)
  const pieces: Piece[] = []
  // Defaults of the .proto file; a repeated spec message is merged field by field, as protobuf asks.
  const trainer: TrainerSpec = {
    modelType: 1,
    byteFallback: false,
    bosId: 1,
    eosId: 2,
    padId: -1,
    unkSurface: ' \u2047 ',
    whitespaceAsSuffix: false,
  }
  const normalizer = newNormalizerSpec()
  const denormalizer = newNormalizerSpec()
  for (const field of fields(bytes)) {
    if (field.wire !== 'bytes') continue
    if (field.number === 1) {
      if (pieces.length >= MAX_PIECES) throw new Damage(`it has more than ${MAX_PIECES} pieces`)
      pieces.push(readPiece(field.value, pieces.length))
    } else if (field.number === 2) readTrainerSpec(field.value, trainer)
    else if (field.number === 3) readNormalizerSpec(field.value, normalizer)
    else if (field.number === 5) readNormalizerSpec(field.value, denormalizer)
  }
  if (pieces.length === 0) throw new Damage('it has no pieces')
  if (trainer.modelType !== BPE && (kinds === 'llama' || trainer.modelType !== UNIGRAM))
    throw new Damage(
      `it is a ${MODEL_TYPES[trainer.modelType] ?? `type ${trainer.modelType}`} model; ${
        kinds === 'llama' ? "LLaMA's tokenizers are BPE models" : 'only BPE and unigram models are supported'
      }`,
    )
  if (trainer.whitespaceAsSuffix) throw new Damage('treat_whitespace_as_suffix is not supported')
  if (kinds === 'llama' && normalizer.characterMap.length + denormalizer.characterMap.length > 0)
    throw new Damage(
      `the normalizer "${normalizer.name}" has a character map; only the normalizer "identity" (LLaMA's) is supported`,
    )
  const unknown = pieces.flatMap(({ kind }, id) => (kind === 'unknown' ? [id] : []))
  const unkId = unknown[0]
  if (unkId === undefined || unknown.length > 1)
    throw new Damage(`it has ${unknown.length} unknown pieces; expected one`)
  const control = (id: number): number => (id >= 0 && pieces[id]?.kind === 'control' ? id : -1)
  checkPieces(pieces, trainer.byteFallback)
  return {
    pieces,
    unkId,
    bosId: control(trainer.bosId),
    eosId: control(trainer.eosId),
    padId: control(trainer.padId),
    byteFallback: trainer.byteFallback,
    unkSurface: trainer.unkSurface,
    addDummyPrefix: normalizer.addDummyPrefix,
    removeExtraWhitespaces: normalizer.removeExtraWhitespaces,
    escapeWhitespaces: normalizer.escapeWhitespaces,
    algorithm: trainer.modelType === UNIGRAM ? 'unigram' : 'bpe',
    ...(normalizer.characterMap.length > 0 && { characterMap: new CharacterMap(normalizer.characterMap) }),
  }
}

/** The byte of a piece like `<0x0A>`, or undefined. */
export function byteOfPiece(piece: string): number | undefined {
  return /^<0x[0-9A-F]{2}>$/.test(piece) ? Number.parseInt(piece.slice(3, 5), 16) : undefined
}

function checkPieces(pieces: readonly Piece[], byteFallback: boolean): void {
  const seen = new Map<string, number>()
  const bytes = new Set<number>()
  for (const [id, { piece, kind }] of pieces.entries()) {
    const first = seen.get(piece)
    if (first !== undefined) throw new Damage(`pieces ${first} and ${id} are both ${JSON.stringify(piece)}`)
    seen.set(piece, id)
    if (kind !== 'byte') continue
    const byte = byteOfPiece(piece)
    if (byte === undefined) throw new Damage(`piece ${id} is of type byte but named ${JSON.stringify(piece)}`)
    bytes.add(byte)
  }
  if (byteFallback && bytes.size !== 256)
    throw new Damage(`byte_fallback is on, but only ${bytes.size} of the 256 byte pieces are there`)
}

/**
 * Parses the bytes of a `tokenizer.model`.
 * @param path names the file in error messages
 * @param kinds `llama`: BPE models without a character map; `all`: those that metrics use as well
 * @throws AlmaError ERR_ALMA_TOKENIZER when it is damaged, or a kind of model that LLaMA does not use
 */
export function parseSentencePieceModel(
  bytes: Uint8Array,
  path: string,
  kinds: 'llama' | 'all' = 'llama',
): SentencePieceModel {
  try {
    return readModel(bytes, kinds)
  } catch (error) {
    if (error instanceof Damage || error instanceof CharacterMapError)
      throw new AlmaError('ERR_ALMA_TOKENIZER', `${path}: not a usable SentencePiece model: ${error.message}`)
    throw error
  }
}
