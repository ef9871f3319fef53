/**
 * Documents as segments that are translated one by one. Models of the ALMA kind are trained on single sentences and answer
 * with a single line, so a document is cut at its lines, long lines at sentence bounds, and sentences that are still too
 * long at clause or word bounds; the translations are joined again by the white space that stood between the pieces.
 */
import { type Language, resolveLanguage } from './languages.js'
import type { LanguageLike } from './prompt.js'

/**
 * - `auto`: lines apart; a line that is too long in sentences, as many together as fit
 * - `lines`: lines apart, and nothing else: a line that is too long is an error
 * - `sentences`: every sentence apart
 * - `none`: the text as it is; of an answer with several lines, only the first is taken, as in ALMA
 */
export type SplitMode = 'auto' | 'lines' | 'sentences' | 'none'

export const splitModes: readonly SplitMode[] = ['auto', 'lines', 'sentences', 'none']

export interface SplitOptions {
  readonly from: LanguageLike
  readonly to: LanguageLike
  readonly mode: SplitMode
  /** Whether a segment is short enough to be translated in one piece. Monotone: a part of what fits also fits. */
  readonly fits: (segment: string) => boolean
}

export interface Document {
  /** Texts to translate, trimmed and not blank. */
  readonly segments: readonly string[]
  /** What stands before a segment; at `segments.length`, what stands at the end. */
  gap(index: number): string
  /** The translated document. @param translations one for each segment */
  join(translations: readonly string[]): string
}

/** Languages written without spaces between words (and between sentences). */
const SPACELESS = new Set(['zh', 'ja', 'th'])

const codeOf = (language: LanguageLike): string =>
  (typeof language === 'string' ? resolveLanguage(language) : (language as Language)).code

export function splitDocument(text: string, { from, to, mode, fits }: SplitOptions): Document {
  const segments: string[] = []
  /** `gaps[i]` stands before segment i, the last one at the end. */
  const gaps: string[] = ['']
  const addGap = (gap: string): void => {
    gaps[gaps.length - 1] += gap
  }
  const add = (segment: string): void => {
    const body = segment.trim()
    if (body === '') {
      addGap(segment)
      return
    }
    const start = segment.indexOf(body)
    addGap(segment.slice(0, start))
    segments.push(body)
    gaps.push(segment.slice(start + body.length))
  }

  const language = codeOf(from)
  const target = codeOf(to)
  for (const line of mode === 'none' ? [text] : splitLines(text)) {
    const first = segments.length
    if (mode === 'none' || mode === 'lines' || (mode === 'auto' && fits(line.trim()))) add(line)
    else for (const part of splitLine(line, language, mode, fits)) add(part)
    // Between sentences of one line, the white space that the target language has there.
    for (let i = first + 1; i < segments.length; i++) gaps[i] = sentenceGap(gaps[i] ?? '', target)
  }
  return {
    segments,
    gap: (index) => gaps[index] ?? '',
    join: (translations) => gaps.map((gap, i) => gap + (translations[i] ?? '')).join(''),
  }
}

function sentenceGap(gap: string, target: string): string {
  if (SPACELESS.has(target)) return gap === ' ' ? '' : gap
  return gap === '' ? ' ' : gap
}

/** Lines with what ends them: joined, they are the text. */
function splitLines(text: string): string[] {
  return text.match(/[^\r\n\u2028\u2029]*(?:\r\n|[\r\n\u2028\u2029])|[^\r\n\u2028\u2029]+/g) ?? []
}

function splitLine(line: string, language: string, mode: SplitMode, fits: SplitOptions['fits']): string[] {
  const pieces: string[] = []
  for (const sentence of sentencesOf(line, language)) {
    const last = pieces.at(-1)
    // As few pieces as possible: a model that sees neighbouring sentences together translates them better.
    if (mode === 'auto' && last !== undefined && fits((last + sentence).trim())) pieces[pieces.length - 1] += sentence
    else if (fits(sentence.trim())) pieces.push(sentence)
    else pieces.push(...splitSentence(sentence, language, fits))
  }
  return pieces
}

/** Sentences with the white space behind them: joined, they are the line. */
export function sentencesOf(line: string, language: string): string[] {
  const segmenter = new Intl.Segmenter(language, { granularity: 'sentence' })
  const sentences: string[] = []
  for (const { segment } of segmenter.segment(line)) {
    const last = sentences.at(-1)
    if (last !== undefined && continues(last, segment)) sentences[sentences.length - 1] += segment
    else sentences.push(segment)
  }
  return sentences
}

/** Unicode's rules break behind every "Dr. M": an abbreviation, an initial or an ordinal number ends no sentence. */
function continues(before: string, after: string): boolean {
  const end = before.trimEnd()
  if (
    /(?:^|[\s(])(?:\p{Lu}|\p{Nd}{1,2}|[Dd]r|[Pp]rof|[Mm]rs?|[Mm]s|[Ss]t|[Nn]r|[Nn]o|[Cc]a|[Bb]zw|[Uu]sw|[Uu]\.a|[Zz]\.B|[Dd]\.h|e\.g|i\.e|vs|etc|Art|Abs|Bd|[Tt]el|[Ss]og|[Ee]vtl|[Ii]nkl|[Mm]ax|[Mm]in|[Vv]gl)\.$/u.test(
      end,
    )
  )
    return true
  return /^\p{Ll}/u.test(after)
}

/** Where a sentence may be cut, best places first. */
const BOUNDARIES: readonly RegExp[] = [
  /[;:\u061b\uff1b\uff1a]\s*|\s+[\u2013\u2014]\s+/gu,
  /[,\u060c\u3001\uff0c]\s*/gu,
  /\s+/gu,
]

/** A sentence in pieces that fit, cut near the middle, again and again. */
function splitSentence(sentence: string, language: string, fits: SplitOptions['fits']): string[] {
  if (fits(sentence.trim())) return [sentence]
  const cut = cutOf(sentence, language)
  if (cut === undefined) return [sentence]
  return [
    ...splitSentence(sentence.slice(0, cut), language, fits),
    ...splitSentence(sentence.slice(cut), language, fits),
  ]
}

function cutOf(sentence: string, language: string): number | undefined {
  const middle = sentence.length / 2
  // A cut in the outer quarters leaves one part nearly as long as the whole.
  const central = (at: number): boolean => at > sentence.length / 4 && at < (3 * sentence.length) / 4
  const nearest = (cuts: readonly number[]): number | undefined =>
    cuts.toSorted((a, b) => Math.abs(a - middle) - Math.abs(b - middle))[0]
  for (const boundary of BOUNDARIES) {
    const cuts = [...sentence.matchAll(boundary)].map(({ index, 0: match }) => index + match.length)
    const cut = nearest(cuts.filter((at) => central(at) && !isInsideNumber(sentence, at)))
    if (cut !== undefined) return cut
  }
  for (const granularity of ['word', 'grapheme'] as const) {
    const segmenter = new Intl.Segmenter(language, { granularity })
    const cuts = [...segmenter.segment(sentence)].map(({ index }) => index).filter((at) => at > 0)
    const cut = nearest(cuts)
    if (cut !== undefined) return cut
  }
  return undefined
}

/** "3,5" and "12:30" stay whole. */
function isInsideNumber(sentence: string, at: number): boolean {
  return /\p{Nd}[,:]$/u.test(sentence.slice(Math.max(0, at - 2), at)) && /^\p{Nd}/u.test(sentence.slice(at, at + 2))
}
