/** From prompts to generated tokens. */
import { AlmaError } from '../errors.js'
import type { LlamaConfig, LlamaForCausalLM } from '../model/index.js'
import type { Generation } from './generation.js'
import type { ResolvedDecoding } from './options.js'
import { type DecodingRequest, type Job, makeRequest, type RequestPrompt } from './request.js'
import { DecodingScheduler } from './scheduler.js'

export interface GenerateProgress {
  /** Prompts whose answers are complete. */
  readonly completed: number
  readonly total: number
  /** Tokens generated so far. */
  readonly tokens: number
}

export interface GenerateCall {
  /** Number of each prompt within a larger call: its random numbers depend on it. Default 0, 1, 2, … */
  readonly indices?: readonly number[]
  /** With what the answer to each prompt has to begin. Default `prefixTokenIds`. */
  readonly prefixes?: readonly (readonly number[])[]
  readonly onProgress?: ((progress: GenerateProgress) => void) | undefined
  /** Compute a beginning that prompts have in common once. Default true; results are the same to the bit. */
  readonly sharesPrefixes?: boolean
}

/**
 * Continues every prompt (token ids), together with those of other calls in progress; results are in the order of the prompts and do
 * not depend on what is decoded beside them (unless `padTokenId` is given).
 *
 * @throws AlmaError ERR_ALMA_OPTION, ERR_ALMA_CONTEXT, ERR_ALMA_OUT_OF_MEMORY; the reason of the signal.
 */
export async function generateTokens(
  model: LlamaForCausalLM,
  prompts: readonly (readonly number[])[],
  decoding: ResolvedDecoding,
  call: GenerateCall = {},
): Promise<Generation[]> {
  const { onProgress } = call
  let completed = 0
  let tokens = 0
  const requests = await runRequests(model, prompts, decoding, call, (request) => {
    tokens += Math.max(1, request.rows.length)
    if (!request.done) return
    completed++
    onProgress?.({ completed, total: prompts.length, tokens })
  })
  return requests.map((request) => request.result)
}

/**
 * The tokens that follow one prompt, as they are generated; of a beam search, when it is over. Leaving the loop frees the memory.
 *
 * @param index number of the prompt within a larger call: its random numbers depend on it.
 * @param prefix with what the answer has to begin; these tokens come first.
 */
export async function* streamTokens(
  model: LlamaForCausalLM,
  prompt: readonly number[],
  decoding: ResolvedDecoding,
  index = 0,
  prefix = decoding.prefixTokenIds,
): AsyncGenerator<number, void, undefined> {
  const left = new AbortController()
  const onAbort = (): void => left.abort(decoding.signal?.reason)
  decoding.signal?.throwIfAborted()
  decoding.signal?.addEventListener('abort', onAbort, { once: true })
  const ready: number[] = []
  let given = 0
  let wake = (): void => {}
  const running = runRequests(
    model,
    [prompt],
    { ...decoding, signal: left.signal },
    { indices: [index], prefixes: [prefix] },
    (request) => {
      const single = decoding.numBeams === 1 && decoding.numReturnSequences === 1
      const tokens = request.done ? request.result.tokenIds : single ? request.tokensSoFar : []
      ready.push(...tokens.slice(given))
      given = Math.max(given, tokens.length)
      wake()
    },
  )
  let over = false
  const end = running.then(
    () => {},
    (error: unknown) => error,
  )
  end.finally(() => {
    over = true
    wake()
  })
  try {
    for (;;) {
      decoding.signal?.throwIfAborted()
      const next = ready.shift()
      if (next !== undefined) yield next
      else if (over) break
      else {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    }
    await running
  } finally {
    decoding.signal?.removeEventListener('abort', onAbort)
    left.abort()
    await end
  }
}

/** Runs a request for every prompt to its end; `advanced` is called after every token. */
async function runRequests(
  model: LlamaForCausalLM,
  prompts: readonly (readonly number[])[],
  decoding: ResolvedDecoding,
  call: GenerateCall,
  advanced: (request: DecodingRequest) => void,
): Promise<DecodingRequest[]> {
  const { signal } = decoding
  const scheduler = DecodingScheduler.of(model)
  const { sharesPrefixes = true } = call
  const ready = requestPrompts(prompts, model.config, decoding, call)
  model.checkTokenIds(prompts)
  signal?.throwIfAborted()
  if (prompts.length === 0) return []
  let requests: DecodingRequest[] = []
  let onAbort = (): void => {}
  try {
    await new Promise<void>((resolve, reject) => {
      let left = prompts.length
      const failed = (error: unknown): void => {
        scheduler.cancel(requests)
        reject(error)
      }
      const job: Job = {
        advanced: (request) => {
          if (request.done) left--
          // Code of the caller: what it throws ends the call, and only this one.
          try {
            advanced(request)
          } catch (error) {
            failed(error)
          }
          if (left === 0) resolve()
        },
        failed,
      }
      onAbort = () => failed(signal?.reason)
      requests = ready.map((prompt) => makeRequest(prompt, decoding, job, sharesPrefixes))
      signal?.addEventListener('abort', onAbort, { once: true })
      // Longest first: a prompt that is too large fails before work was done, and the last to finish began early.
      scheduler.submit(requests.toSorted((a, b) => b.capacity - a.capacity || a.prompt.index - b.prompt.index))
    })
    return requests
  } catch (error) {
    signal?.throwIfAborted()
    throw error
  } finally {
    signal?.removeEventListener('abort', onAbort)
    // A graph lets go of its memory behind the step in progress: whoever sees the result finds the memory free.
    if (scheduler.idle && !model.device.disposed) await model.device.synchronize().catch(() => {})
  }
}

/** @throws AlmaError ERR_ALMA_CONTEXT for a prompt that leaves no room for a token, ERR_ALMA_OPTION for one without tokens. */
function requestPrompts(
  prompts: readonly (readonly number[])[],
  config: LlamaConfig,
  decoding: ResolvedDecoding,
  { indices, prefixes }: GenerateCall,
): RequestPrompt[] {
  const { padTokenId, padLength, maxNewTokens } = decoding
  const context = config.maxPositionEmbeddings
  const longest = prompts.reduce((most, { length }) => Math.max(most, length), padLength)
  return prompts.map((prompt, i) => {
    const index = indices?.[i] ?? i
    if (prompt.length === 0) {
      throw new AlmaError('ERR_ALMA_OPTION', `prompts: prompt ${index} has no tokens, expected at least one`)
    }
    const prefix = prefixes?.[i] ?? decoding.prefixTokenIds
    const ids = Int32Array.from([...prompt, ...prefix])
    const room = context - ids.length
    if (room < 1) {
      const given = prefix.length > 0 ? ` (${prefix.length} of them the beginning of the answer)` : ''
      throw new AlmaError(
        'ERR_ALMA_CONTEXT',
        `prompt ${index} has ${ids.length} tokens${given}, which leaves no room for an answer: ` +
          `the model's context (max_position_embeddings) is ${context} tokens`,
      )
    }
    const pads = padTokenId === undefined ? 0 : longest - prompt.length
    return { index, ids, prefixLength: prefix.length, pads, room: Math.min(room, maxNewTokens) }
  })
}
