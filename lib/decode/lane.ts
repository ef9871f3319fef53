import type { LlamaForCausalLM } from '../model/index.js'
import { CacheMemory } from './cache-memory.js'
import { DecodingStep } from './decoding-step.js'
import { enqueuePrefill } from './prefill.js'
import type { Chosen, DecodingRequest } from './request.js'
import { type ChoiceSettings, processesScores, type Row } from './token-choice.js'

/** Captured steps that are kept, one for each number of rows that came up lately. */
const KEPT_STEPS = 16

/** Seconds of a step below which two are launched at once: what the host does between them would be felt. */
const SHORT_STEP = 0.025

/** Where in what is chosen a request finds its part: its first row, or in beam search the number of its group. */
interface Place {
  readonly request: DecodingRequest
  readonly at: number
}

/** What a lane has of its scheduler. */
export interface LaneHost {
  readonly model: LlamaForCausalLM
  /** The memory, made for these requests when there is none. */
  memoryFor(requests: readonly DecodingRequest[]): CacheMemory
  /** Counts work, for tests and benchmarks. */
  count(work: { readonly prefilledTokens?: number; readonly steps?: number; readonly copiedBlocks?: number }): void
  /** A request is over: its memory is to be released. */
  finished(request: DecodingRequest): void
  laneEnded(lane: Lane): void
  /** A pass failed: blocks may not hold what they were to hold. */
  distrustCache(): void
}

/**
 * Requests whose tokens are chosen in the same way, decoded together. Each round puts the prompts of those that entered into the cache
 * and gives the others one more token; who is finished leaves, and who waits enters as soon as there is room (Yu et al. 2022, Orca).
 */
export class Lane {
  readonly settings: ChoiceSettings
  readonly #host: LaneHost
  readonly #waiting: DecodingRequest[] = []
  readonly #running: DecodingRequest[] = []
  readonly #steps = new Map<number, DecodingStep>()
  #latest: DecodingStep | undefined
  /** Whether what is chosen next depends on nothing that only the host knows. */
  readonly #chains: boolean
  /** Of the last step. */
  #seconds = Number.POSITIVE_INFINITY
  /** What the captured steps were made for. */
  #blocksPerRow = 0
  #stride = 0
  #started = false

  constructor(host: LaneHost, settings: ChoiceSettings) {
    this.#host = host
    this.settings = settings
    this.#chains = settings.candidates === 0 && !processesScores(settings)
  }

  get empty(): boolean {
    return this.#waiting.length === 0 && this.#running.length === 0
  }

  submit(requests: readonly DecodingRequest[]): void {
    this.#waiting.push(...requests)
    if (this.#started) return
    this.#started = true
    void this.#run()
  }

  /** Takes requests out; returns those that held memory. What is being computed for them right now is ignored. */
  remove(requests: ReadonlySet<DecodingRequest>): DecodingRequest[] {
    const running = this.#running.filter((request) => requests.has(request))
    for (const list of [this.#waiting, this.#running]) {
      const left = list.filter((request) => !requests.has(request))
      list.splice(0, list.length, ...left)
    }
    return running
  }

  /** Drops the captured steps. */
  dispose(): void {
    for (const step of this.#steps.values()) step.dispose()
    this.#steps.clear()
    this.#latest = undefined
  }

  async #run(): Promise<void> {
    // Calls that are made together start together.
    await new Promise(setImmediate)
    while (!this.empty) {
      try {
        await this.#round()
      } catch (error) {
        const failed = [...this.#running, ...this.#waiting]
        this.#host.distrustCache()
        for (const job of new Set(failed.map((request) => request.job))) job.failed(error)
      }
    }
    this.dispose()
    this.#host.laneEnded(this)
  }

  async #round(): Promise<void> {
    const memory = this.#admit()
    const { model } = this.#host
    if (memory === undefined) {
      // The memory is with other lanes, whose steps are waited for.
      await model.device.synchronize()
      return
    }
    const { pool, cache } = memory
    // Plain loops here and in what a step calls: they run once a token, too seldom for the engine to make anything better fast.
    const rows: Row[] = []
    const places: Place[] = []
    for (const request of this.#running) {
      if (!request.isDecoding) continue
      places.push({ request, at: this.settings.candidates > 0 ? places.length : rows.length })
      for (const branch of request.rows) rows.push({ request, branch })
    }
    const step = rows.length === 0 ? undefined : this.#stepFor(memory, rows)
    const tokens = this.#tokensOfRound(rows)
    const began = performance.now()
    const copiedBlocks = step?.launch(rows, pool, tokens) ?? 0
    const pass = enqueuePrefill(model, cache, pool, this.#running, this.settings)
    const firstPlaces = pass === undefined ? [] : this.#firstPlaces(pass.completed)
    this.#host.count({ prefilledTokens: pass?.tokens ?? 0, steps: step === undefined ? 0 : tokens, copiedBlocks })
    // Last of all: the first read wakes the device, and where processors are few, what is still to be done here would have to share one
    // with it.
    const stepped = step?.read(tokens)
    const [chosen = [], first] = pass === undefined ? [await stepped] : await Promise.all([stepped, pass.read])
    this.#seconds = (performance.now() - began) / 1000 / tokens
    for (const each of chosen) this.#advance(memory, places, each)
    if (first !== undefined) this.#advance(memory, firstPlaces, first)
  }

  /**
   * Two where steps are short and nobody waits for the next: then the host is asked half as often. An answer that ends with the first of
   * them wastes its row's share of the second.
   */
  #tokensOfRound(rows: readonly Row[]): 1 | 2 {
    if (!this.#chains || this.#seconds > SHORT_STEP || this.#waiting.length > 0) return 1
    if (rows.length !== this.#running.length) return 1
    for (const { request, branch } of rows) {
      if (request.width > 1 || branch.tokens.length + 2 > request.prompt.room) return 1
    }
    return 2
  }

  #firstPlaces(completed: readonly DecodingRequest[]): Place[] {
    let at = 0
    return completed.map((request) => {
      const place = { request, at }
      at += this.settings.candidates > 0 ? 1 : request.firstRows
      return place
    })
  }

  #advance({ pool }: CacheMemory, places: readonly Place[], chosen: Chosen): void {
    for (const { request, at } of places) {
      if (request.cancelled || request.done) continue
      request.advance(pool, chosen, at)
      if (request.done) this.#finish(request)
      request.job.advanced(request)
    }
  }

  #finish(request: DecodingRequest): void {
    const index = this.#running.indexOf(request)
    if (index >= 0) this.#running.splice(index, 1)
    this.#host.finished(request)
  }

  /** Lets waiting requests in, in their order, as long as the token budget of the next one allows it. */
  #admit(): CacheMemory | undefined {
    const [first] = this.#waiting
    if (first === undefined) return this.#running.length === 0 ? undefined : this.#host.memoryFor([])
    const admissible = this.#admissible()
    let memory: CacheMemory
    try {
      memory = this.#host.memoryFor(admissible)
    } catch (error) {
      first.job.failed(error)
      return undefined
    }
    for (const [i, request] of admissible.entries()) {
      const alone = this.#running.length === 0
      try {
        const { blockSize } = memory.pool
        const wanted = admissible.slice(i).reduce((sum, other) => sum + other.reservation(blockSize), 0)
        if (!memory.reserve(request, alone, wanted)) break
      } catch (error) {
        request.job.failed(error)
        break
      }
      this.#waiting.shift()
      this.#running.push(request)
    }
    return this.#running.length === 0 ? undefined : memory
  }

  /** The waiting requests that the budget allows beside the running ones; one at least when nothing runs. */
  #admissible(): DecodingRequest[] {
    const blockSize = CacheMemory.blockSize(this.#host.model)
    const tokensOf = (request: DecodingRequest): number => request.reservation(blockSize) * blockSize
    let tokens = this.#running.reduce((sum, request) => sum + tokensOf(request), 0)
    const admissible: DecodingRequest[] = []
    for (const request of this.#waiting) {
      const alone = this.#running.length === 0 && admissible.length === 0
      tokens += tokensOf(request)
      if (!alone && tokens > request.decoding.batchTokens) break
      admissible.push(request)
    }
    return admissible
  }

  #stepFor(memory: CacheMemory, rows: readonly Row[]): DecodingStep {
    const { model } = this.#host
    const { pool, cache } = memory
    let [blocksPerRow, stride] = [0, 0]
    for (const { request } of rows) {
      blocksPerRow = Math.max(blocksPerRow, pool.blocksOf(request.capacity))
      stride = Math.max(stride, request.prompt.pads + request.capacity)
    }
    if (blocksPerRow > this.#blocksPerRow || stride > this.#stride) {
      this.dispose()
      this.#blocksPerRow = Math.max(blocksPerRow, this.#blocksPerRow)
      this.#stride = Math.max(stride, this.#stride)
    }
    if (this.#latest?.rows === rows.length) return this.#latest
    const kept = this.#steps.get(rows.length)
    if (kept !== undefined) {
      this.#steps.delete(rows.length)
      this.#steps.set(rows.length, kept)
      this.#latest = kept
      return kept
    }
    const [oldest] = this.#steps
    if (oldest !== undefined && this.#steps.size === KEPT_STEPS) {
      oldest[1].dispose()
      this.#steps.delete(oldest[0])
    }
    const extents = { rows: rows.length, blocksPerRow: this.#blocksPerRow, stride: this.#stride }
    const step = new DecodingStep(model, cache, this.settings, extents)
    this.#steps.set(rows.length, step)
    this.#latest = step
    return step
  }
}
