/**
 * Text as the pieces of any SentencePiece model, unigram or BPE, with its normaliser: what `spm_encode` prints. Metrics use
 * it (the tokenizers of FLORES); models have {@link SentencePieceTokenizer}, which knows ids and decodes.
 */
import { readFile } from 'node:fs/promises'
import { AlmaError, ioError } from '../errors.js'
import { BpeEncoder, META_SPACE } from './bpe.js'
import { bpeModel } from './sentencepiece.js'
import { parseSentencePieceModel, type SentencePieceModel } from './sentencepiece-model.js'
import { createSplitter } from './special-tokens.js'
import { UnigramSegmenter } from './unigram.js'

interface Part {
  readonly text: string
  readonly unknown: boolean
}

export class SentencePieceSegmenter {
  readonly #model: SentencePieceModel
  readonly #space: string
  readonly #split: (text: string) => Part[]
  /** User-defined pieces, which are neither normalised nor divided. */
  readonly #userDefined: (text: string) => (string | number)[]

  constructor(model: SentencePieceModel) {
    this.#model = model
    this.#space = model.escapeWhitespaces ? META_SPACE : ' '
    this.#userDefined = createSplitter(
      new Map(model.pieces.flatMap(({ piece, kind }, id) => (kind === 'userDefined' ? [[piece, id]] : []))),
    )
    const unigram = model.algorithm === 'unigram' ? new UnigramSegmenter(model.pieces) : undefined
    this.#split = unigram ? (text) => unigram.segment(text) : bpeParts(model, this.#space)
  }

  /** Pieces of a text; neighbouring unknown characters are one piece, or their bytes in a model with byte fallback. */
  pieces(text: string): string[] {
    const pieces: string[] = []
    let unknown = false
    const add = (part: Part): void => {
      if (part.unknown && this.#model.byteFallback) {
        for (const byte of Buffer.from(part.text))
          pieces.push(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`)
      } else if (part.unknown && unknown) pieces[pieces.length - 1] += part.text
      else pieces.push(part.text)
      unknown = part.unknown
    }
    for (const part of this.#userDefined(this.#normalize(text))) {
      if (typeof part === 'number') add({ text: this.#model.pieces[part]?.piece ?? '', unknown: false })
      else for (const piece of this.#split(part)) add(piece)
    }
    return pieces
  }

  /** SentencePiece's `Normalizer::Normalize`. */
  #normalize(text: string): string {
    const { addDummyPrefix, removeExtraWhitespaces } = this.#model
    let body = this.#mapped(text)
    if (removeExtraWhitespaces) body = body.replace(/^ +/, '').replace(/ {2,}/g, ' ')
    if (body === '') return ''
    const escaped = (addDummyPrefix ? ' ' : '').concat(body).replaceAll(' ', this.#space)
    if (!removeExtraWhitespaces) return escaped
    // After escaping: a text that ends with U+2581 loses it as well.
    let end = escaped.length
    while (end > 0 && escaped[end - 1] === this.#space) end--
    return escaped.slice(0, end)
  }

  #mapped(text: string): string {
    const { characterMap: map } = this.#model
    if (map === undefined) return Buffer.from(text).toString()
    const bytes = Buffer.from(text)
    const parts: string[] = []
    let at = 0
    let copied = 0
    while (at < bytes.length) {
      const match = map.match(bytes, at)
      if (match === undefined) {
        at += characterLength(bytes[at] ?? 0)
        continue
      }
      parts.push(bytes.toString('utf8', copied, at), match.replacement)
      at += match.length
      copied = at
    }
    parts.push(bytes.toString('utf8', copied))
    return parts.join('')
  }
}

/** Bytes of the UTF-8 character that begins so. */
function characterLength(first: number): number {
  return first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4
}

function bpeParts(model: SentencePieceModel, space: string): (text: string) => Part[] {
  // Ids alone would lose which characters are unknown: every one is an id of its own here.
  const encoder = new BpeEncoder(bpeModel({ ...model, byteFallback: false }, space))
  return (text) => {
    const ids: number[] = []
    encoder.encode(text, ids)
    let at = 0
    return ids.map((id) => {
      const unknown = id === model.unkId
      const length = unknown
        ? String.fromCodePoint(text.codePointAt(at) ?? 0).length
        : (model.pieces[id]?.piece.length ?? 0)
      at += length
      return { text: text.slice(at - length, at), unknown }
    })
  }
}

/** @throws AlmaError ERR_ALMA_IO, ERR_ALMA_TOKENIZER */
export async function openSentencePieceSegmenter(path: string): Promise<SentencePieceSegmenter> {
  let bytes: Uint8Array
  try {
    bytes = await readFile(path)
  } catch (error) {
    throw error instanceof AlmaError ? error : ioError('read', path, error)
  }
  return new SentencePieceSegmenter(parseSentencePieceModel(bytes, path, 'all'))
}
