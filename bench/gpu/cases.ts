/** What is measured on a GPU: ops at the sizes of LLaMA-7B in bf16, each with its work and the same thing asked of PyTorch. */
import { type Device, ops, Tensor } from '../../lib/runtime/index.js'
import type { PeerRequest } from './peer.js'

export interface GpuCase {
  readonly name: string
  readonly shape: string
  /** Operations or bytes of one call. */
  readonly work: number
  readonly unit: 'TFLOP/s' | 'GB/s'
  readonly goal: string
  readonly peer: PeerRequest
  /** Makes the tensors, the same ones each time. */
  prepare(device: Device): PreparedCase
}

export interface PreparedCase {
  /** Inputs and outputs. */
  readonly tensors: readonly Tensor[]
  /** Enqueues one call. */
  run(): void
  dispose(): void
}

/** `full` for a GPU; `tiny` runs the same code on the emulator, where no figure means anything. */
export type Scale = 'full' | 'tiny'

export function gpuCases(scale: Scale): readonly GpuCase[] {
  const full = scale === 'full'
  const tokens = full ? 8192 : 8
  const [hidden, intermediate, vocab] = full ? [4096, 11_008, 32_000] : [64, 96, 128]
  return [
    ...(full ? [4096, 8192] : [32]).map((size) => matmul('nt', size, size, size)),
    matmul('nt', tokens, intermediate, hidden),
    matmul('nn', tokens, hidden, intermediate),
    matmul('tn', intermediate, hidden, tokens),
    skinnyMatmul(1, intermediate, hidden),
    skinnyMatmul(16, intermediate, hidden),
    ...(full
      ? ([
          [16, 512],
          [2, 8192],
        ] as const)
      : ([[2, 16]] as const)
    ).flatMap(([batch, length]) => attention(batch, length, full ? 32 : 2, full ? 128 : 64)),
    rmsNorm(tokens, hidden),
    rope(tokens, full ? 32 : 2, full ? 128 : 64),
    swiGlu(tokens, intermediate),
    crossEntropy(tokens, vocab),
    adamw(full ? 256 * 2 ** 20 : 1024),
  ]
}

function normal(device: Device, shape: readonly number[], seed: number, dtype: 'bf16' | 'f32' = 'bf16'): Tensor {
  return ops.fillNormal(Tensor.empty(device, [...shape], dtype), 1, seed)
}

function owning(tensors: readonly Tensor[], run: () => void): PreparedCase {
  return {
    tensors,
    run,
    dispose: () => {
      for (const tensor of tensors) tensor.dispose()
    },
  }
}

function matmul(layout: 'nn' | 'nt' | 'tn', m: number, n: number, k: number): GpuCase {
  return {
    name: `matmul ${layout}`,
    shape: `${m} × ${n} × ${k}`,
    work: 2 * m * n * k,
    unit: 'TFLOP/s',
    goal: '≥ 55 % of cuBLAS',
    peer: { op: 'matmul', layout, m, n, k },
    prepare(device) {
      const a = normal(device, layout === 'tn' ? [k, m] : [m, k], 1)
      const b = normal(device, layout === 'nt' ? [n, k] : [k, n], 2)
      const out = Tensor.empty(device, [m, n], 'bf16')
      return owning([a, b, out], () => {
        ops.matmul(a, b, { layout, out })
      })
    },
  }
}

/** Decoding: the weights are read once, and that is the time it takes. */
function skinnyMatmul(m: number, n: number, k: number): GpuCase {
  return { ...matmul('nt', m, n, k), name: 'matmul nt, few rows', work: 2 * n * k, unit: 'GB/s', goal: '≥ 75 %' }
}

function attention(batch: number, length: number, heads: number, headDim: number): GpuCase[] {
  const tokens = batch * length
  // Of the length × length square the lower triangle counts, in two products forward and five backward.
  const product = batch * length * (length + 1) * heads * headDim
  const shape = `${batch} × ${length}, ${heads} heads of ${headDim}, causal`
  const tensors = (device: Device) => {
    const made = [1, 2, 3, 4, 5, 6, 7, 8].map((seed) => normal(device, [tokens, heads, headDim], seed))
    const [q, k, v, out, dout, dq, dk, dv] = made as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
    const logSumExp = Tensor.empty(device, [tokens, heads], 'f32')
    const cuSeqlensQ = Tensor.from(
      device,
      Int32Array.from({ length: batch + 1 }, (_, i) => i * length),
    )
    return { q, k, v, out, dout, dq, dk, dv, logSumExp, cuSeqlensQ, all: [...made, logSumExp, cuSeqlensQ] }
  }
  const peer = { op: 'attention', batch, length, heads, headDim }
  return [
    {
      name: 'attention',
      shape,
      work: 2 * product,
      unit: 'TFLOP/s',
      goal: '≥ FlashAttention-2',
      peer: { ...peer, backward: false },
      prepare(device) {
        const { q, k, v, out, logSumExp, cuSeqlensQ, all } = tensors(device)
        return owning(all, () => {
          ops.attention(q, k, v, { cuSeqlensQ }, { out, logSumExp })
        })
      },
    },
    {
      name: 'attention backward',
      shape,
      work: 5 * product,
      unit: 'TFLOP/s',
      goal: '',
      peer: { ...peer, backward: true },
      prepare(device) {
        const { q, k, v, out, dout, dq, dk, dv, logSumExp, cuSeqlensQ, all } = tensors(device)
        ops.attention(q, k, v, { cuSeqlensQ }, { out, logSumExp })
        return owning(all, () => {
          ops.attentionBackward(dout, { q, k, v, out, logSumExp }, { cuSeqlensQ }, { dq, dk, dv })
        })
      },
    },
  ]
}

function rmsNorm(rows: number, cols: number): GpuCase {
  return {
    name: 'rmsNorm with residual',
    shape: `${rows} × ${cols}`,
    work: 4 * 2 * rows * cols,
    unit: 'GB/s',
    goal: '≥ 85 %',
    peer: { op: 'rms_norm', rows, cols },
    prepare(device) {
      const [x, residual, sum, out] = [1, 2, 3, 4].map((seed) => normal(device, [rows, cols], seed)) as [
        Tensor,
        Tensor,
        Tensor,
        Tensor,
      ]
      const weight = normal(device, [cols], 5)
      return owning([x, residual, sum, out, weight], () => {
        ops.rmsNorm(x, weight, { residual, sum, out })
      })
    },
  }
}

function rope(tokens: number, heads: number, headDim: number): GpuCase {
  return {
    name: 'rope',
    shape: `${tokens} × ${heads} × ${headDim}`,
    work: 2 * 2 * tokens * heads * headDim,
    unit: 'GB/s',
    goal: '≥ 85 %',
    peer: { op: 'rope', tokens, heads, headDim },
    prepare(device) {
      const x = normal(device, [tokens, heads, headDim], 1)
      const cosine = normal(device, [tokens, headDim / 2], 2, 'f32')
      const sine = normal(device, [tokens, headDim / 2], 3, 'f32')
      const positions = Tensor.from(
        device,
        Int32Array.from({ length: tokens }, (_, i) => i),
      )
      return owning([x, cosine, sine, positions], () => {
        ops.rope(x, positions, { cosine, sine }, { out: x })
      })
    },
  }
}

function swiGlu(rows: number, cols: number): GpuCase {
  return {
    name: 'swiGlu',
    shape: `${rows} × ${cols}`,
    work: 3 * 2 * rows * cols,
    unit: 'GB/s',
    goal: '≥ 85 %',
    peer: { op: 'swi_glu', rows, cols },
    prepare(device) {
      const [gate, up, out] = [1, 2, 3].map((seed) => normal(device, [rows, cols], seed)) as [Tensor, Tensor, Tensor]
      return owning([gate, up, out], () => {
        ops.swiGlu(gate, up, out)
      })
    },
  }
}

function crossEntropy(rows: number, vocab: number): GpuCase {
  return {
    name: 'crossEntropy, in place',
    shape: `${rows} × ${vocab}`,
    work: 2 * 2 * rows * vocab,
    unit: 'GB/s',
    goal: '≥ 85 %',
    peer: { op: 'cross_entropy', rows, vocab },
    prepare(device) {
      const logits = normal(device, [rows, vocab], 1)
      const targets = Tensor.from(
        device,
        Int32Array.from({ length: rows }, (_, i) => (i * 7919) % vocab),
      )
      const out = Tensor.empty(device, [rows], 'f32')
      return owning([logits, targets, out], () => {
        ops.crossEntropy(logits, targets, { dlogits: logits, out })
      })
    },
  }
}

function adamw(count: number): GpuCase {
  return {
    name: 'adamw, bf16 and master',
    shape: `${count} parameters`,
    // The gradient, master and moments in f32 are read, the last three written; the bf16 weight is written.
    work: count * (4 * 4 + 3 * 4 + 2),
    unit: 'GB/s',
    goal: '≥ 85 %',
    peer: { op: 'adamw', count },
    prepare(device) {
      const param = normal(device, [count], 1)
      const master = normal(device, [count], 2, 'f32')
      const grad = normal(device, [count], 3, 'f32')
      const expAvg = Tensor.zeros(device, [count], 'f32')
      const expAvgSq = Tensor.zeros(device, [count], 'f32')
      const learningRate = Tensor.from(device, [1e-5])
      const step = Tensor.from(device, Int32Array.of(1))
      return owning([param, master, grad, expAvg, expAvgSq, learningRate, step], () => {
        ops.adamw({ param, master, grad, expAvg, expAvgSq }, { learningRate, step })
      })
    },
  }
}
