import type { TranslateOptions } from './options.js'
import { promptIds, type Translator } from './translate.js'

/** A prompt, and the ids with which its answer has to begin. */
export interface PrefixedPrompt {
  readonly prompt: readonly number[]
  readonly prefix: readonly number[]
}

/**
 * The ids of a prompt and of `targetPrefix`, tokenised as one string, as in training; by themselves where a piece would reach from one
 * into the other.
 */
export function prefixedPrompt(translator: Translator, source: string, options: TranslateOptions): PrefixedPrompt {
  const prompt = promptIds(translator, source, options)
  const { targetPrefix = '', separator = '' } = options
  if (targetPrefix === '') return { prompt, prefix: [] }
  const whole = promptIds(translator, source, { ...options, separator: separator + targetPrefix })
  const joins = prompt.every((id, i) => whole[i] === id)
  return { prompt, prefix: joins ? whole.slice(prompt.length) : translator.tokenizer.encode(targetPrefix) }
}
