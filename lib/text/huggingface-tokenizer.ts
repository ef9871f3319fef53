/** Tokenizers that come as a Hugging Face `tokenizer.json`, run by @huggingface/tokenizers. */
import { join } from 'node:path'
import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers'
import { AlmaError, messageOf } from '../errors.js'
import { META_SPACE } from './bpe.js'
import { ByteLevelStreamDecoder, type ByteLevelSurface, bytesOfPiece } from './byte-level-decoder.js'
import { decodeAll, PieceStreamDecoder, type TokenSurface } from './piece-decoder.js'
import { byteOfPiece } from './sentencepiece-model.js'
import { isObject, readJsonObject, readSpecialTokens, type SpecialTokens } from './special-tokens.js'
import {
  copyTokenizerFiles,
  type DecodeOptions,
  type EncodeOptions,
  type StreamDecoder,
  type Tokenizer,
} from './tokenizer.js'
import { checkTokenizerJson, decoderKind, fastEncoder, mergePair, type TokenizerJsonContent } from './tokenizer-json.js'

/**
 * Ids are those of the library, with three deliberate differences, all on the safe side:
 *  - Special tokens in a text stay text unless `parseSpecial` is set. For that there are two instances of the library's tokenizer: one
 *    as the file says, and one whose special tokens are neither added tokens nor in the vocabulary (except the unknown token),
 *    so that no text can yield them.
 *  - BOS and EOS come from `addBos` and `addEos`, never from the post-processor.
 *  - Decoding never "cleans up" spaces before punctuation (a default of old transformers): text comes back as it was.
 *    Broken UTF-8 of byte-fallback vocabularies decodes as SentencePiece does it, so that both file formats of a model agree.
 */
export class HuggingFaceTokenizer implements Tokenizer {
  readonly vocabSize: number
  readonly bosTokenId: number | undefined
  readonly eosTokenId: number | undefined
  readonly padTokenId: number | undefined
  readonly unkTokenId: number | undefined
  readonly file: string
  readonly #directory: string
  readonly #content: TokenizerJsonContent
  readonly #special: ReadonlySet<number>
  readonly #fast: ((text: string, out: number[]) => void) | undefined
  readonly #newStream: (skipSpecialTokens: boolean) => StreamDecoder
  // Built on first use: each takes about 0.2 s and 40 MB for a vocabulary of 32,000.
  #parsing: LibraryTokenizer | undefined
  #plain: LibraryTokenizer | undefined

  constructor(content: TokenizerJsonContent, directory: string, named: SpecialTokens) {
    this.#content = content
    this.#directory = directory
    this.file = join(directory, 'tokenizer.json')
    const ids = new Map(content.vocabulary)
    for (const { id, content: text } of content.added) ids.set(text, id)
    let highest = 0
    for (const id of ids.values()) if (id > highest) highest = id
    this.vocabSize = highest + 1
    const idOf = (token: string | undefined, name: string | undefined): number | undefined => {
      const id = token === undefined ? undefined : ids.get(token)
      if (id === undefined && token !== undefined && name !== undefined)
        throw new AlmaError('ERR_ALMA_TOKENIZER', `${this.file}: has no token ${JSON.stringify(token)}, the ${name}`)
      return id
    }
    const unk = content.model.unk_token
    this.bosTokenId = idOf(named.bos, 'bos_token') ?? ids.get('<s>') ?? ids.get('<|begin_of_text|>')
    this.eosTokenId = idOf(named.eos, 'eos_token') ?? ids.get('</s>') ?? ids.get('<|end_of_text|>')
    this.padTokenId = idOf(named.pad, undefined)
    this.unkTokenId = idOf(named.unk, undefined) ?? idOf(typeof unk === 'string' ? unk : undefined, undefined)
    const special = new Set(content.added.filter((token) => token.special).map(({ id }) => id))
    for (const id of [this.bosTokenId, this.eosTokenId]) if (id !== undefined) special.add(id)
    if (this.unkTokenId !== undefined) special.delete(this.unkTokenId)
    this.#special = special
    this.#fast = fastEncoder(content)
    this.#newStream = this.#streams(ids)
    if (this.#fast === undefined) this.#plain = this.#open(withoutSpecialTokens(content, special))
  }

  encode(text: string, options: EncodeOptions = {}): number[] {
    const ids: number[] = []
    if (options.addBos === true) ids.push(required(this.bosTokenId, 'beginning', this.file))
    if (options.parseSpecial === true) {
      this.#parsing ??= this.#open(this.#content.json)
      append(ids, this.#parsing.encode(text, { add_special_tokens: false }).ids)
    } else if (this.#fast !== undefined) this.#fast(text, ids)
    else {
      this.#plain ??= this.#open(withoutSpecialTokens(this.#content, this.#special))
      append(ids, this.#plain.encode(text, { add_special_tokens: false }).ids)
    }
    if (options.addEos === true) ids.push(required(this.eosTokenId, 'end', this.file))
    return ids
  }

  decode(ids: readonly number[], options: DecodeOptions = {}): string {
    return decodeAll(this.streamDecoder(options), ids)
  }

  streamDecoder(options: DecodeOptions = {}): StreamDecoder {
    return this.#newStream(options.skipSpecialTokens ?? true)
  }

  isSpecial(id: number): boolean {
    return this.#special.has(id)
  }

  save(directory: string): Promise<void> {
    return copyTokenizerFiles(this.#directory, directory)
  }

  #open(json: object): LibraryTokenizer {
    try {
      return new LibraryTokenizer(json, {})
    } catch (error) {
      throw new AlmaError('ERR_ALMA_TOKENIZER', `${this.file}: cannot be used: ${messageOf(error)}`, { cause: error })
    }
  }

  #streams(ids: ReadonlyMap<string, number>): (skipSpecialTokens: boolean) => StreamDecoder {
    const decoder = decoderKind(this.#content.json)
    const added = new Set(this.#content.added.map(({ id }) => id))
    if (decoder?.kind === 'byteFallback') {
      const surfaces: TokenSurface[] = []
      for (const [piece, id] of ids) {
        const byte = byteOfPiece(piece)
        if (this.#special.has(id)) surfaces[id] = { kind: 'control', text: piece }
        else if (id === this.unkTokenId) surfaces[id] = { kind: 'unknown', text: ' \u2047 ' }
        else if (byte !== undefined) surfaces[id] = { kind: 'byte', byte }
        else surfaces[id] = { kind: added.has(id) ? 'unknown' : 'text', text: piece.replaceAll(META_SPACE, ' ') }
      }
      const leading = decoder.stripsPrefix ? 'first' : 'keep'
      return (skip) => new PieceStreamDecoder(surfaces, leading, skip)
    }
    if (decoder?.kind === 'byteLevel') {
      const surfaces: ByteLevelSurface[] = []
      for (const [piece, id] of ids) {
        const special = this.#special.has(id)
        surfaces[id] = special || added.has(id) ? { text: piece, special } : bytesOfPiece(piece)
      }
      return (skip) => new ByteLevelStreamDecoder(surfaces, skip)
    }
    return (skip) => new WholeDecoder((list) => this.#decodeByLibrary(list, skip))
  }

  #decodeByLibrary(ids: readonly number[], skip: boolean): string {
    this.#parsing ??= this.#open(this.#content.json)
    const known = ids.filter((id) => id < this.vocabSize && !(skip && this.#special.has(id)))
    return known.length === 0 ? '' : this.#parsing.decode(known, { clean_up_tokenization_spaces: false })
  }
}

/** For decoders whose text may still change with the next token: nothing is certain before the end. */
class WholeDecoder implements StreamDecoder {
  readonly #decode: (ids: readonly number[]) => string
  readonly #ids: number[] = []

  constructor(decode: (ids: readonly number[]) => string) {
    this.#decode = decode
  }

  push(id: number): string {
    if (!Number.isSafeInteger(id) || id < 0) throw new AlmaError('ERR_ALMA_OPTION', `decode: ${id} is not a token id`)
    this.#ids.push(id)
    return ''
  }

  end(): string {
    return this.#decode(this.#ids.splice(0))
  }
}

function append(out: number[], ids: readonly number[]): void {
  for (const id of ids) out.push(id)
}

function required(id: number | undefined, what: string, file: string): number {
  if (id === undefined) throw new AlmaError('ERR_ALMA_TOKENIZER', `${file}: has no ${what}-of-sentence token`)
  return id
}

/** The file's content without its special tokens, nor merges that would yield one. */
function withoutSpecialTokens(content: TokenizerJsonContent, special: ReadonlySet<number>): object {
  const { json, model } = content
  const gone = new Set(content.added.filter(({ id }) => special.has(id)).map((token) => token.content))
  for (const [piece, id] of content.vocabulary) if (special.has(id)) gone.add(piece)
  const kept = content.added.filter((token) => !token.special && !gone.has(token.content)).map(({ id }) => id)
  const tokens: readonly unknown[] = Array.isArray(json.added_tokens) ? json.added_tokens : []
  const vocab = model.vocab
  const merges = model.merges
  return {
    ...json,
    added_tokens: tokens.filter((token) => isObject(token) && kept.includes(token.id as number)),
    post_processor: null,
    model: {
      ...model,
      ...(isObject(vocab)
        ? { vocab: Object.fromEntries(Object.entries(vocab).filter(([piece]) => !gone.has(piece))) }
        : {}),
      ...(Array.isArray(merges)
        ? { merges: merges.filter((merge) => !gone.has((mergePair(merge) ?? []).join(''))) }
        : {}),
    },
  }
}

/**
 * Opens `tokenizer.json` of a folder.
 * @throws AlmaError ERR_ALMA_TOKENIZER when it is not JSON, lacks a field, or uses what the library does not know
 */
export async function openHuggingFaceTokenizer(directory: string): Promise<HuggingFaceTokenizer> {
  const path = join(directory, 'tokenizer.json')
  const json = await readJsonObject(path)
  if (json === undefined) throw new AlmaError('ERR_ALMA_TOKENIZER', `${path}: no such file`)
  return new HuggingFaceTokenizer(checkTokenizerJson(json, path), directory, await readSpecialTokens(directory))
}
