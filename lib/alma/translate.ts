import {
  type Generation,
  generateTokens,
  type ResolvedDecoding,
  resolveDecoding,
  streamTokens,
} from '../decode/index.js'
import type { LlamaForCausalLM } from '../model/index.js'
import { cleanTranslation, encodeTranslation, type Tokenizer } from '../text/index.js'
import { candidateOptions, chooseByRisk } from './minimum-bayes-risk.js'
import { decodingOptions, promptOptions, type TranslateOptions, type Translation } from './options.js'
import { withStops } from './stop-at-newline.js'
import { prefixedPrompt } from './target-prefix.js'
import { TranslationLine } from './translation-line.js'

/** What translating needs of an Alma. */
export interface Translator {
  readonly model: LlamaForCausalLM
  readonly tokenizer: Tokenizer
}

export function isBlank(text: string): boolean {
  return text.trim() === ''
}

function translationDecoding({ model, tokenizer }: Translator, options: TranslateOptions): ResolvedDecoding {
  return withStops(resolveDecoding(decodingOptions(options), model.config), () => tokenizer)
}

export function promptIds({ tokenizer }: Translator, source: string, options: TranslateOptions): number[] {
  return encodeTranslation(tokenizer, { ...promptOptions(options, source), source })
}

export interface TranslateCall {
  /** Number of each text in a larger call: sampling depends on it. Default 0, 1, 2, … */
  readonly numbers?: readonly number[]
  /** Whether a text goes on with the one before: it has no `targetPrefix` then. */
  readonly continues?: readonly boolean[]
}

function withoutPrefix({ targetPrefix: _, ...options }: TranslateOptions): TranslateOptions {
  return options
}

/**
 * Translates texts in batches. Blank ones give '' without running the model.
 *
 */
export async function translateTexts(
  translator: Translator,
  texts: readonly string[],
  options: TranslateOptions,
  { numbers = [...texts.keys()], continues = [] }: TranslateCall = {},
): Promise<Translation[]> {
  const decoding = translationDecoding(translator, candidateOptions(options))
  const generations = new Map<number, Generation>()
  // Blank texts take part in the numbering, so that the others do not depend on them.
  const indices = [...texts.keys()].filter((index) => !isBlank(texts[index] ?? ''))
  const prompts = indices.map((index) =>
    prefixedPrompt(translator, texts[index] ?? '', continues[index] === true ? withoutPrefix(options) : options),
  )
  const { onProgress } = options
  const ids = prompts.map(({ prompt }) => prompt)
  const results = await generateTokens(translator.model, ids, decoding, {
    prefixes: prompts.map(({ prefix }) => prefix),
    indices: indices.map((index) => numbers[index] ?? index),
    onProgress,
  })
  for (const [i, index] of indices.entries()) {
    const result = results[i]
    if (result !== undefined) generations.set(index, result)
  }
  return texts.map((source, index) =>
    chooseByRisk(translationOf(translator.tokenizer, source, generations.get(index), options), options),
  )
}

function translationOf(
  tokenizer: Tokenizer,
  source: string,
  generation: Generation | undefined,
  { to }: TranslateOptions,
): Translation {
  if (generation === undefined) return { text: '', source, score: 0, tokenIds: [], finishReason: 'eos' }
  const answer = ({ tokenIds, score, finishReason }: Omit<Generation, 'candidates'>) => ({
    text: cleanTranslation(tokenizer.decode(tokenIds), { to }),
    score,
    tokenIds,
    finishReason,
  })
  const { candidates } = generation
  return { source, ...answer(generation), ...(candidates && { candidates: candidates.map(answer) }) }
}

/** Pieces of the translation of one text; joined, they are the text that {@link translateTexts} gives. */
export async function* streamTranslation(
  translator: Translator,
  source: string,
  options: TranslateOptions,
  number = 0,
): AsyncGenerator<string, void, undefined> {
  if (isBlank(source)) return
  if (options.mbr !== undefined) {
    // Which candidate it will be is known at the end only.
    const [translation] = await translateTexts(translator, [source], options, { numbers: [number] })
    if (translation !== undefined && translation.text !== '') yield translation.text
    return
  }
  const decoding = translationDecoding(translator, options)
  const line = new TranslationLine(options.to)
  const decoder = translator.tokenizer.streamDecoder()
  const { prompt, prefix } = prefixedPrompt(translator, source, options)
  for await (const id of streamTokens(translator.model, prompt, decoding, number, prefix)) {
    const piece = line.push(decoder.push(id))
    if (piece !== '') yield piece
    if (line.done) return
  }
  const rest = line.push(decoder.end()) + line.end()
  if (rest !== '') yield rest
}
