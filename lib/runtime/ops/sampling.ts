/** From logits to the next token. */
import { Tensor } from '../tensor.js'
import { handleOf, rowsAndColumns, seedWords } from './arguments.js'

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
