import type { KeyValueCache, LlamaForCausalLM } from '../model/index.js'
import { type Graph, ops, Tensor } from '../runtime/index.js'
import type { ResolvedDecoding } from './options.js'
import type { Sequence } from './sequence.js'

/** A sequence and the slot of the cache that it occupies. */
export interface Row {
  readonly sequence: Sequence
  readonly slot: number
}

/** What the tensors of a {@link StepState} are made from, one array each; [rows] unless said otherwise. */
interface HostState {
  readonly ids: Int32Array
  readonly positions: Int32Array
  readonly cacheRows: Int32Array
  readonly kBegin: Int32Array
  readonly kEnd: Int32Array
  readonly streams: Int32Array
  readonly suppressBelow: Int32Array
  readonly historyLength: Int32Array
  /** [rows, stride]. */
  readonly history: Int32Array
}

/**
 * The device's side of the active rows of a batch. It lives as long as the rows stay the same; a token for all of them is one
 * launch of a graph, which reads the state here and advances it. Nothing is allocated per token.
 */
export class StepState {
  readonly rows: readonly Row[]
  /** i32 [rows]: the newest token of each row. */
  readonly ids: Tensor
  /** f32 [rows]: its log-probability, nats. */
  readonly logprobs: Tensor
  readonly #model: LlamaForCausalLM
  readonly #cache: KeyValueCache
  readonly #decoding: ResolvedDecoding
  readonly #owned: Tensor[] = []
  /** Of the newest token; of the first one before there is any. */
  readonly #positions: Tensor
  readonly #cacheRows: Tensor
  readonly #kBegin: Tensor
  readonly #kEnd: Tensor
  readonly #cuSeqlens: Tensor
  readonly #streams: Tensor
  readonly #history: Tensor
  readonly #historyLength: Tensor
  readonly #suppress: Tensor | undefined
  readonly #suppressBelow: Tensor
  /** Whether logits are changed before the choice: otherwise no history is kept. */
  readonly #processed: boolean
  #graph: Graph | undefined

  constructor(model: LlamaForCausalLM, cache: KeyValueCache, rows: readonly Row[], decoding: ResolvedDecoding) {
    const { device } = model
    this.rows = rows
    this.#model = model
    this.#cache = cache
    this.#decoding = decoding
    const { minNewTokens, eosTokenIds, repetitionPenalty, noRepeatNgramSize } = decoding
    const suppresses = minNewTokens > 0 && eosTokenIds.length > 0
    this.#processed = suppresses || repetitionPenalty !== 1 || noRepeatNgramSize > 0
    const host = hostState(rows, cache, decoding, this.#processed)
    const own = (data: Int32Array, shape?: readonly number[]): Tensor => {
      const tensor = Tensor.from(device, data, shape)
      this.#owned.push(tensor)
      return tensor
    }
    try {
      this.ids = own(host.ids)
      this.logprobs = Tensor.empty(device, [rows.length], 'f32')
      this.#owned.push(this.logprobs)
      this.#positions = own(host.positions)
      this.#cacheRows = own(host.cacheRows)
      this.#kBegin = own(host.kBegin)
      this.#kEnd = own(host.kEnd)
      this.#cuSeqlens = own(Int32Array.from({ length: rows.length + 1 }, (_, i) => i))
      this.#streams = own(host.streams)
      this.#history = own(host.history, [rows.length, host.history.length / rows.length])
      this.#historyLength = own(host.historyLength)
      this.#suppress = suppresses ? own(Int32Array.from(eosTokenIds)) : undefined
      this.#suppressBelow = own(host.suppressBelow)
    } catch (error) {
      this.dispose()
      throw error
    }
  }

  /** Chooses the first token of the rows from `begin` up to `end`, from logits [end − begin, vocabSize]; disposes them. */
  chooseFirst(logits: Tensor, begin: number, end: number): void {
    const views: Tensor[] = []
    const part = (tensor: Tensor): Tensor => {
      if (begin === 0 && end === this.rows.length) return tensor
      const view = tensor.rows(begin, end)
      views.push(view)
      return view
    }
    this.#choose(logits, part)
    for (const view of views) view.dispose()
    logits.dispose()
  }

  /** Enqueues one more token for every row. */
  step(): void {
    this.#graph ??= this.#model.device.capture(() => this.#enqueueStep())
    this.#graph.launch()
  }

  dispose(): void {
    this.#graph?.dispose()
    this.#graph = undefined
    for (const tensor of this.#owned) tensor.dispose()
    this.#owned.length = 0
  }

  #enqueueStep(): void {
    const logits = this.#model.forward(
      {
        ids: this.ids,
        positions: this.#positions,
        bounds: { cuSeqlensQ: this.#cuSeqlens, kBegin: this.#kBegin, kEnd: this.#kEnd },
        // The whole slot: the rotary table must not be replaced by a longer one while the graph lives.
        longest: this.#cache.capacity,
      },
      { cache: { store: this.#cache, rows: this.#cacheRows } },
    )
    for (const counter of [this.#positions, this.#cacheRows, this.#kEnd]) ops.increment(counter)
    this.#choose(logits, (tensor) => tensor)
    logits.dispose()
  }

  #choose(logits: Tensor, part: (tensor: Tensor) => Tensor): void {
    const { repetitionPenalty, noRepeatNgramSize, sampling } = this.#decoding
    if (this.#processed) {
      ops.processLogits(logits, {
        history: part(this.#history),
        historyLength: part(this.#historyLength),
        repetitionPenalty,
        noRepeatNgramSize,
        ...(this.#suppress && { suppress: this.#suppress, suppressBelow: part(this.#suppressBelow) }),
      })
    }
    const ids = part(this.ids)
    const logprob = part(this.logprobs)
    if (sampling === undefined) ops.argmax(logits, { out: ids, logprob })
    else {
      const [stream, position] = [part(this.#streams), part(this.#positions)]
      ops.sample(logits, { ...sampling, stream, position, out: ids, logprob })
    }
    if (this.#processed) ops.appendTokens(ids, part(this.#history), part(this.#historyLength))
  }
}

function hostState(
  rows: readonly Row[],
  cache: KeyValueCache,
  { minNewTokens, padTokenId = 0 }: ResolvedDecoding,
  processed: boolean,
): HostState {
  const column = (of: (row: Row) => number): Int32Array => Int32Array.from(rows, of)
  const position = ({ sequence }: Row): number => sequence.prompt.length + Math.max(1, sequence.generated.length) - 1
  const prompted = ({ sequence }: Row): number => sequence.pads + sequence.prompt.length
  // A finished row may run on to the end of its slot before it is taken out of the batch.
  const stride = processed ? Math.max(...rows.map(({ sequence }) => sequence.pads)) + cache.capacity : 1
  const history = new Int32Array(rows.length * stride)
  if (processed) {
    for (const [index, { sequence }] of rows.entries()) {
      const { pads, prompt, generated } = sequence
      const begin = index * stride
      history.fill(padTokenId, begin, begin + pads)
      history.set(prompt, begin + pads)
      history.set(generated, begin + pads + prompt.length)
    }
  }
  return {
    ids: column(({ sequence }) => sequence.generated.at(-1) ?? 0),
    positions: column(position),
    cacheRows: column((row) => cache.row(row.slot, position(row))),
    kBegin: column((row) => cache.row(row.slot, 0)),
    kEnd: column((row) => cache.row(row.slot, position(row) + 1)),
    streams: column(({ sequence }) => sequence.index),
    suppressBelow: column((row) => prompted(row) + minNewTokens),
    historyLength: column((row) => prompted(row) + row.sequence.generated.length),
    history,
  }
}
