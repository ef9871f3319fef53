import { AlmaError } from '../errors.js'
import type { LlamaConfig } from '../model/index.js'
import type { ResolvedDecoding } from './options.js'

export type FinishReason = 'eos' | 'length' | 'aborted'

/** What was generated after one prompt. */
export interface Generation {
  /** Generated ids; the last is EOS when `finishReason` is 'eos'. */
  readonly tokenIds: readonly number[]
  /** `tokenIds` as text, without control tokens; absent when the model has no tokenizer. */
  readonly text?: string
  /** sumLogprob ÷ length^lengthPenalty, nats. */
  readonly score: number
  /** Sum of the log-probabilities of `tokenIds` in nats, after `repetitionPenalty` and bans, before `temperature`. */
  readonly sumLogprob: number
  readonly finishReason: FinishReason
}

/** One prompt on its way through the decoder. */
export class Sequence {
  /** Number of the prompt in its call: its random numbers depend on it. */
  readonly index: number
  readonly prompt: readonly number[]
  /** Pads in front that the history counts; see `padTokenId`. */
  readonly pads: number
  /** Tokens at most. */
  readonly room: number
  readonly generated: number[] = []
  sumLogprob = 0
  finishReason: FinishReason | undefined
  readonly #eosTokenIds: readonly number[]

  constructor(index: number, prompt: readonly number[], pads: number, room: number, eosTokenIds: readonly number[]) {
    this.index = index
    this.prompt = prompt
    this.pads = pads
    this.room = room
    this.#eosTokenIds = eosTokenIds
  }

  /** Cache tokens that it may come to. */
  get capacity(): number {
    return this.prompt.length + this.room
  }

  push(id: number, logprob: number): void {
    this.generated.push(id)
    this.sumLogprob += logprob
    if (this.#eosTokenIds.includes(id)) this.finishReason = 'eos'
    else if (this.generated.length >= this.room) this.finishReason = 'length'
  }

  result(lengthPenalty: number): Generation {
    const { generated, sumLogprob, finishReason = 'aborted' } = this
    return {
      tokenIds: generated,
      score: generated.length === 0 ? 0 : sumLogprob / generated.length ** lengthPenalty,
      sumLogprob,
      finishReason,
    }
  }
}

/**
 * @param indices number of each prompt within a larger call.
 * @throws AlmaError ERR_ALMA_CONTEXT for a prompt that leaves no room for a token, ERR_ALMA_OPTION for one without tokens.
 */
export function sequencesOf(
  prompts: readonly (readonly number[])[],
  config: LlamaConfig,
  decoding: ResolvedDecoding,
  indices?: readonly number[],
): Sequence[] {
  const context = config.maxPositionEmbeddings
  const longest = prompts.reduce((most, { length }) => Math.max(most, length), 0)
  return prompts.map((prompt, i) => {
    const index = indices?.[i] ?? i
    if (prompt.length === 0) {
      throw new AlmaError('ERR_ALMA_OPTION', `prompts: prompt ${index} has no tokens, expected at least one`)
    }
    const room = context - prompt.length
    if (room < 1) {
      throw new AlmaError(
        'ERR_ALMA_CONTEXT',
        `prompt ${index} has ${prompt.length} tokens, which leaves no room for an answer: ` +
          `the model's context (max_position_embeddings) is ${context} tokens`,
      )
    }
    const pads = decoding.padTokenId === undefined ? 0 : longest - prompt.length
    return new Sequence(index, prompt, pads, Math.min(room, decoding.maxNewTokens), decoding.eosTokenIds)
  })
}
