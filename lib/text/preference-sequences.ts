/** From preference rows to token ids and labels. */
import type { LanguageLike } from './prompt.js'
import type { Tokenizer } from './tokenizer.js'
import { type ParallelExampleOptions, trainingPrompt } from './training-examples.js'

export interface PreferencePair {
  readonly source: string
  readonly chosen: string
  readonly rejected: string
  readonly from: LanguageLike
  readonly to: LanguageLike
}

export interface PreferenceExampleOptions
  extends Pick<ParallelExampleOptions, 'separator' | 'template' | 'promptStyle'> {
  /** Tokens of prompt and response, BOS and EOS included. Default 512. */
  readonly maxLength?: number
  /** Tokens that are kept of a prompt where both are longer together, BOS included. Default 256. */
  readonly maxPromptLength?: number
}

/** A tokenised response with its prompt; the labels are the ids from `firstLabel` on. */
export interface PreferenceSequence {
  readonly ids: readonly number[]
  readonly firstLabel: number
}

/**
 * BOS, prompt, response and EOS for the chosen and the rejected response (`tokenize_row` of trl's CPOTrainer): prompt and response are
 * tokenised as one string, and the labels begin where the ids are no longer those of the prompt alone. When the longer response does not
 * fit behind the prompt, both prompts keep their end, and then the responses are cut, without EOS behind the cut. Unlike trl, a cut prompt
 * keeps its BOS.
 */
export function preferenceSequences(
  tokenizer: Tokenizer,
  pair: PreferencePair,
  options: PreferenceExampleOptions = {},
): { readonly chosen: PreferenceSequence; readonly rejected: PreferenceSequence; readonly cut: boolean } {
  const { maxLength = 512, maxPromptLength = 256 } = options
  const prompt = trainingPrompt(pair, options)
  const promptIds = tokenizer.encode(prompt)
  const tokenise = (response: string): { prompt: number[]; response: number[] } => {
    const full = tokenizer.encode(prompt + response, { addBos: true, addEos: true })
    let begin = 1
    while (begin <= promptIds.length && full[begin] === promptIds[begin - 1]) begin++
    return { prompt: full.slice(0, begin), response: full.slice(begin) }
  }
  const parts = [tokenise(pair.chosen), tokenise(pair.rejected)] as const
  const longest = Math.max(...parts.map(({ response }) => response.length))
  const isTooLong = (length: number): boolean => length + longest > maxLength
  const cut = parts.some((part) => isTooLong(part.prompt.length))
  const fitted = ({ prompt: whole, response }: (typeof parts)[number]): PreferenceSequence => {
    const bos = whole.slice(0, 1)
    const shortens = isTooLong(whole.length) && whole.length > maxPromptLength
    const kept = shortens ? [...bos, ...whole.slice(whole.length - maxPromptLength + bos.length)] : whole
    const most = isTooLong(kept.length) ? maxLength - maxPromptLength : response.length
    return { ids: [...kept, ...response.slice(0, most)], firstLabel: kept.length }
  }
  return { chosen: fitted(parts[0]), rejected: fitted(parts[1]), cut }
}
