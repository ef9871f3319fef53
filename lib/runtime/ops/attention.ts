/** Attention over packed sequences, and its backward pass. */
import type { Tensor } from '../tensor.js'
import { handleOf, headsOf, type Invariance, invarianceCode, like, mismatch } from './arguments.js'

/** Which query rows and which key rows make a sequence; all i32. */
export interface SequenceBounds {
  /** [batch + 1]: sequence i has the query rows cuSeqlensQ[i] up to cuSeqlensQ[i + 1]. */
  readonly cuSeqlensQ: Tensor
  /** [batch + 1] for packed keys; default: cuSeqlensQ. */
  readonly cuSeqlensK?: Tensor
  /** [batch] each, instead of cuSeqlensK: the key rows of sequence i are kBegin[i] up to kEnd[i] (a part of a cache). */
  readonly kBegin?: Tensor
  readonly kEnd?: Tensor
  /** Keys and values in blocks, with kBegin and kEnd; forward only. */
  readonly blocks?: KeyBlocks
}

/** Where a sequence's keys and values lie when they are not one after the other. */
export interface KeyBlocks {
  /** i32 [batch, blocksPerSequence]: row r of sequence i is row table[i][⌊r / size⌋] · size + r mod size of k and v. */
  readonly table: Tensor
  /** Rows of a block. */
  readonly size: number
}

export interface AttentionOptions {
  /** Query i of a sequence sees the keys 0 … kLength − qLength + i. Default true. */
  readonly causal?: boolean
  /** Default 1 / sqrt(headDim). */
  readonly scale?: number
  /** f32 [totalQ, heads], kept for the backward pass: natural logarithm of the sum of exp of the scaled scores. */
  readonly logSumExp?: Tensor
  readonly invariance?: Invariance
  readonly out?: Tensor
}

function bounds(sequences: SequenceBounds): { batch: number; kBegin: Tensor; kEnd: Tensor; dispose: () => void } {
  const batch = sequences.cuSeqlensQ.count - 1
  if (batch < 0) throw mismatch('attention', 'cuSeqlensQ is empty, expected [batch + 1]')
  if (sequences.kBegin !== undefined && sequences.kEnd !== undefined) {
    return { batch, kBegin: sequences.kBegin, kEnd: sequences.kEnd, dispose: () => {} }
  }
  const cuSeqlensK = sequences.cuSeqlensK ?? sequences.cuSeqlensQ
  if (cuSeqlensK.count !== batch + 1) {
    throw mismatch('attention', `cuSeqlensK has ${cuSeqlensK.count} elements, expected ${batch + 1}`)
  }
  const kEnd = cuSeqlensK.view([batch], 1)
  return { batch, kBegin: cuSeqlensK, kEnd, dispose: () => kEnd.dispose() }
}

/**
 * Attention over packed sequences of different lengths, without a length × length matrix (Dao 2023, FlashAttention-2).
 * q [totalQ, heads, headDim]; k and v [totalK, kvHeads, headDim]; query head h uses kv head ⌊h · kvHeads / heads⌋.
 */
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  sequences: SequenceBounds,
  options: AttentionOptions = {},
): Tensor {
  const [totalQ, heads, headDim] = headsOf('attention', 'q', q)
  const [totalK, kvHeads] = headsOf('attention', 'k', k)
  const { causal = true, scale = 1 / Math.sqrt(headDim), logSumExp, invariance = 'none', out = like(q) } = options
  const { batch, kBegin, kEnd, dispose } = bounds(sequences)
  const { blocks } = sequences
  if (blocks !== undefined && sequences.kBegin === undefined) throw mismatch('attention', 'blocks need kBegin and kEnd')
  q.device.addon.opAttention(
    q.handle,
    k.handle,
    v.handle,
    out.handle,
    handleOf(logSumExp),
    sequences.cuSeqlensQ.handle,
    kBegin.handle,
    kEnd.handle,
    batch,
    totalQ,
    totalK,
    heads,
    kvHeads,
    headDim,
    scale,
    causal,
    invarianceCode[invariance],
    handleOf(blocks?.table),
    blocks === undefined || batch === 0 ? 0 : Math.floor(blocks.table.count / batch),
    blocks?.size ?? 0,
  )
  dispose()
  return out
}

/** What the forward pass had and gave. */
export interface AttentionSaved {
  readonly q: Tensor
  readonly k: Tensor
  readonly v: Tensor
  readonly out: Tensor
  readonly logSumExp: Tensor
}

export interface AttentionBackwardOptions {
  readonly causal?: boolean
  readonly scale?: number
  readonly dq?: Tensor
  readonly dk?: Tensor
  readonly dv?: Tensor
}

/** The gradients of {@link attention}. */
export function attentionBackward(
  dout: Tensor,
  saved: AttentionSaved,
  sequences: SequenceBounds,
  options: AttentionBackwardOptions = {},
): { dq: Tensor; dk: Tensor; dv: Tensor } {
  const { q, k, v, out, logSumExp } = saved
  const [totalQ, heads, headDim] = headsOf('attentionBackward', 'q', q)
  const [totalK, kvHeads] = headsOf('attentionBackward', 'k', k)
  const { causal = true, scale = 1 / Math.sqrt(headDim), dq = like(q), dk = like(k), dv = like(v) } = options
  if (sequences.blocks !== undefined) throw mismatch('attentionBackward', 'is not defined for keys in blocks')
  const { batch, kBegin, kEnd, dispose } = bounds(sequences)
  q.device.addon.opAttentionBackward(
    q.handle,
    k.handle,
    v.handle,
    out.handle,
    dout.handle,
    logSumExp.handle,
    dq.handle,
    dk.handle,
    dv.handle,
    sequences.cuSeqlensQ.handle,
    kBegin.handle,
    kEnd.handle,
    batch,
    totalQ,
    totalK,
    heads,
    kvHeads,
    headDim,
    scale,
    causal,
  )
  dispose()
  return { dq, dk, dv }
}
