import { type BeamRules, beamRules, type Candidate } from './beam-rules.js'
import type { BlockPool } from './block-pool.js'
import { Branch } from './branch.js'
import type { Generation } from './generation.js'
import type { ResolvedDecoding } from './options.js'

/** What the device chose for the rows of a step. */
export type Chosen =
  | { readonly ids: Int32Array; readonly logprobs: Float32Array }
  | {
      /** [groups · k] each. */
      readonly totals: Float32Array
      readonly tokens: Int32Array
      readonly parents: Int32Array
      readonly k: number
    }

/** What a request reports to. */
export interface Job {
  /** The request got one more token, or it is done. */
  advanced(request: DecodingRequest): void
  /** All requests of the job are over. */
  failed(error: unknown): void
}

export interface RequestPrompt {
  /** Number of the prompt in its call: its random numbers depend on it. */
  readonly index: number
  /** With what the answer has to begin. */
  readonly ids: Int32Array
  /** How many of the ids the answer begins with. */
  readonly prefixLength: number
  /** Pads in front that history and lengths count; see `padTokenId`. */
  readonly pads: number
  /** Most tokens that are generated. */
  readonly room: number
}

/** One prompt on its way through the decoder. */
export abstract class DecodingRequest {
  readonly prompt: RequestPrompt
  readonly decoding: ResolvedDecoding
  readonly job: Job
  /** Use blocks that other prompts with the same beginning have filled. */
  readonly sharesPrefix: boolean
  /** Prompt tokens that are in the cache. */
  prefilled = 0
  cancelled = false
  /** Continuations that are not finished: a row each in the next step. Before the first one, the prompt itself. */
  protected branches: Branch[]

  constructor(prompt: RequestPrompt, decoding: ResolvedDecoding, job: Job, sharesPrefix: boolean) {
    this.prompt = prompt
    this.decoding = decoding
    this.job = job
    this.sharesPrefix = sharesPrefix
    this.branches = [new Branch(prompt.index)]
  }

  /** Continuations at a time. */
  abstract get width(): number

  /** Rows that the choice of the first token takes: they all have the same logits. */
  abstract get firstRows(): number

  /** What the choice of the first token of an answer goes by. */
  abstract firstBranch(answer: number): Branch

  /** Takes what was chosen for its rows, the first of which is number `at` (a group's number in beam search). */
  abstract advance(pool: BlockPool, chosen: Chosen, at: number): void

  /** The answers, best first, when {@link done}. */
  abstract get result(): Generation

  get done(): boolean {
    return this.branches.length === 0
  }

  /** Whether the first token has been chosen and there is one more to come. */
  get isDecoding(): boolean {
    const [branch] = this.branches
    return branch !== undefined && branch.tokens.length > 0
  }

  get rows(): readonly Branch[] {
    return this.branches
  }

  /** What the first continuation has, the prefix that was given included. */
  get tokensSoFar(): readonly number[] {
    return [...this.#prefix, ...(this.branches[0]?.tokens ?? [])]
  }

  /** Prompt and answer, tokens. */
  get capacity(): number {
    return this.prompt.ids.length + this.prompt.room
  }

  /** Most blocks that it may come to hold: whole blocks of the prompt are shared by all continuations. */
  reservation(blockSize: number): number {
    const shared = Math.floor(this.prompt.ids.length / blockSize)
    return shared + this.width * (Math.ceil(this.capacity / blockSize) - shared)
  }

  releaseBlocks(pool: BlockPool): void {
    for (const branch of this.branches) branch.release(pool)
    this.branches = []
  }

  /** Whether, and why, the token ends an answer with these tokens before it. */
  protected ends(tokens: readonly number[], token: number): 'eos' | 'stop' | undefined {
    const { eosTokenIds, stops } = this.decoding
    if (eosTokenIds.includes(token)) return 'eos'
    return stops?.(token, () => [...this.#prefix, ...tokens]) === true ? 'stop' : undefined
  }

  protected generation(answers: readonly Omit<Generation, 'candidates'>[]): Generation {
    const prefix = this.#prefix
    const whole = answers.map((answer) => ({ ...answer, tokenIds: [...prefix, ...answer.tokenIds] }))
    const [best = { tokenIds: prefix, score: 0, sumLogprob: 0, finishReason: 'aborted' as const }] = whole
    return this.decoding.numReturnSequences > 1 ? { ...best, candidates: whole } : best
  }

  get #prefix(): number[] {
    const { ids, prefixLength } = this.prompt
    return [...ids.subarray(ids.length - prefixLength)]
  }
}

export function makeRequest(
  prompt: RequestPrompt,
  decoding: ResolvedDecoding,
  job: Job,
  sharesPrefix: boolean,
): DecodingRequest {
  const Kind = decoding.numBeams > 1 ? BeamRequest : AnswersRequest
  return new Kind(prompt, decoding, job, sharesPrefix)
}

/** Greedy decoding, and sampling: one answer, or several that know nothing of each other. */
class AnswersRequest extends DecodingRequest {
  readonly #finished: Omit<Generation, 'candidates'>[] = []

  get width(): number {
    return this.decoding.numReturnSequences
  }

  get firstRows(): number {
    return this.width
  }

  firstBranch(answer: number): Branch {
    return new Branch(streamOf(this.prompt.index, answer))
  }

  advance(pool: BlockPool, chosen: Chosen, at: number): void {
    if (!('ids' in chosen)) return
    const [root] = this.branches
    if (root !== undefined && this.#finished.length === 0 && this.branches.length < this.width) {
      for (let answer = 1; answer < this.width; answer++)
        this.branches.push(root.fork(pool, streamOf(root.stream, answer)))
    }
    this.branches = this.branches.filter((branch, i) => {
      const token = chosen.ids[at + i] ?? 0
      const finishReason =
        this.ends(branch.tokens, token) ?? (branch.tokens.length + 1 >= this.prompt.room ? 'length' : undefined)
      branch.tokens.push(token)
      branch.sumLogprob += chosen.logprobs[at + i] ?? Number.NaN
      if (finishReason === undefined) return true
      branch.release(pool)
      const { tokens: tokenIds, sumLogprob } = branch
      const score = sumLogprob / tokenIds.length ** this.decoding.lengthPenalty
      this.#finished.push({ tokenIds, score, sumLogprob, finishReason })
      return false
    })
  }

  get result(): Generation {
    return this.generation(this.#finished.toSorted((a, b) => b.score - a.score))
  }
}

/** Random numbers of a prompt's answers: those of further ones are far from those of the other prompts' first ones. */
export function streamOf(stream: number, answer: number): number {
  return (stream + Math.imul(answer, 0x9e3779b1)) | 0
}

/** Beam search. */
class BeamRequest extends DecodingRequest {
  readonly #rules: BeamRules

  constructor(prompt: RequestPrompt, decoding: ResolvedDecoding, job: Job, sharesPrefix: boolean) {
    super(prompt, decoding, job, sharesPrefix)
    const { numBeams, lengthPenalty, earlyStopping, compat, sampling, eosTokenIds } = decoding
    this.#rules = beamRules({
      numBeams,
      lengthPenalty,
      earlyStopping,
      compat,
      sampled: sampling !== undefined,
      promptLength: prompt.pads + prompt.ids.length,
      room: prompt.room,
      eosTokenId: eosTokenIds[0],
      ends: (tokens, token) => this.ends(tokens, token),
    })
  }

  get width(): number {
    return this.decoding.numBeams
  }

  get firstRows(): number {
    return 1
  }

  firstBranch(): Branch {
    return new Branch(this.prompt.index)
  }

  advance(pool: BlockPool, chosen: Chosen, at: number): void {
    if (!('totals' in chosen)) return
    // Plain loops, as in all that runs once a token.
    const { totals, tokens, parents, k } = chosen
    const candidates: Candidate[] = []
    for (let i = at * k; i < (at + 1) * k; i++) {
      candidates.push({ total: totals[i] ?? Number.NaN, token: tokens[i] ?? 0, parent: parents[i] ?? 0 })
    }
    const before = this.branches
    const histories: number[][] = []
    const children: number[] = []
    for (const branch of before) {
      histories.push(branch.tokens)
      children.push(0)
    }
    const next = this.#rules.step(candidates, histories)
    if (this.#rules.done) {
      this.releaseBlocks(pool)
      return
    }
    for (const { parent } of next) children[parent] = (children[parent] ?? 0) + 1
    for (let i = 0; i < before.length; i++) if (children[i] === 0) before[i]?.release(pool)
    this.branches = []
    for (const { total, token, parent } of next) {
      const from = before[parent]
      if (from === undefined) continue
      // The last child takes the parent's place.
      const left = (children[parent] ?? 0) - 1
      children[parent] = left
      const branch = left === 0 ? from : from.fork(pool)
      branch.tokens.push(token)
      branch.sumLogprob = total
      this.branches.push(branch)
    }
  }

  get result(): Generation {
    const answers = this.#rules.results().slice(0, this.decoding.numReturnSequences)
    return this.generation(
      answers.map(({ tokens: tokenIds, score, sumLogprob, finishReason }) => ({
        tokenIds,
        score,
        sumLogprob,
        finishReason,
      })),
    )
  }
}
