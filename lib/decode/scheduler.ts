import type { LlamaForCausalLM } from '../model/index.js'
import { CacheMemory } from './cache-memory.js'
import { Lane, type LaneHost } from './lane.js'
import type { DecodingRequest } from './request.js'
import { choiceSettings } from './token-choice.js'

/** What was done since the process began, for tests and benchmarks; `blocks` are those of now. */
export interface DecodingStatistics {
  readonly prefilledTokens: number
  readonly steps: number
  readonly copiedBlocks: number
  /** Blocks of the key/value cache: there, and in use. */
  readonly blocks: number
  readonly blocksInUse: number
  /** Tokens a block. */
  readonly blockSize: number
}

const schedulers = new WeakMap<LlamaForCausalLM, DecodingScheduler>()

/** All decoding of one model: calls that overlap share steps and memory. There is memory only while there are requests. */
export class DecodingScheduler implements LaneHost {
  readonly model: LlamaForCausalLM
  readonly #lanes = new Map<string, Lane>()
  #memory: CacheMemory | undefined
  #work = { prefilledTokens: 0, steps: 0, copiedBlocks: 0 }

  private constructor(model: LlamaForCausalLM) {
    this.model = model
  }

  static of(model: LlamaForCausalLM): DecodingScheduler {
    const found = schedulers.get(model) ?? new DecodingScheduler(model)
    schedulers.set(model, found)
    return found
  }

  get statistics(): DecodingStatistics {
    const { pool } = this.#memory ?? {}
    return {
      ...this.#work,
      blocks: pool?.blocks ?? 0,
      blocksInUse: pool?.inUse ?? 0,
      blockSize: CacheMemory.blockSize(this.model),
    }
  }

  get idle(): boolean {
    return [...this.#lanes.values()].every((lane) => lane.empty)
  }

  /** Requests of one call, whose tokens are all chosen in the same way. */
  submit(requests: readonly DecodingRequest[]): void {
    const [first] = requests
    if (first === undefined) return
    const settings = choiceSettings(first.decoding)
    const key = JSON.stringify(settings)
    const lane = this.#lanes.get(key) ?? new Lane(this, settings)
    this.#lanes.set(key, lane)
    lane.submit(requests)
  }

  /** Takes requests out and frees their blocks at once, also behind the step in progress. Finished ones are passed over. */
  cancel(requests: readonly DecodingRequest[]): void {
    const cancelled = new Set(requests)
    for (const request of requests) request.cancelled = true
    for (const lane of this.#lanes.values()) {
      for (const request of lane.remove(cancelled)) this.#memory?.release(request)
    }
    this.#freeWhenIdle()
  }

  memoryFor(requests: readonly DecodingRequest[]): CacheMemory {
    this.#memory ??= CacheMemory.forRequests(this.model, requests, () => {
      for (const lane of this.#lanes.values()) lane.dispose()
    })
    return this.#memory
  }

  count(work: { prefilledTokens?: number; steps?: number; copiedBlocks?: number }): void {
    this.#work.prefilledTokens += work.prefilledTokens ?? 0
    this.#work.steps += work.steps ?? 0
    this.#work.copiedBlocks += work.copiedBlocks ?? 0
  }

  finished(request: DecodingRequest): void {
    this.#memory?.release(request)
    this.#freeWhenIdle()
  }

  distrustCache(): void {
    this.#memory?.pool.forgetAll()
  }

  laneEnded(lane: Lane): void {
    for (const [key, other] of this.#lanes) if (other === lane) this.#lanes.delete(key)
  }

  /** Behind the step in progress. A lane that is still waiting for it ends by itself; what comes next gets a new one. */
  #freeWhenIdle(): void {
    if (!this.idle) return
    for (const lane of this.#lanes.values()) lane.dispose()
    this.#lanes.clear()
    this.#memory?.dispose()
    this.#memory = undefined
  }
}
