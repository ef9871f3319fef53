import { KeyValueCache, type LlamaForCausalLM } from '../model/index.js'
import { Tensor } from '../runtime/index.js'
import type { ResolvedDecoding } from './options.js'
import type { Sequence } from './sequence.js'
import { type Row, StepState } from './step-state.js'

/** Prompt tokens of one pass: enough to use the machine well, and few enough that an abort does not wait long. */
const PREFILL_TOKENS = 1024

/** Finished rows leave when they are this part of the batch: a graph is captured anew for those that stay. */
const COMPACT_PART = 8

/** Sequences decoded together: their key/value cache, and the state of the ones that are not finished. */
export class DecodingBatch {
  readonly #model: LlamaForCausalLM
  readonly #decoding: ResolvedDecoding
  readonly #cache: KeyValueCache
  #state: StepState

  constructor(model: LlamaForCausalLM, sequences: readonly Sequence[], decoding: ResolvedDecoding) {
    const capacity = Math.max(...sequences.map((sequence) => sequence.capacity))
    this.#model = model
    this.#decoding = decoding
    this.#cache = new KeyValueCache(model.device, model.config, sequences.length, capacity, model.activationDtype)
    try {
      const rows = sequences.map((sequence, slot) => ({ sequence, slot }))
      this.#state = new StepState(model, this.#cache, rows, decoding)
    } catch (error) {
      this.#cache.dispose()
      throw error
    }
  }

  /** Runs all prompts, packed without padding, and chooses the first tokens. Waits after each part, to notice an abort. */
  async prefill(): Promise<void> {
    const { signal } = this.#decoding
    for (const part of prefillParts(this.#state.rows)) {
      this.#enqueuePrefill(part)
      await this.#model.device.synchronize()
      signal?.throwIfAborted()
    }
  }

  /** Enqueues one more token for every unfinished sequence. */
  step(): void {
    this.#compact()
    this.#state.step()
  }

  /** Hands the newest tokens to their sequences; returns the sequences that got one. */
  async collect(): Promise<Sequence[]> {
    const { rows, ids, logprobs } = this.#state
    const [newIds, newLogprobs] = await Promise.all([ids.readInts(), logprobs.readFloats()])
    this.#decoding.signal?.throwIfAborted()
    const advanced: Sequence[] = []
    for (const [index, { sequence }] of rows.entries()) {
      if (sequence.finishReason !== undefined) continue
      sequence.push(newIds[index] ?? 0, newLogprobs[index] ?? Number.NaN)
      advanced.push(sequence)
    }
    return advanced
  }

  get finished(): boolean {
    return this.#state.rows.every(({ sequence }) => sequence.finishReason !== undefined)
  }

  /** Frees everything on the device, behind the step in progress. */
  dispose(): void {
    this.#state.dispose()
    this.#cache.dispose()
  }

  /** Takes finished rows out when they are many. The others keep their slots, so that nothing they computed moves. */
  #compact(): void {
    const { rows } = this.#state
    const active = rows.filter(({ sequence }) => sequence.finishReason === undefined)
    const finished = rows.length - active.length
    if (finished === 0 || (finished * COMPACT_PART < rows.length && !this.#leavesSlot())) return
    const state = new StepState(this.#model, this.#cache, active, this.#decoding)
    this.#state.dispose()
    this.#state = state
  }

  /** Whether a finished row, which is computed along, would leave its slot with the next token. */
  #leavesSlot(): boolean {
    const { rows } = this.#state
    // All rows of a state have taken as many steps; an unfinished one counts them.
    const steps = Math.max(...rows.map(({ sequence }) => sequence.generated.length))
    return rows.some(({ sequence }) => sequence.prompt.length + steps >= this.#cache.capacity)
  }

  #enqueuePrefill({ pieces, begin, end }: PrefillPart): void {
    const { device } = this.#model
    const owned: Tensor[] = []
    const own = (data: number[]): Tensor => {
      const tensor = Tensor.from(device, Int32Array.from(data))
      owned.push(tensor)
      return tensor
    }
    const ids: number[] = []
    const positions: number[] = []
    const cacheRows: number[] = []
    const cuSeqlens = [0]
    const lastRows: number[] = []
    for (const { row, from, to } of pieces) {
      for (let position = from; position < to; position++) {
        ids.push(row.sequence.prompt[position] ?? 0)
        positions.push(position)
        cacheRows.push(this.#cache.row(row.slot, position))
      }
      cuSeqlens.push(ids.length)
      if (to === row.sequence.prompt.length) lastRows.push(ids.length - 1)
    }
    // A part that ends inside its only sequence wants no logits; one row is the least that the output layer can do.
    if (lastRows.length === 0) lastRows.push(ids.length - 1)
    try {
      const logits = this.#model.forward(
        {
          ids: own(ids),
          positions: own(positions),
          bounds: {
            cuSeqlensQ: own(cuSeqlens),
            kBegin: own(pieces.map(({ row }) => this.#cache.row(row.slot, 0))),
            kEnd: own(pieces.map(({ row, to }) => this.#cache.row(row.slot, to))),
          },
          longest: this.#cache.capacity,
        },
        { cache: { store: this.#cache, rows: own(cacheRows) }, logitRows: own(lastRows) },
      )
      if (end > begin) this.#state.chooseFirst(logits, begin, end)
      else logits.dispose()
    } finally {
      for (const tensor of owned) tensor.dispose()
    }
  }
}

/** A pass over prompt tokens. The prompts of the rows `begin` … `end` − 1 are complete after it. */
interface PrefillPart {
  readonly pieces: readonly { readonly row: Row; readonly from: number; readonly to: number }[]
  readonly begin: number
  readonly end: number
}

/** Cuts the prompts, laid end to end, into passes of PREFILL_TOKENS. */
function prefillParts(rows: readonly Row[]): PrefillPart[] {
  const parts: PrefillPart[] = []
  let pieces: { row: Row; from: number; to: number }[] = []
  let room = PREFILL_TOKENS
  let begin = 0
  let end = 0
  const finish = (): void => {
    parts.push({ pieces, begin, end })
    pieces = []
    room = PREFILL_TOKENS
    begin = end
  }
  for (const row of rows) {
    const { length } = row.sequence.prompt
    for (let from = 0; from < length; ) {
      const to = Math.min(length, from + room)
      pieces.push({ row, from, to })
      room -= to - from
      from = to
      if (to === length) end++
      if (room === 0) finish()
    }
  }
  if (pieces.length > 0) finish()
  return parts
}
