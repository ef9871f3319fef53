/** Texts of any length and with any number of lines: cut into segments, translated together, and put together again. */
import { AlmaError } from '../errors.js'
import { type Document, splitDocument } from '../text/index.js'
import { emptyPrompt, type TranslateOptions, type Translation } from './options.js'
import { isBlank, streamTranslation, type Translator, translateTexts } from './translate.js'

/** ALMA trains and asks with sources of at most 256 tokens. */
const MAX_SOURCE_LENGTH = 256

/**
 * Translates texts in batches, the segments of all of them together.
 *
 * @param firstIndex index of the first text in a larger call: sampling depends on it.
 */
export async function translateDocuments(
  translator: Translator,
  texts: readonly string[],
  options: TranslateOptions,
  firstIndex = 0,
): Promise<Translation[]> {
  const splitter = splitterOf(translator, options)
  const documents = texts.map(splitter)
  const segments = documents.flatMap((document) => document.segments)
  const indices = documents.flatMap((document, text) =>
    document.segments.map((_, segment) => streamIndex(firstIndex + text, segment)),
  )
  const continues = documents.flatMap((document) => document.segments.map((_, segment) => segment > 0))
  const owners = documents.flatMap((document, text) => document.segments.map(() => text))
  const translations = await translateTexts(translator, segments, options, { numbers: indices, continues }).catch(
    (error: unknown) => {
      throw renumbered(error, (index) => firstIndex + (owners[indices.indexOf(index)] ?? 0))
    },
  )
  let next = 0
  return documents.map((document, text) => {
    const parts = translations.slice(next, next + document.segments.length)
    next += parts.length
    return joined(texts[text] ?? '', document, parts, options)
  })
}

/** Pieces of the translation of one text; joined, they are the text that {@link translateDocuments} gives. */
export async function* streamDocument(
  translator: Translator,
  text: string,
  options: TranslateOptions,
): AsyncGenerator<string, void, undefined> {
  if (isBlank(text)) return
  const document = splitterOf(translator, options)(text)
  for (const [index, segment] of document.segments.entries()) {
    const gap = document.gap(index)
    if (gap !== '') yield gap
    const { targetPrefix: _, ...rest } = options
    yield* streamTranslation(translator, segment, index === 0 ? options : rest, streamIndex(0, index))
  }
  const end = document.gap(document.segments.length)
  if (end !== '') yield end
}

/** An error about a prompt, with the number of its text in place of that of its segment. */
function renumbered(error: unknown, textOf: (index: number) => number): unknown {
  if (!(error instanceof AlmaError) || error.code !== 'ERR_ALMA_CONTEXT') return error
  const message = error.message.replace(/^prompt (\d+)/, (_, index) => `prompt ${textOf(Number(index))}`)
  return new AlmaError(error.code, message, { cause: error })
}

/** Each segment has random numbers of its own; those of a text of one segment do not depend on how texts are cut. */
function streamIndex(text: number, segment: number): number {
  return segment === 0 ? text : (text + Math.imul(segment, 0x9e3779b1)) & 0x7fffffff
}

function splitterOf(translator: Translator, options: TranslateOptions): (text: string) => Document {
  const { split: mode = 'auto', from, to } = options
  const limit = sourceLimit(translator, options)
  const { tokenizer } = translator
  const fits = (segment: string): boolean =>
    // A token is one byte at least, but for a space put in front and one that ends the prompt's colon.
    Buffer.byteLength(segment) + 2 <= limit || tokenizer.encode(segment).length <= limit
  return (text) => splitDocument(text, { from, to, mode, fits })
}

/** Tokens of a source that leave room for its translation. */
function sourceLimit(translator: Translator, options: TranslateOptions): number {
  const { model, tokenizer } = translator
  const room = model.config.maxPositionEmbeddings - tokenizer.encode(emptyPrompt(options), { addBos: true }).length
  const answer = Math.min(options.maxNewTokens ?? Number.POSITIVE_INFINITY, Math.ceil(room / 2))
  return Math.max(1, Math.min(options.maxSourceLength ?? MAX_SOURCE_LENGTH, room - answer))
}

function joined(
  source: string,
  document: Document,
  parts: readonly Translation[],
  { lengthPenalty = 1 }: TranslateOptions,
): Translation {
  const [only] = parts
  const text = document.join(parts.map((part) => part.text))
  if (only === undefined)
    return { text: isBlank(source) ? '' : text, source, score: 0, tokenIds: [], finishReason: 'eos' }
  const finishReason = parts.find((part) => part.finishReason !== 'eos')?.finishReason ?? 'eos'
  if (parts.length === 1) {
    const candidates = only.candidates?.map((candidate) => ({ ...candidate, text: document.join([candidate.text]) }))
    return { ...only, text, source, ...(candidates && { candidates }) }
  }
  const tokenIds = parts.flatMap((part) => part.tokenIds)
  const sumOf = ({ score, tokenIds: ids }: Pick<Translation, 'score' | 'tokenIds'>): number =>
    score * ids.length ** lengthPenalty
  const scoreOf = (chosen: readonly Pick<Translation, 'score' | 'tokenIds'>[]): number => {
    const length = chosen.reduce((sum, { tokenIds: ids }) => sum + ids.length, 0)
    return length === 0 ? 0 : chosen.reduce((sum, part) => sum + sumOf(part), 0) / length ** lengthPenalty
  }
  // The n-th best of a document is made of the n-th best of its segments.
  const depth = Math.max(...parts.map((part) => part.candidates?.length ?? 0))
  const candidates = Array.from({ length: depth }, (_, rank) => {
    const chosen = parts.map((part) => part.candidates?.[rank] ?? part.candidates?.at(-1) ?? part)
    return {
      text: document.join(chosen.map((part) => part.text)),
      score: scoreOf(chosen),
      tokenIds: chosen.flatMap((part) => part.tokenIds),
      finishReason: chosen.find((part) => part.finishReason !== 'eos')?.finishReason ?? ('eos' as const),
    }
  })
  return {
    text,
    source,
    score: scoreOf(parts),
    tokenIds,
    finishReason,
    segments: parts,
    ...(depth > 0 && { candidates }),
  }
}
