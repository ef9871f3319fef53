/** What a step of beam search does with the logits, and with the cache when beams part. */
import { Tensor } from '../tensor.js'
import { handleOf, mismatch, rowsAndColumns, seedWords } from './arguments.js'

/** Log-probabilities (nats) of logits [rows, vocab], f32. `out` may be `logits`. A row with NaN or +∞ becomes NaN. */
export function logSoftmax(logits: Tensor, out: Tensor = Tensor.empty(logits.device, logits.shape, 'f32')): Tensor {
  const [rows, vocab] = rowsAndColumns(logits)
  logits.device.addon.opLogSoftmax(logits.handle, out.handle, rows, vocab)
  return out
}

export interface WarpScoresOptions {
  /** Scores are divided by it. Default 1. */
  readonly temperature?: number
  /** 1: off. */
  readonly topP?: number
  /** 0: off. */
  readonly topK?: number
  /** Tokens that top-p and top-k leave at least. Default 1. */
  readonly keep?: number
}

/** Temperature, top-k and top-p on f32 scores [rows, vocab], in place: what is left out becomes −∞. */
export function warpScores(scores: Tensor, options: WarpScoresOptions): Tensor {
  const { temperature = 1, topP = 1, topK = 0, keep = 1 } = options
  const [rows, vocab] = rowsAndColumns(scores)
  scores.device.addon.opWarpScores(scores.handle, rows, vocab, temperature, topP, topK, keep)
  return scores
}

export interface BeamTopKOptions {
  /** f32 [groups · beams]: added to every score of the row. */
  readonly beamScores: Tensor
  /** Rows of a group. */
  readonly beams: number
  /** Candidates of a group. */
  readonly k: number
  /**
   * Draws without replacement instead of taking the best (Kool et al. 2019): i32 [groups] each. A group's noise depends on (seed,
   * stream, position) and on beam and token alone, not on the batch.
   */
  readonly noise?: { readonly stream: Tensor; readonly position: Tensor; readonly seed: number }
  readonly out?: BeamCandidates
}

/** The candidates of each group, best first; [groups, k] each. */
export interface BeamCandidates {
  /** f32: score + beam score, without noise. */
  readonly totals: Tensor
  /** i32. */
  readonly tokens: Tensor
  /** i32: the beam within the group, from 0. */
  readonly parents: Tensor
}

/** The best continuations of groups of beams, from f32 scores [groups · beams, vocab]. Ties: the lower token, then the lower beam. */
export function beamTopK(scores: Tensor, options: BeamTopKOptions): BeamCandidates {
  const { beamScores, beams, k, noise } = options
  const { device } = scores
  const [rows, vocab] = rowsAndColumns(scores)
  const groups = rows / beams
  if (!Number.isInteger(groups)) throw mismatch('beamTopK', `${rows} rows are not groups of ${beams} beams`)
  const ints = (): Tensor => Tensor.empty(device, [groups, k], 'i32')
  const out = options.out ?? { totals: Tensor.empty(device, [groups, k], 'f32'), tokens: ints(), parents: ints() }
  device.addon.opBeamTopK(
    scores.handle,
    beamScores.handle,
    out.totals.handle,
    out.tokens.handle,
    out.parents.handle,
    handleOf(noise?.stream),
    handleOf(noise?.position),
    groups,
    beams,
    vocab,
    k,
    ...seedWords(noise?.seed ?? 0),
  )
  return out
}

/**
 * For every pair (from, to) of `pairs` (i32 [count, 2]), in each of the first dimension's tables of table [groups, blocks, …]: block `to`
 * becomes a copy of block `from`. Pairs with a negative `from` are passed over. No block is the target of two pairs, nor of one and
 * the source of another.
 */
export function copyBlocks(table: Tensor, pairs: Tensor): Tensor {
  const [groups = 0, blocks = 0] = table.shape
  const elements = groups * blocks === 0 ? 0 : table.count / (groups * blocks)
  table.device.addon.opCopyBlocks(table.handle, pairs.handle, groups, blocks, elements, Math.floor(pairs.count / 2))
  return table
}
