/**
 * Every op once more, naively and in float64: what native/runtime/ops.h says, and nothing clever. Inputs are flat arrays in the
 * layouts of that header.
 */
type Numbers = ArrayLike<number>

const at = (values: Numbers, index: number): number => values[index] ?? Number.NaN

export type Layout = 'nn' | 'nt' | 'tn'

export function matmul(
  a: Numbers,
  b: Numbers,
  m: number,
  n: number,
  k: number,
  layout: Layout,
  c?: Numbers,
): Float64Array {
  const out = new Float64Array(m * n)
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = c === undefined ? 0 : at(c, i * n + j)
      for (let p = 0; p < k; p++) {
        const x = at(a, layout === 'tn' ? p * m + i : i * k + p)
        const y = at(b, layout === 'nt' ? j * k + p : p * n + j)
        sum += x * y
      }
      out[i * n + j] = sum
    }
  }
  return out
}

export interface RmsNormReference {
  readonly y: Float64Array
  readonly inverseRms: Float64Array
}

export function rmsNorm(x: Numbers, weight: Numbers, rows: number, cols: number, epsilon: number): RmsNormReference {
  const y = new Float64Array(rows * cols)
  const inverseRms = new Float64Array(rows)
  for (let r = 0; r < rows; r++) {
    let squares = 0
    for (let c = 0; c < cols; c++) squares += at(x, r * cols + c) ** 2
    const scale = 1 / Math.sqrt(squares / cols + epsilon)
    inverseRms[r] = scale
    for (let c = 0; c < cols; c++) y[r * cols + c] = at(x, r * cols + c) * scale * at(weight, c)
  }
  return { y, inverseRms }
}

export function rmsNormBackward(
  dy: Numbers,
  x: Numbers,
  weight: Numbers,
  rows: number,
  cols: number,
  epsilon: number,
): { dx: Float64Array; dweight: Float64Array } {
  const { inverseRms } = rmsNorm(x, weight, rows, cols, epsilon)
  const dx = new Float64Array(rows * cols)
  const dweight = new Float64Array(cols)
  for (let r = 0; r < rows; r++) {
    const scale = at(inverseRms, r)
    let dot = 0
    for (let c = 0; c < cols; c++) {
      const i = r * cols + c
      dot += at(dy, i) * at(weight, c) * at(x, i)
      dweight[c] = at(dweight, c) + at(dy, i) * at(x, i) * scale
    }
    for (let c = 0; c < cols; c++) {
      const i = r * cols + c
      dx[i] = scale * at(dy, i) * at(weight, c) - (scale ** 3 / cols) * dot * at(x, i)
    }
  }
  return { dx, dweight }
}

/** Angles are position · frequency[i] for the pair (i, i + headDim / 2). */
export function rope(
  x: Numbers,
  positions: Numbers,
  frequencies: Numbers,
  heads: number,
  headDim: number,
  inverse = false,
): Float64Array {
  const half = headDim / 2
  const out = new Float64Array(x.length)
  for (let t = 0; t < positions.length; t++) {
    for (let h = 0; h < heads; h++) {
      for (let i = 0; i < half; i++) {
        const low = (t * heads + h) * headDim + i
        const angle = at(positions, t) * at(frequencies, i) * (inverse ? -1 : 1)
        out[low] = at(x, low) * Math.cos(angle) - at(x, low + half) * Math.sin(angle)
        out[low + half] = at(x, low + half) * Math.cos(angle) + at(x, low) * Math.sin(angle)
      }
    }
  }
  return out
}

export interface AttentionProblem {
  readonly q: Numbers
  readonly k: Numbers
  readonly v: Numbers
  readonly cuSeqlensQ: Numbers
  readonly kBegin: Numbers
  readonly kEnd: Numbers
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly scale: number
  readonly causal: boolean
}

/** Calls `visit` for every query row and head with the key rows that it sees and their probabilities. */
function eachQuery(
  problem: AttentionProblem,
  visit: (query: number, head: number, firstKey: number, probabilities: Float64Array, logSumExp: number) => void,
): void {
  const { q, k, cuSeqlensQ, kBegin, kEnd, heads, kvHeads, headDim, scale, causal } = problem
  for (let s = 0; s + 1 < cuSeqlensQ.length; s++) {
    const begin = at(cuSeqlensQ, s)
    const qLength = at(cuSeqlensQ, s + 1) - begin
    const kLength = at(kEnd, s) - at(kBegin, s)
    for (let i = 0; i < qLength; i++) {
      const visible = Math.max(0, causal ? kLength - qLength + i + 1 : kLength)
      for (let h = 0; h < heads; h++) {
        const kvHead = Math.floor((h * kvHeads) / heads)
        const scores = new Float64Array(visible)
        for (let j = 0; j < visible; j++) {
          let dot = 0
          for (let d = 0; d < headDim; d++) {
            dot +=
              at(q, ((begin + i) * heads + h) * headDim + d) *
              at(k, ((at(kBegin, s) + j) * kvHeads + kvHead) * headDim + d)
          }
          scores[j] = dot * scale
        }
        const { logSumExp, probabilities } = softmax(scores)
        visit(begin + i, h, at(kBegin, s), probabilities, logSumExp)
      }
    }
  }
}

export function softmax(scores: Numbers): { logSumExp: number; probabilities: Float64Array } {
  let largest = Number.NEGATIVE_INFINITY
  for (let j = 0; j < scores.length; j++) largest = Math.max(largest, at(scores, j))
  let sum = 0
  for (let j = 0; j < scores.length; j++) sum += Math.exp(at(scores, j) - largest)
  const logSumExp = largest + Math.log(sum)
  return { logSumExp, probabilities: Float64Array.from(scores, (score) => Math.exp(score - logSumExp)) }
}

export function attention(problem: AttentionProblem): { out: Float64Array; logSumExp: Float64Array } {
  const { q, v, heads, kvHeads, headDim } = problem
  const out = new Float64Array(q.length)
  const logSumExps = new Float64Array(q.length / headDim)
  eachQuery(problem, (query, head, firstKey, probabilities, logSumExp) => {
    const kvHead = Math.floor((head * kvHeads) / heads)
    logSumExps[query * heads + head] = logSumExp
    probabilities.forEach((probability, j) => {
      for (let d = 0; d < headDim; d++) {
        const target = (query * heads + head) * headDim + d
        out[target] = at(out, target) + probability * at(v, ((firstKey + j) * kvHeads + kvHead) * headDim + d)
      }
    })
  })
  return { out, logSumExp: logSumExps }
}

export function attentionBackward(
  problem: AttentionProblem,
  dout: Numbers,
): { dq: Float64Array; dk: Float64Array; dv: Float64Array } {
  const { q, k, v, heads, kvHeads, headDim, scale } = problem
  const dq = new Float64Array(q.length)
  const dk = new Float64Array(k.length)
  const dv = new Float64Array(v.length)
  eachQuery(problem, (query, head, firstKey, probabilities) => {
    const kvHead = Math.floor((head * kvHeads) / heads)
    const row = (query * heads + head) * headDim
    const keyRow = (j: number): number => ((firstKey + j) * kvHeads + kvHead) * headDim
    const dprobabilities = probabilities.map((_, j) => {
      let dot = 0
      for (let d = 0; d < headDim; d++) dot += at(dout, row + d) * at(v, keyRow(j) + d)
      return dot
    })
    const mean = probabilities.reduce((sum, probability, j) => sum + probability * at(dprobabilities, j), 0)
    probabilities.forEach((probability, j) => {
      const dscore = probability * (at(dprobabilities, j) - mean) * scale
      for (let d = 0; d < headDim; d++) {
        dq[row + d] = at(dq, row + d) + dscore * at(k, keyRow(j) + d)
        dk[keyRow(j) + d] = at(dk, keyRow(j) + d) + dscore * at(q, row + d)
        dv[keyRow(j) + d] = at(dv, keyRow(j) + d) + probability * at(dout, row + d)
      }
    })
  })
  return { dq, dk, dv }
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x))

export function swiGlu(gate: Numbers, up: Numbers): Float64Array {
  return Float64Array.from(gate, (g, i) => g * sigmoid(g) * at(up, i))
}

export function swiGluBackward(gate: Numbers, up: Numbers, dout: Numbers): { dgate: Float64Array; dup: Float64Array } {
  return {
    dgate: Float64Array.from(gate, (g, i) => at(dout, i) * at(up, i) * sigmoid(g) * (1 + g * (1 - sigmoid(g)))),
    dup: Float64Array.from(gate, (g, i) => at(dout, i) * g * sigmoid(g)),
  }
}

export function crossEntropy(
  logits: Numbers,
  targets: Numbers,
  vocab: number,
  ignoreIndex: number,
  gradScale: number,
): { nll: Float64Array; logSumExp: Float64Array; dlogits: Float64Array } {
  const nll = new Float64Array(targets.length)
  const logSumExps = new Float64Array(targets.length)
  const dlogits = new Float64Array(targets.length * vocab)
  for (let r = 0; r < targets.length; r++) {
    const row = Float64Array.from({ length: vocab }, (_, c) => at(logits, r * vocab + c))
    const { logSumExp, probabilities } = softmax(row)
    logSumExps[r] = logSumExp
    const target = at(targets, r)
    if (target === ignoreIndex) continue
    nll[r] = logSumExp - at(row, target)
    probabilities.forEach((probability, c) => {
      dlogits[r * vocab + c] = (probability - (c === target ? 1 : 0)) * gradScale
    })
  }
  return { nll, logSumExp: logSumExps, dlogits }
}

export interface AdamWSettings {
  readonly learningRate: number
  readonly beta1: number
  readonly beta2: number
  readonly epsilon: number
  readonly weightDecay: number
}

/** One step in place; `step` counts from 1. */
export function adamw(
  state: { readonly param: Float64Array; readonly expAvg: Float64Array; readonly expAvgSq: Float64Array },
  gradient: Numbers,
  step: number,
  settings: AdamWSettings,
): void {
  const { param, expAvg, expAvgSq } = state
  const { learningRate, beta1, beta2, epsilon, weightDecay } = settings
  for (let i = 0; i < param.length; i++) {
    const g = at(gradient, i)
    const m = beta1 * at(expAvg, i) + (1 - beta1) * g
    const v = beta2 * at(expAvgSq, i) + (1 - beta2) * g * g
    expAvg[i] = m
    expAvgSq[i] = v
    const decayed = at(param, i) * (1 - learningRate * weightDecay)
    const mean = m / (1 - beta1 ** step)
    const deviation = Math.sqrt(v / (1 - beta2 ** step))
    param[i] = decayed - (learningRate * mean) / (deviation + epsilon)
  }
}

/** Changes one row of logits as ops.h's process_logits does. */
export function processLogits(
  logits: Float64Array,
  history: readonly number[],
  options: { repetitionPenalty?: number; noRepeatNgramSize?: number; suppress?: readonly number[]; below?: number },
): void {
  const { repetitionPenalty = 1, noRepeatNgramSize: n = 0, suppress = [], below = 0 } = options
  for (const id of new Set(history)) {
    const score = at(logits, id)
    logits[id] = score < 0 ? score * repetitionPenalty : score / repetitionPenalty
  }
  if (n > 0 && history.length + 1 >= n) {
    const tail = history.slice(history.length - n + 1).join(' ')
    for (let i = 0; i + n <= history.length; i++) {
      if (history.slice(i, i + n - 1).join(' ') === tail) logits[at(history, i + n - 1)] = Number.NEGATIVE_INFINITY
    }
  }
  if (history.length < below) for (const id of suppress) logits[id] = Number.NEGATIVE_INFINITY
}
