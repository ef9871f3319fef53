/**
 * Every op of every device, under the names of native/runtime/ops.h.
 *
 * An op checks shapes, enqueues the work and returns its result tensor at once: the caller's `out`, or a new one. Float tensors are
 * 'f32' or 'bf16'; the activations of a call share one dtype, weights may have the other one. Statistics (log-sum-exp, inverse RMS),
 * losses and gradients of weights are always 'f32'; gradients of weights are added to.
 *
 * Shapes that do not fit: AlmaError ERR_ALMA_SHAPE, thrown by the call. Values on the device that are out of range (an id beyond the
 * table): ERR_ALMA_DEVICE, at the next read.
 */
import { AlmaError } from '../errors.js'
import { countOf, Tensor } from './tensor.js'

const ABSENT = -1
const handleOf = (tensor: Tensor | undefined): number => (tensor === undefined ? ABSENT : tensor.handle)
const like = (tensor: Tensor): Tensor => Tensor.empty(tensor.device, tensor.shape, tensor.dtype)

function mismatch(op: string, what: string): AlmaError {
  return new AlmaError('ERR_ALMA_SHAPE', `${op}: ${what}`)
}

/** The last extent, and the product of the ones before it. */
function rowsAndColumns(tensor: Tensor): [rows: number, cols: number] {
  const cols = tensor.shape.at(-1) ?? 1
  return [cols === 0 ? countOf(tensor.shape.slice(0, -1)) : tensor.count / cols, cols]
}

function headsOf(op: string, name: string, tensor: Tensor): [tokens: number, heads: number, headDim: number] {
  const [tokens, heads, headDim] = tensor.shape
  if (tokens === undefined || heads === undefined || headDim === undefined || tensor.shape.length !== 3) {
    throw mismatch(op, `${name} has shape [${tensor.shape.join(', ')}], expected [tokens, heads, headDim]`)
  }
  return [tokens, heads, headDim]
}

/** out[i] = value. */
export function fill(out: Tensor, value: number): Tensor {
  out.device.addon.opFill(out.handle, out.count, value)
  return out
}

/**
 * Normal random numbers of mean 0: element i is a function of the seed and of `first` + i alone.
 * Seeds are integers from 0 to 2⁵³ − 1.
 */
export function fillNormal(out: Tensor, standardDeviation: number, seed: number, first = 0): Tensor {
  out.device.addon.opFillNormal(out.handle, out.count, standardDeviation, ...seedWords(seed), first)
  return out
}

function seedWords(seed: number): [low: number, high: number] {
  return [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0]
}

/** The elements of `input` in the dtype of `out`. */
export function cast(input: Tensor, out: Tensor): Tensor {
  input.device.addon.opCast(input.handle, out.handle, input.count)
  return out
}

/** a + b, element by element; `out` may be either. */
export function add(a: Tensor, b: Tensor, out: Tensor = like(a)): Tensor {
  a.device.addon.opAdd(a.handle, b.handle, out.handle, a.count)
  return out
}

/** x[i] += by, for 'i32'. */
export function increment(x: Tensor, by = 1): Tensor {
  x.device.addon.opIncrement(x.handle, x.count, by)
  return x
}

export interface MatmulOptions {
  /**
   * 'nn': a [m, k] · b [k, n] · 'nt': a [m, k] · b [n, k]ᵀ (a linear layer's forward) · 'tn': a [k, m]ᵀ · b [k, n] (its weight gradient).
   * Default 'nn'. Leading extents are flattened into rows.
   */
  readonly layout?: 'nn' | 'nt' | 'tn'
  /** Add to `out` instead of overwriting it. */
  readonly accumulate?: boolean
  readonly out?: Tensor
}

const layoutCode = { nn: 0, nt: 1, tn: 2 } as const

/** Matrix product, accumulated in f32. The result has the dtype of `a` unless `out` is given. */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const { layout = 'nn', accumulate = false } = options
  const [aRows, aCols] = rowsAndColumns(a)
  const [bRows, bCols] = rowsAndColumns(b)
  const [m, k] = layout === 'tn' ? [aCols, aRows] : [aRows, aCols]
  const [n, kOfB] = layout === 'nt' ? [bRows, bCols] : [bCols, bRows]
  if (k !== kOfB) {
    throw mismatch('matmul', `'${layout}' of [${a.shape.join(', ')}] and [${b.shape.join(', ')}]: ${k} ≠ ${kOfB}`)
  }
  if (accumulate && options.out === undefined) throw mismatch('matmul', 'accumulate needs an out')
  const shape = layout === 'tn' ? [m, n] : [...a.shape.slice(0, -1), n]
  const out = options.out ?? Tensor.empty(a.device, shape, a.dtype)
  if (out.count !== m * n) throw mismatch('matmul', `out has shape [${out.shape.join(', ')}], expected [${m}, ${n}]`)
  a.device.addon.opMatmul(a.handle, b.handle, out.handle, m, n, k, layoutCode[layout], accumulate)
  return out
}

export interface RmsNormOptions {
  readonly epsilon?: number
  /** Added to x before the norm; the sum is written to `sum`. */
  readonly residual?: Tensor
  readonly sum?: Tensor
  /** f32 [rows], kept for the backward pass. */
  readonly inverseRms?: Tensor
  readonly out?: Tensor
}

/** weight · x / sqrt(mean(x²) + epsilon) along the last dimension (Zhang & Sennrich 2019). */
export function rmsNorm(x: Tensor, weight: Tensor, options: RmsNormOptions = {}): Tensor {
  const { epsilon = 1e-5, residual, sum, inverseRms, out = like(x) } = options
  const [rows, cols] = rowsAndColumns(x)
  if (weight.count !== cols) throw mismatch('rmsNorm', `weight has ${weight.count} elements, x has rows of ${cols}`)
  x.device.addon.opRmsNorm(
    x.handle,
    handleOf(residual),
    weight.handle,
    out.handle,
    handleOf(sum),
    handleOf(inverseRms),
    rows,
    cols,
    epsilon,
  )
  return out
}

export interface RmsNormBackwardOptions {
  readonly dx?: Tensor
  readonly accumulateDx?: boolean
  /** f32 [cols], added to; absent: not computed. */
  readonly dweight?: Tensor
}

/** The gradient of {@link rmsNorm} with respect to what was normalised; `x` is the sum, where there was a residual. */
export function rmsNormBackward(
  dy: Tensor,
  x: Tensor,
  weight: Tensor,
  inverseRms: Tensor,
  options: RmsNormBackwardOptions = {},
): Tensor {
  const { accumulateDx = false, dweight, dx = like(x) } = options
  const [rows, cols] = rowsAndColumns(x)
  x.device.addon.opRmsNormBackward(
    dy.handle,
    x.handle,
    weight.handle,
    inverseRms.handle,
    dx.handle,
    handleOf(dweight),
    rows,
    cols,
    accumulateDx,
  )
  return dx
}

/** cos and sin of every position and frequency, f32 [maxPositions, headDim / 2] each. */
export interface RopeTable {
  readonly cosine: Tensor
  readonly sine: Tensor
}

export interface RopeOptions {
  /** Rotate back: the backward pass. */
  readonly inverse?: boolean
  readonly out?: Tensor
}

/** Rotary position embedding of x [tokens, heads, headDim], rotate_half convention; positions i32 [tokens]. */
export function rope(x: Tensor, positions: Tensor, table: RopeTable, options: RopeOptions = {}): Tensor {
  const { inverse = false, out = like(x) } = options
  const [tokens, heads, headDim] = headsOf('rope', 'x', x)
  const maxPositions = headDim === 0 ? 0 : table.cosine.count / (headDim / 2)
  x.device.addon.opRope(
    x.handle,
    out.handle,
    table.cosine.handle,
    table.sine.handle,
    positions.handle,
    tokens,
    heads,
    headDim,
    maxPositions,
    inverse,
  )
  return out
}

/** Which query rows and which key rows make a sequence; all i32. */
export interface SequenceBounds {
  /** [batch + 1]: sequence i has the query rows cuSeqlensQ[i] up to cuSeqlensQ[i + 1]. */
  readonly cuSeqlensQ: Tensor
  /** [batch + 1] for packed keys; default: cuSeqlensQ. */
  readonly cuSeqlensK?: Tensor
  /** [batch] each, instead of cuSeqlensK: the key rows of sequence i are kBegin[i] up to kEnd[i] (a part of a cache). */
  readonly kBegin?: Tensor
  readonly kEnd?: Tensor
}

export interface AttentionOptions {
  /** Query i of a sequence sees the keys 0 … kLength − qLength + i. Default true. */
  readonly causal?: boolean
  /** Default 1 / sqrt(headDim). */
  readonly scale?: number
  /** f32 [totalQ, heads], kept for the backward pass: natural logarithm of the sum of exp of the scaled scores. */
  readonly logSumExp?: Tensor
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
  const { causal = true, scale = 1 / Math.sqrt(headDim), logSumExp, out = like(q) } = options
  const { batch, kBegin, kEnd, dispose } = bounds(sequences)
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

/** silu(gate) · up (Shazeer 2020); `out` may be either. */
export function swiGlu(gate: Tensor, up: Tensor, out: Tensor = like(gate)): Tensor {
  gate.device.addon.opSwiGlu(gate.handle, up.handle, out.handle, gate.count)
  return out
}

export interface SwiGluBackwardOptions {
  /** May be `gate`. */
  readonly dgate?: Tensor
  /** May be `up`. */
  readonly dup?: Tensor
  /** Receives silu(gate) · up once more, so that it need not be kept from the forward pass; may be `dout`. */
  readonly out?: Tensor
}

/** The gradients of {@link swiGlu}. */
export function swiGluBackward(
  dout: Tensor,
  gate: Tensor,
  up: Tensor,
  options: SwiGluBackwardOptions = {},
): { dgate: Tensor; dup: Tensor } {
  const { dgate = like(gate), dup = like(up), out } = options
  gate.device.addon.opSwiGluBackward(
    gate.handle,
    up.handle,
    dout.handle,
    dgate.handle,
    dup.handle,
    handleOf(out),
    gate.count,
  )
  return { dgate, dup }
}

/** Rows `rows` (i32) of table [tableRows, cols]: [rows.count, cols]. */
export function gatherRows(table: Tensor, rows: Tensor, out?: Tensor): Tensor {
  const [tableRows, cols] = rowsAndColumns(table)
  const result = out ?? Tensor.empty(table.device, [rows.count, cols], table.dtype)
  table.device.addon.opGatherRows(table.handle, rows.handle, result.handle, tableRows, cols, rows.count)
  return result
}

/** table[rows[i]] = input[i]; no row twice. */
export function scatterRows(input: Tensor, rows: Tensor, table: Tensor): Tensor {
  const cols = rows.count === 0 ? 0 : input.count / rows.count
  const tableRows = cols === 0 ? 0 : table.count / cols
  table.device.addon.opScatterRows(input.handle, rows.handle, table.handle, tableRows, cols, rows.count)
  return table
}

/** The rows of an embedding table [vocabSize, hiddenSize] for token ids. */
export const embedding: typeof gatherRows = gatherRows

/** dtable[ids[i]] += dout[i], in the order of i; dtable f32. */
export function embeddingBackward(dout: Tensor, ids: Tensor, dtable: Tensor): Tensor {
  const [tableRows, cols] = rowsAndColumns(dtable)
  dout.device.addon.opEmbeddingBackward(dout.handle, ids.handle, dtable.handle, tableRows, cols, ids.count)
  return dtable
}

export interface CrossEntropyOptions {
  /** Rows with this target count nothing. Default −100. */
  readonly ignoreIndex?: number
  /** f32 [rows]. */
  readonly logSumExp?: Tensor
  /** Receives the gradient; may be `logits`. Absent: not computed. */
  readonly dlogits?: Tensor
  /** f32 [1], the factor of the gradient: 1 / counted targets for a mean. Default 1. */
  readonly gradScale?: Tensor
  readonly out?: Tensor
}

/** Negative log-likelihood in nats of each row's target, f32 [rows]; 0 for ignored rows. logits [rows, vocab], targets i32. */
export function crossEntropy(logits: Tensor, targets: Tensor, options: CrossEntropyOptions = {}): Tensor {
  const { ignoreIndex = -100, logSumExp, dlogits, gradScale } = options
  const [rows, vocab] = rowsAndColumns(logits)
  const nll = options.out ?? Tensor.empty(logits.device, [rows], 'f32')
  logits.device.addon.opCrossEntropy(
    logits.handle,
    targets.handle,
    nll.handle,
    handleOf(logSumExp),
    handleOf(dlogits),
    handleOf(gradScale),
    rows,
    vocab,
    ignoreIndex,
  )
  return nll
}

export interface ReduceSumOptions {
  /** Sum the squares instead. */
  readonly squares?: boolean
  /** Add to `out`. */
  readonly accumulate?: boolean
  readonly out?: Tensor
}

/** The sum of all elements, f32 [1], computed in float64. */
export function reduceSum(x: Tensor, options: ReduceSumOptions = {}): Tensor {
  const { squares = false, accumulate = false, out = Tensor.empty(x.device, [1], 'f32') } = options
  x.device.addon.opReduceSum(x.handle, out.handle, x.count, squares, accumulate)
  return out
}

/**
 * From a sum of squares (f32 [1]): the norm, and the factor min(1, maxNorm / (norm + 1e-6)) of torch's clip_grad_norm_; 1 where
 * maxNorm ≤ 0, and 0 where the norm is not finite, so that {@link adamw} changes nothing.
 */
export function clipCoefficient(sumOfSquares: Tensor, norm: Tensor, coefficient: Tensor, maxNorm: number): Tensor {
  sumOfSquares.device.addon.opClipCoefficient(sumOfSquares.handle, norm.handle, coefficient.handle, maxNorm)
  return coefficient
}

export interface GlobalNormOptions {
  /** Norm to clip to; ≤ 0 (default): no clipping. */
  readonly maxNorm?: number
  /** f32 [1] each. */
  readonly norm?: Tensor
  readonly coefficient?: Tensor
}

/** The norm over all gradients together, and the clipping factor for it; both stay on the device. */
export function globalNorm(
  gradients: readonly Tensor[],
  options: GlobalNormOptions = {},
): { norm: Tensor; coefficient: Tensor } {
  const [first] = gradients
  if (first === undefined) throw mismatch('globalNorm', 'no gradients given')
  const { maxNorm = 0 } = options
  const norm = options.norm ?? Tensor.empty(first.device, [1], 'f32')
  const coefficient = options.coefficient ?? Tensor.empty(first.device, [1], 'f32')
  const squares = Tensor.empty(first.device, [1], 'f32')
  gradients.forEach((gradient, index) => {
    reduceSum(gradient, { squares: true, accumulate: index > 0, out: squares })
  })
  clipCoefficient(squares, norm, coefficient, maxNorm)
  squares.dispose()
  return { norm, coefficient }
}

/** A parameter (or a whole arena of them) and what AdamW keeps for it. `master` f32 is needed when `param` is bf16. */
export interface AdamWState {
  readonly param: Tensor
  readonly master?: Tensor
  readonly grad: Tensor
  readonly expAvg: Tensor
  readonly expAvgSq: Tensor
}

export interface AdamWOptions {
  /** f32 [1]. */
  readonly learningRate: Tensor
  /** i32 [1]: the number of this step, from 1. */
  readonly step: Tensor
  /** f32 [1]: factor of the gradient, 0 skips the step. Default 1. */
  readonly gradScale?: Tensor
  readonly betas?: readonly [number, number]
  readonly epsilon?: number
  readonly weightDecay?: number
}

/** One step of AdamW with decoupled weight decay (Loshchilov & Hutter 2019), in place, as torch.optim.AdamW. */
export function adamw(state: AdamWState, options: AdamWOptions): void {
  const { learningRate, step, gradScale, betas = [0.9, 0.999], epsilon = 1e-8, weightDecay = 0.01 } = options
  const { param, master, grad, expAvg, expAvgSq } = state
  param.device.addon.opAdamw(
    param.handle,
    handleOf(master),
    grad.handle,
    expAvg.handle,
    expAvgSq.handle,
    learningRate.handle,
    step.handle,
    handleOf(gradScale),
    param.count,
    betas[0],
    betas[1],
    epsilon,
    weightDecay,
  )
}

export interface ArgmaxOptions {
  /** f32 [rows]: receives the log-softmax of the chosen logit. */
  readonly logprob?: Tensor
  readonly out?: Tensor
}

/** The column of each row's largest logit, i32 [rows]; of equal ones the lowest. */
export function argmax(logits: Tensor, options: ArgmaxOptions = {}): Tensor {
  const [rows, vocab] = rowsAndColumns(logits)
  const ids = options.out ?? Tensor.empty(logits.device, [rows], 'i32')
  logits.device.addon.opArgmax(logits.handle, ids.handle, handleOf(options.logprob), rows, vocab)
  return ids
}

export interface SampleOptions extends ArgmaxOptions {
  /** i32 [rows] each. A row's random number depends on (seed, stream, position) alone, not on the batch. */
  readonly stream: Tensor
  readonly position: Tensor
  readonly seed: number
  readonly temperature?: number
  /** 1: off. */
  readonly topP?: number
  /** 0: off. */
  readonly topK?: number
}

/** One draw a row from softmax(logits / temperature) after top-k and top-p, i32 [rows]. */
export function sample(logits: Tensor, options: SampleOptions): Tensor {
  const { stream, position, seed, temperature = 1, topP = 1, topK = 0, logprob } = options
  const [rows, vocab] = rowsAndColumns(logits)
  const ids = options.out ?? Tensor.empty(logits.device, [rows], 'i32')
  logits.device.addon.opSample(
    logits.handle,
    ids.handle,
    handleOf(logprob),
    stream.handle,
    position.handle,
    rows,
    vocab,
    temperature,
    topP,
    topK,
    ...seedWords(seed),
  )
  return ids
}

export interface ProcessLogitsOptions {
  /** i32 [rows, capacity] and i32 [rows]: the ids so far. */
  readonly history: Tensor
  readonly historyLength: Tensor
  /** Divides positive and multiplies negative logits of ids in the history (Keskar et al. 2019). 1: off. */
  readonly repetitionPenalty?: number
  /** Bans ids that would repeat an n-gram of the history. 0: off. */
  readonly noRepeatNgramSize?: number
  /** i32: ids banned on rows whose history is shorter than suppressBelow[row]. */
  readonly suppress?: Tensor
  readonly suppressBelow?: Tensor
}

/** Changes logits [rows, vocab] in place before the next token is chosen. */
export function processLogits(logits: Tensor, options: ProcessLogitsOptions): Tensor {
  const { history, historyLength, suppress, suppressBelow, repetitionPenalty = 1, noRepeatNgramSize = 0 } = options
  const [rows, vocab] = rowsAndColumns(logits)
  const stride = rows === 0 ? 0 : history.count / rows
  logits.device.addon.opProcessLogits(
    logits.handle,
    history.handle,
    historyLength.handle,
    handleOf(suppress),
    handleOf(suppressBelow),
    rows,
    vocab,
    stride,
    suppress?.count ?? 0,
    repetitionPenalty,
    noRepeatNgramSize,
  )
  return logits
}

/** history[i][historyLength[i]] = ids[i], and the length grows by one. */
export function appendTokens(ids: Tensor, history: Tensor, historyLength: Tensor): void {
  const stride = ids.count === 0 ? 0 : history.count / ids.count
  ids.device.addon.opAppendTokens(ids.handle, history.handle, historyLength.handle, ids.count, stride)
}

/** Adds the number of elements that are NaN or infinite to `out`, i32 [1]. */
export function countNonFinite(x: Tensor, out: Tensor): Tensor {
  x.device.addon.opCountNonFinite(x.handle, out.handle, x.count)
  return out
}
