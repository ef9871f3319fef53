/** What a tokenizer does, and how one is found in a model's folder. */
import { copyFile, mkdir, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { AlmaError, ioError } from '../errors.js'
import { openHuggingFaceTokenizer } from './huggingface-tokenizer.js'
import { openSentencePieceTokenizer } from './sentencepiece.js'

export interface EncodeOptions {
  /** Put the beginning-of-sentence id in front. Default false. */
  readonly addBos?: boolean
  /** Put the end-of-sentence id behind. Default false. */
  readonly addEos?: boolean
  /**
   * Turn text such as `</s>`, `[INST]` or `<|eot_id|>` into the special token of that name. Default false: text stays text, so
   * that no source sentence can end a prompt or forge a turn.
   */
  readonly parseSpecial?: boolean
}

export interface DecodeOptions {
  /** Leave out control tokens such as `<s>` and `</s>`. Default true. */
  readonly skipSpecialTokens?: boolean
}

/**
 * Decodes ids one by one as they are generated. A piece never holds a part of a character: bytes are held back until their
 * character is complete or known to be broken. The pieces together are what `decode` returns for all the ids.
 */
export interface StreamDecoder {
  push(id: number): string
  /** The rest that was held back. Call it once, after the last id. */
  end(): string
}

export interface Tokenizer {
  /** One more than the highest token id; a model's embedding may have more rows (padding). */
  readonly vocabSize: number
  readonly bosTokenId: number | undefined
  readonly eosTokenId: number | undefined
  readonly padTokenId: number | undefined
  readonly unkTokenId: number | undefined
  /** Path of the file that it was read from. */
  readonly file: string
  /** Token ids of a text. */
  encode(text: string, options?: EncodeOptions): number[]
  /** The text of token ids. Ids above the vocabulary have no text. Throws ERR_ALMA_OPTION for what is no id at all. */
  decode(ids: readonly number[], options?: DecodeOptions): string
  streamDecoder(options?: DecodeOptions): StreamDecoder
  /** Whether an id is a control token (`<s>`, `</s>`, `<|eot_id|>`, …): never made from text unless `parseSpecial` asks for it. */
  isSpecial(id: number): boolean
  /** Copies the tokenizer's files into a folder, so that Hugging Face tools find them there. */
  save(directory: string): Promise<void>
}

export interface TokenizerExpectations {
  /** Rows of the model's embedding: a token id beyond them is an error. */
  readonly vocabSize?: number
}

const TOKENIZER_FILES = [
  'tokenizer.model',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.jinja',
] as const

/**
 * Opens the tokenizer of a model's folder: `tokenizer.model` (SentencePiece, exact and fast), else `tokenizer.json`
 * (Hugging Face); undefined when it has neither. Where a folder has both, as LLaMA-2's do, they describe the same tokenizer.
 * @throws AlmaError ERR_ALMA_TOKENIZER when the file is damaged or has ids that the model has no row for
 */
export async function loadTokenizer(
  directory: string,
  expectations: TokenizerExpectations = {},
): Promise<Tokenizer | undefined> {
  const tokenizer = (await exists(join(directory, 'tokenizer.model')))
    ? await openSentencePieceTokenizer(directory)
    : (await exists(join(directory, 'tokenizer.json')))
      ? await openHuggingFaceTokenizer(directory)
      : undefined
  const rows = expectations.vocabSize
  if (tokenizer !== undefined && rows !== undefined && tokenizer.vocabSize > rows)
    throw new AlmaError(
      'ERR_ALMA_TOKENIZER',
      `${tokenizer.file}: has token ids up to ${tokenizer.vocabSize - 1}, but the model's vocabulary has only ${rows} rows; ` +
        'the tokenizer belongs to another model',
    )
  return tokenizer
}

/** Implements {@link Tokenizer.save} for tokenizers that were read from a folder. */
export async function copyTokenizerFiles(from: string, to: string): Promise<void> {
  if (resolve(from) === resolve(to)) return
  try {
    await mkdir(to, { recursive: true })
    for (const name of TOKENIZER_FILES) {
      if (await exists(join(from, name))) await copyFile(join(from, name), join(to, name))
    }
  } catch (error) {
    throw error instanceof AlmaError ? error : ioError('write the tokenizer to', to, error)
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile()
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT' || (error as { code?: string }).code === 'ENOTDIR') return false
    throw ioError('read', path, error)
  }
}
