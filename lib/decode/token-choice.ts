import { type Device, ops, type Shape, Tensor } from '../runtime/index.js'
import { candidatesFor } from './beam-rules.js'
import type { Branch } from './branch.js'
import type { ResolvedDecoding } from './options.js'
import type { Chosen, DecodingRequest } from './request.js'
import type { UploadBuffer } from './upload-buffer.js'

/** A continuation and what it belongs to. */
export interface Row {
  readonly request: DecodingRequest
  readonly branch: Branch
}

/** How tokens are chosen from logits, apart from what each row brings along. Requests that agree in it share their steps. */
export interface ChoiceSettings {
  /** Candidates of a group; 0: no beam search. */
  readonly candidates: number
  readonly numBeams: number
  readonly sampling: ResolvedDecoding['sampling']
  readonly repetitionPenalty: number
  readonly noRepeatNgramSize: number
  /** Ids that are banned while an answer is too short. */
  readonly suppress: readonly number[]
  /** Tokens of a beam that top-p and top-k leave at least. */
  readonly keep: number
}

export function choiceSettings(decoding: ResolvedDecoding): ChoiceSettings {
  const { numBeams, eosTokenIds, minNewTokens, repetitionPenalty, noRepeatNgramSize, sampling, stops } = decoding
  const ending = eosTokenIds.length + (stops === undefined ? 0 : 1)
  return {
    candidates: numBeams > 1 ? candidatesFor(numBeams, ending) : 0,
    numBeams,
    sampling,
    repetitionPenalty,
    noRepeatNgramSize,
    suppress: minNewTokens > 0 ? eosTokenIds : [],
    keep: eosTokenIds.length + 1,
  }
}

/** Whether scores are changed before the choice, so that histories are needed. */
export function processesScores(settings: ChoiceSettings): boolean {
  const { suppress, repetitionPenalty, noRepeatNgramSize } = settings
  return suppress.length > 0 || repetitionPenalty !== 1 || noRepeatNgramSize > 0
}

/** What a choice has of an upload. */
export type ChoicePart =
  | 'streams'
  | 'choicePositions'
  | 'suppress'
  | 'suppressBelow'
  | 'lengths'
  | 'history'
  | 'beamScores'

export interface ChoiceExtents {
  /** Rows of logits, in groups of `beams` when there is a search. */
  readonly rows: number
  readonly beams: number
  readonly vocab: number
  /** Longest history, tokens. */
  readonly stride: number
}

/**
 * The choice of a token for each of so many rows: what it depends on is written by {@link write} into an upload of its owner,
 * {@link enqueue} chooses from logits (it can be captured), {@link read} gives what was chosen.
 */
export class TokenChoice {
  readonly #settings: ChoiceSettings
  readonly #beams: number
  readonly #k: number
  readonly #inputs: Pick<UploadBuffer<ChoicePart>, 'host' | 'tensors'>
  readonly #stride: number
  /** f32 [rows], as the i32 of the upload. */
  readonly #beamScores: Tensor | undefined
  readonly #beamScoresHost: Float32Array
  /**
   * What was chosen, in one piece, for one read: ids, parents of beams, and as f32 log-probabilities or totals of beams; behind it room
   * for what was chosen before.
   */
  readonly #chosen: Tensor
  readonly #latest: Tensor
  readonly #kept: Tensor
  /** i32, the ids that were chosen. */
  readonly ids: Tensor
  readonly #parents: Tensor
  readonly #numbers: Tensor

  /** What the upload has to have room for. */
  static parts(settings: ChoiceSettings, { rows, beams, stride }: ChoiceExtents): Record<ChoicePart, Shape> {
    const searches = settings.candidates > 0
    const draws = settings.sampling === undefined ? 0 : searches ? rows / beams : rows
    const processed = processesScores(settings) ? rows : 0
    return {
      streams: [draws],
      choicePositions: [draws],
      suppress: [settings.suppress.length],
      suppressBelow: [processed],
      lengths: [processed],
      history: [processed, processed > 0 ? stride : 0],
      beamScores: [searches ? rows : 0],
    }
  }

  constructor(
    device: Device,
    settings: ChoiceSettings,
    { rows, beams, vocab, stride }: ChoiceExtents,
    inputs: Pick<UploadBuffer<ChoicePart>, 'host' | 'tensors'>,
  ) {
    this.#settings = settings
    this.#beams = beams
    this.#stride = processesScores(settings) ? stride : 0
    const searches = settings.candidates > 0
    const groups = searches ? rows / beams : rows
    this.#k = searches ? Math.min(settings.candidates, beams * vocab) : 1
    this.#inputs = inputs
    inputs.host.suppress.set(settings.suppress)
    const { buffer, byteOffset, length } = inputs.host.beamScores
    this.#beamScoresHost = new Float32Array(buffer, byteOffset, length)
    this.#beamScores = searches ? inputs.tensors.beamScores.view([rows], 0, 'f32') : undefined
    const chosen = groups * this.#k
    this.#chosen = Tensor.empty(device, [2, 3 * chosen], 'i32')
    this.#latest = this.#chosen.view([3 * chosen])
    this.#kept = this.#chosen.view([3 * chosen], 3 * chosen)
    this.ids = this.#chosen.view([chosen])
    this.#parents = this.#chosen.view([chosen], chosen)
    this.#numbers = this.#chosen.view([chosen], 2 * chosen, 'f32')
  }

  /** @param ahead tokens of each row that are chosen, but not known to the host: 0 where histories are needed, or beams. */
  write(rows: readonly Row[], ahead = 0): void {
    const { streams, choicePositions } = this.#inputs.host
    const perDraw = this.#settings.candidates > 0 ? this.#beams : 1
    for (let i = 0; i < streams.length; i++) {
      const row = rows[i * perDraw]
      if (row === undefined) continue
      streams[i] = row.branch.stream
      choicePositions[i] = row.request.prompt.ids.length + row.branch.tokens.length + ahead
    }
    if (this.#stride > 0) for (const [i, row] of rows.entries()) this.#writeHistory(i, row)
    for (let i = 0; i < this.#beamScoresHost.length; i++) {
      this.#beamScoresHost[i] = rows[i]?.branch.sumLogprob ?? Number.NaN
    }
  }

  /** Chooses from logits f32 [rows, vocab], which it changes. */
  enqueue(logits: Tensor): void {
    const { sampling } = this.#settings
    const [ids, numbers] = [this.ids, this.#numbers]
    if (this.#beamScores === undefined) {
      this.#process(logits)
      if (sampling === undefined) ops.argmax(logits, { out: ids, logprob: numbers })
      else {
        const [stream, position] = [this.#inputs.tensors.streams, this.#inputs.tensors.choicePositions]
        ops.sample(logits, { ...sampling, stream, position, out: ids, logprob: numbers })
      }
      return
    }
    ops.logSoftmax(logits, logits)
    this.#process(logits)
    if (sampling !== undefined) ops.warpScores(logits, { ...sampling, keep: this.#settings.keep })
    ops.beamTopK(logits, {
      beamScores: this.#beamScores,
      beams: this.#beams,
      k: this.#k,
      out: { totals: numbers, tokens: ids, parents: this.#parents },
      ...(sampling && {
        noise: {
          stream: this.#inputs.tensors.streams,
          position: this.#inputs.tensors.choicePositions,
          seed: sampling.seed,
        },
      }),
    })
  }

  /** Enqueues that what was chosen is kept while the next is chosen. */
  keep(): void {
    ops.cast(this.#latest, this.#kept)
  }

  /** What was chosen last, behind what was kept if 2 are asked for. */
  read(tokens: 1 | 2 = 1): Promise<readonly Chosen[]> {
    const source = tokens === 1 ? this.#latest : this.#chosen
    return source.readBytes().then(({ buffer }) => {
      const latest = this.#chosenIn(buffer, 0)
      return tokens === 1 ? [latest] : [this.#chosenIn(buffer, this.#latest.byteLength), latest]
    })
  }

  #chosenIn(buffer: ArrayBufferLike, from: number): Chosen {
    const { count } = this.ids
    const ids = new Int32Array(buffer, from, count)
    const numbers = new Float32Array(buffer, from + 8 * count, count)
    if (this.#settings.candidates === 0) return { ids, logprobs: numbers }
    return { totals: numbers, tokens: ids, parents: new Int32Array(buffer, from + 4 * count, count), k: this.#k }
  }

  /** The upload is its owner's. */
  dispose(): void {
    const views = [this.ids, this.#parents, this.#numbers, this.#latest, this.#kept]
    for (const tensor of [this.#beamScores, ...views, this.#chosen]) tensor?.dispose()
  }

  #process(scores: Tensor): void {
    if (this.#stride === 0) return
    const { repetitionPenalty, noRepeatNgramSize, suppress } = this.#settings
    const inputs = this.#inputs
    ops.processLogits(scores, {
      history: inputs.tensors.history,
      historyLength: inputs.tensors.lengths,
      repetitionPenalty,
      noRepeatNgramSize,
      ...(suppress.length > 0 && {
        suppress: inputs.tensors.suppress,
        suppressBelow: inputs.tensors.suppressBelow,
      }),
    })
  }

  #writeHistory(row: number, { request, branch }: Row): void {
    const { ids, pads } = request.prompt
    const { padTokenId = 0, minNewTokens } = request.decoding
    const history = this.#inputs.host.history.subarray(row * this.#stride, (row + 1) * this.#stride)
    history.fill(padTokenId, 0, pads)
    history.set(ids, pads)
    history.set(branch.tokens, pads + ids.length)
    this.#inputs.host.lengths[row] = pads + ids.length + branch.tokens.length
    this.#inputs.host.suppressBelow[row] = pads + ids.length + minNewTokens
  }
}
