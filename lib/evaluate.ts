/** How well a model translates a test set. */

import { translateDocuments } from './alma/documents.js'
import { type PromptOptions, requireText, requireTranslateOptions, type TranslateOptions } from './alma/options.js'
import { scorePairs } from './alma/score.js'
import { isBlank, type Translator } from './alma/translate.js'
import { optionError } from './decode/index.js'
import { AlmaError } from './errors.js'
import { bleuTokenizerFor } from './metrics/bleu-tokenizer.js'
import { type BleuScore, type BleuTokenizer, type ChrfScore, metrics } from './metrics/index.js'
import { type LanguageLike, readParallel } from './text/index.js'
import { languageOf } from './text/prompt.js'

/** A file of sentence pairs (ALMA JSON, JSON Lines or TSV, plain or gzip); languages that it lacks are those of the options. */
export interface EvaluationFile {
  readonly path: string
  readonly from?: LanguageLike
  readonly to?: LanguageLike
}

export interface EvaluationPair {
  readonly source: string
  /** The reference translation. */
  readonly target: string
}

export type EvaluationCorpus = EvaluationFile | Iterable<EvaluationPair> | AsyncIterable<EvaluationPair>

export interface EvaluateOptions extends Omit<TranslateOptions, 'from' | 'to'> {
  /** Needed unless the corpus says them. */
  readonly from?: LanguageLike
  readonly to?: LanguageLike
  /** Of BLEU. Default: what WMT uses for the target language, 'zh' for Chinese; 'char' for Japanese and Thai; else '13a'. */
  readonly tokenize?: BleuTokenizer
  /** Also compute the loss of the references. Default true. */
  readonly loss?: boolean
}

export interface EvaluatedSentence {
  readonly source: string
  readonly reference: string
  readonly translation: string
  /** Of the translation: log-probabilities ÷ length^lengthPenalty, nats. */
  readonly score: number
}

export interface Evaluation {
  readonly bleu: BleuScore
  readonly chrf: ChrfScore
  /** Mean negative log-likelihood of the references' tokens, EOS included, nats; absent when not wanted or one is too long. */
  readonly loss?: number
  /** Sentence pairs. */
  readonly count: number
  readonly sentences: readonly EvaluatedSentence[]
  /** Tokens generated, EOS included. */
  readonly tokens: number
  /** Spent on translating. */
  readonly seconds: number
}

/**
 * Translates the sources of a corpus and compares with its references.
 *
 * @throws AlmaError ERR_ALMA_CORPUS, ERR_ALMA_IO, ERR_ALMA_OPTION, ERR_ALMA_LANGUAGE, ERR_ALMA_CONTEXT; the signal's reason.
 */
export async function evaluateCorpus(
  translator: Translator,
  corpus: EvaluationCorpus,
  options: EvaluateOptions,
): Promise<Evaluation> {
  const { tokenize: wantedTokenizer, loss: wantsLoss = true, ...rest } = options
  const file = isFile(corpus) ? corpus : undefined
  const from = file?.from ?? options.from
  const to = file?.to ?? options.to
  if (from === undefined) throw optionError('from', 'a language, as the corpus names none', from)
  if (to === undefined) throw optionError('to', 'a language, as the corpus names none', to)
  const translateOptions: TranslateOptions = { ...rest, from, to }
  requireTranslateOptions('evaluate', translateOptions)

  const pairs = await collect(corpus, from, to)
  const sources = pairs.map(({ source }) => source)
  const references = pairs.map(({ target }) => target)
  const started = performance.now()
  const translations = await translateDocuments(translator, sources, translateOptions)
  const seconds = (performance.now() - started) / 1000
  const hypotheses = translations.map(({ text }) => text)
  const loss = wantsLoss ? await referenceLoss(translator, pairs, translateOptions) : undefined
  return {
    bleu: metrics.bleu(hypotheses, references, { tokenize: wantedTokenizer ?? bleuTokenizerFor(languageOf(to).code) }),
    chrf: metrics.chrf(hypotheses, references),
    ...(loss !== undefined && { loss }),
    count: pairs.length,
    sentences: translations.map(({ source, text, score }, index) => ({
      source,
      reference: references[index] ?? '',
      translation: text,
      score,
    })),
    tokens: translations.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0),
    seconds,
  }
}

function isFile(corpus: EvaluationCorpus): corpus is EvaluationFile {
  return typeof (corpus as Partial<EvaluationFile> | undefined)?.path === 'string'
}

async function collect(corpus: EvaluationCorpus, from: LanguageLike, to: LanguageLike): Promise<EvaluationPair[]> {
  const pairs: EvaluationPair[] = []
  if (isFile(corpus)) {
    for await (const { source, target } of readParallel(corpus.path, { from, to })) pairs.push({ source, target })
    return pairs
  }
  for await (const { source, target } of corpus) {
    const where = `corpus[${pairs.length}]`
    pairs.push({ source: requireText(`${where}.source`, source), target: requireText(`${where}.target`, target) })
  }
  if (pairs.length === 0) throw new AlmaError('ERR_ALMA_CORPUS', 'evaluate: the corpus has no sentence pairs')
  return pairs
}

async function referenceLoss(
  translator: Translator,
  pairs: readonly EvaluationPair[],
  options: PromptOptions & Pick<TranslateOptions, 'signal'>,
): Promise<number | undefined> {
  const { from, to, template, separator, promptStyle, signal } = options
  // A shown example changes what the model is asked; scoring has no examples.
  const { examples, glossary = [] } = options
  if (typeof examples === 'function' || (examples?.length ?? 0) + glossary.length > 0) return undefined
  const rows = pairs.filter(({ source }) => !isBlank(source)).map((pair) => ({ ...pair, from, to }))
  try {
    const scores = await scorePairs(translator, rows, {
      ...(template !== undefined && { template }),
      ...(separator !== undefined && { separator }),
      ...(promptStyle !== undefined && { promptStyle }),
      ...(signal !== undefined && { signal }),
    })
    const tokens = scores.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0)
    const logprob = scores.reduce((sum, score) => sum + score.logprob, 0)
    return tokens === 0 ? undefined : -logprob / tokens
  } catch (error) {
    if (error instanceof AlmaError && error.code === 'ERR_ALMA_CONTEXT') return undefined
    throw error
  }
}
