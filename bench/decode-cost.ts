/** What a decoding step and a prompt take, measured through the library's own generation. */
import { readFileSync } from 'node:fs'
import { performance } from 'node:perf_hooks'
import { type GenerateOptions, generateTokens, resolveDecoding } from '../lib/decode/index.js'
import type { LlamaForCausalLM } from '../lib/model/index.js'

/** One more token for every row. */
export interface StepCost {
  readonly seconds: number
  /** Part of it in which the JavaScript thread had a processor; where the system does not tell (but Linux), in which it was not idle. */
  readonly busy: number
}

export interface Lengths {
  /** Tokens of a short and of a long answer; between them lie the steps that are measured. */
  readonly few: number
  readonly many: number
  readonly repeats: number
}

type Prompts = readonly (readonly number[])[]

/** A long answer less a short one leaves the tokens between them, without prompt and set-up. The best of the repeats. */
export async function stepCost(
  model: LlamaForCausalLM,
  prompts: Prompts,
  { few, many, repeats }: Lengths,
  options: GenerateOptions = {},
): Promise<StepCost> {
  await generate(model, prompts, few, options)
  const fewest = { seconds: Number.POSITIVE_INFINITY, busy: Number.POSITIVE_INFINITY }
  const [short, long] = [{ ...fewest }, { ...fewest }]
  for (let i = 0; i < repeats; i++) {
    for (const [best, tokens] of [
      [short, few],
      [long, many],
    ] as const) {
      const { seconds, busy } = await generate(model, prompts, tokens, options)
      best.seconds = Math.min(best.seconds, seconds)
      best.busy = Math.min(best.busy, busy)
    }
  }
  const seconds = long.seconds - short.seconds
  return { seconds: seconds / (many - few), busy: (long.busy - short.busy) / seconds }
}

/** Seconds to the first token of one prompt. The best of the repeats. */
export async function promptSeconds(
  model: LlamaForCausalLM,
  prompt: readonly number[],
  repeats: number,
): Promise<number> {
  await generate(model, [prompt], 1, {})
  let best = Number.POSITIVE_INFINITY
  for (let i = 0; i < repeats; i++) best = Math.min(best, (await generate(model, [prompt], 1, {})).seconds)
  return best
}

async function generate(
  model: LlamaForCausalLM,
  prompts: Prompts,
  maxNewTokens: number,
  options: GenerateOptions,
): Promise<{ seconds: number; busy: number }> {
  const decoding = resolveDecoding({ maxNewTokens, eosTokenId: [], ...options }, model.config)
  const [begin, before] = [performance.now(), threadSeconds()]
  await generateTokens(model, prompts, decoding)
  return { seconds: (performance.now() - begin) / 1000, busy: threadSeconds() - before }
}

/**
 * Processor time of this thread so far. The event loop's utilisation also counts the time in which a thread of the engine has its processor: on two
 * processors that is most of it, and costs nothing.
 */
function threadSeconds(): number {
  try {
    // Linux: nanoseconds on a processor, waiting for one, and slices.
    return Number(readFileSync('/proc/thread-self/schedstat', 'utf8').split(' ', 1)[0]) / 1e9
  } catch {
    return performance.eventLoopUtilization().active / 1000
  }
}
