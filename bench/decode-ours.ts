/** Our own decoding as a contestant. */
import { readFileSync } from 'node:fs'
import { performance } from 'node:perf_hooks'
import { type GenerateOptions, generateTokens, resolveDecoding } from '../lib/decode/index.js'
import type { LlamaForCausalLM } from '../lib/model/index.js'
import type { Contestant } from './turns.js'

/** Prompts continued by the library's own generation. */
export function ours(
  model: LlamaForCausalLM,
  prompts: readonly (readonly number[])[],
  options: GenerateOptions,
): Contestant {
  return async (maxNewTokens) => {
    const decoding = resolveDecoding({ maxNewTokens, eosTokenId: [], ...options }, model.config)
    const [begin, before] = [performance.now(), threadSeconds()]
    await generateTokens(model, prompts, decoding)
    return { seconds: (performance.now() - begin) / 1000, busy: threadSeconds() - before }
  }
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
