/** `'stop'`: the answer's first line is complete (`stopAtNewline`). */
export type FinishReason = 'eos' | 'length' | 'stop' | 'aborted'

/** What was generated after one prompt. */
export interface Generation {
  /** Generated ids, behind those of `prefixTokenIds`; the last is EOS when `finishReason` is 'eos'. */
  readonly tokenIds: readonly number[]
  /** `tokenIds` as text, without control tokens; absent when the model has no tokenizer. */
  readonly text?: string
  /** sumLogprob ÷ length^lengthPenalty, nats; what the length is, `compat` says. */
  readonly score: number
  /**
   * Sum of the log-probabilities of the generated ids in nats, after `repetitionPenalty` and bans; before `temperature`, but in beam
   * sampling after it. A prefix that was given is not counted.
   */
  readonly sumLogprob: number
  readonly finishReason: FinishReason
  /** The `numReturnSequences` best answers, best first, this one among them; absent when one was asked for. */
  readonly candidates?: readonly Omit<Generation, 'candidates'>[]
}
