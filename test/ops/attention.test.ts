import { describe, expect, it } from 'vitest'
import { type Device, type DType, ops, Tensor } from '../../lib/runtime/index.js'
import { expectClose, expectError } from '../support/compare.js'
import { itIsTheSameOnAnyThreads, onEachDevice } from '../support/devices.js'
import { describeOpCases, numberOf } from '../support/op-fixtures.js'
import { TestRandom } from '../support/random.js'
import { type AttentionProblem, attention, attentionBackward } from '../support/reference.js'

const starts = (lengths: readonly number[]): Int32Array => {
  const result = new Int32Array(lengths.length + 1)
  lengths.forEach((length, i) => {
    result[i + 1] = (result[i] ?? 0) + length
  })
  return result
}

interface Extents {
  readonly qLengths: readonly number[]
  readonly kLengths: readonly number[]
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly causal?: boolean
}

function problemOf(
  extents: Extents,
  seed = 1,
): AttentionProblem & { q: Float32Array; k: Float32Array; v: Float32Array } {
  const { qLengths, kLengths, heads, kvHeads, headDim, causal = true } = extents
  const random = new TestRandom(seed)
  const cuSeqlensQ = starts(qLengths)
  const cuSeqlensK = starts(kLengths)
  const totalK = cuSeqlensK.at(-1) ?? 0
  return {
    q: random.normals((cuSeqlensQ.at(-1) ?? 0) * heads * headDim),
    k: random.normals(totalK * kvHeads * headDim),
    v: random.normals(totalK * kvHeads * headDim),
    cuSeqlensQ,
    kBegin: cuSeqlensK.subarray(0, -1),
    kEnd: cuSeqlensK.subarray(1),
    heads,
    kvHeads,
    headDim,
    scale: 1 / Math.sqrt(headDim),
    causal,
  }
}

interface Uploaded {
  readonly q: Tensor
  readonly k: Tensor
  readonly v: Tensor
  readonly bounds: ops.SequenceBounds
  readonly logSumExp: Tensor
}

function upload(device: Device, problem: AttentionProblem, dtype: DType = 'f32'): Uploaded {
  const { heads, kvHeads, headDim } = problem
  const ints = (values: ArrayLike<number>): Tensor => Tensor.from(device, Int32Array.from(values))
  const floats = (values: ArrayLike<number>, count: number): Tensor =>
    Tensor.from(device, Float32Array.from(values), [values.length / count / headDim, count, headDim], dtype)
  const q = floats(problem.q, heads)
  return {
    q,
    k: floats(problem.k, kvHeads),
    v: floats(problem.v, kvHeads),
    bounds: { cuSeqlensQ: ints(problem.cuSeqlensQ), kBegin: ints(problem.kBegin), kEnd: ints(problem.kEnd) },
    logSumExp: Tensor.empty(device, [q.shape[0] ?? 0, heads], 'f32'),
  }
}

async function compare(device: Device, problem: AttentionProblem, tolerance = { relativeL2: 5e-6 }): Promise<void> {
  const { q, k, v, bounds, logSumExp } = upload(device, problem)
  const { causal } = problem
  const out = ops.attention(q, k, v, bounds, { logSumExp, causal })
  const expected = attention(problem)
  expectClose('out', await out.read(), expected.out, tolerance)
  expectClose('logSumExp', await logSumExp.read(), expected.logSumExp, tolerance)
  const dout = new TestRandom(99).normals(q.count)
  const gradients = ops.attentionBackward(Tensor.from(device, dout, q.shape), { q, k, v, out, logSumExp }, bounds, {
    causal,
  })
  const expectedGradients = attentionBackward(problem, dout)
  for (const name of ['dq', 'dk', 'dv'] as const) {
    expectClose(name, await gradients[name].read(), expectedGradients[name], tolerance)
  }
}

onEachDevice((device) => {
  describeOpCases('attention', (opCase) => {
    it.each(['f32', 'bf16'] as const)('%s', async (dtype) => {
      const fixture = opCase.load()
      const load = (name: string): Tensor => Tensor.from(device(), fixture.floats(name), fixture.shape(name), dtype)
      const ints = (name: string): Tensor => Tensor.from(device(), fixture.ints(name), fixture.shape(name))
      const [q, k, v, dout] = [load('in.q'), load('in.k'), load('in.v'), load('in.dout')]
      const sequences = { cuSeqlensQ: ints('in.cu_seqlens_q'), cuSeqlensK: ints('in.cu_seqlens_k') }
      const scale = numberOf(opCase.params, 'scale')
      const logSumExp = Tensor.empty(device(), fixture.shape('out.lse'), 'f32')
      const out = ops.attention(q, k, v, sequences, { scale, logSumExp })
      const { dq, dk, dv } = ops.attentionBackward(dout, { q, k, v, out, logSumExp }, sequences, { scale })
      // Sharp softmaxes amplify the rounding of the scores.
      const sharp = /sharp/.test(opCase.name) ? 4 : 1
      const bound = (output: string): { relativeL2: number } => ({
        relativeL2: Math.max((dtype === 'f32' ? 5e-6 : 2e-2) * sharp, 4 * opCase.measured(dtype, output)),
      })
      for (const [name, tensor] of Object.entries({ out, lse: logSumExp, dq, dk, dv })) {
        expectClose(name, await tensor.read(), fixture.floats(`out.${name}`), bound(name))
      }
    })
  })

  describe('attention', () => {
    it.each<[string, Extents]>([
      ['one token', { qLengths: [1], kLengths: [1], heads: 1, kvHeads: 1, headDim: 8 }],
      ['ragged sequences', { qLengths: [3, 1, 17, 8], kLengths: [3, 1, 17, 8], heads: 2, kvHeads: 2, headDim: 16 }],
      [
        'an empty sequence between others',
        { qLengths: [4, 0, 5], kLengths: [4, 0, 5], heads: 2, kvHeads: 1, headDim: 8 },
      ],
      ['grouped heads, 6 on 3', { qLengths: [19, 7], kLengths: [19, 7], heads: 6, kvHeads: 3, headDim: 24 }],
      ['grouped heads, 8 on 1', { qLengths: [9], kLengths: [9], heads: 8, kvHeads: 1, headDim: 32 }],
      [
        'long enough for several tiles',
        { qLengths: [150, 90], kLengths: [150, 90], heads: 2, kvHeads: 1, headDim: 16 },
      ],
      ['more keys than queries', { qLengths: [1, 5, 2], kLengths: [9, 30, 2], heads: 4, kvHeads: 2, headDim: 16 }],
      ['not causal', { qLengths: [6, 3], kLengths: [10, 40], heads: 2, kvHeads: 2, headDim: 16, causal: false }],
      ['an odd head size', { qLengths: [7], kLengths: [7], heads: 2, kvHeads: 1, headDim: 20 }],
      ['large heads', { qLengths: [12], kLengths: [12], heads: 2, kvHeads: 2, headDim: 160 }],
    ])('forward and backward: %s', async (_name, extents) => {
      await compare(device(), problemOf(extents))
    })

    it('queries that see no key give zeros', async () => {
      const problem = problemOf({ qLengths: [4], kLengths: [2], heads: 2, kvHeads: 1, headDim: 8 })
      const { q, k, v, bounds, logSumExp } = upload(device(), problem)
      const out = ops.attention(q, k, v, bounds, { logSumExp })
      const got = await out.read()
      expect([...got.subarray(0, 2 * 16)]).toEqual(Array.from({ length: 32 }, () => 0))
      expectClose('out', got, attention(problem).out, { relativeL2: 5e-6 })
      const dout = new TestRandom(3).normals(q.count)
      const expected = attentionBackward(problem, dout)
      const gradients = ops.attentionBackward(Tensor.from(device(), dout, q.shape), { q, k, v, out, logSumExp }, bounds)
      for (const name of ['dq', 'dk', 'dv'] as const) {
        expectClose(name, await gradients[name].read(), expected[name], { relativeL2: 5e-6 })
      }
    })

    it('decodes from the used part of cache slots, in any order, without touching the rest', async () => {
      // Three slots of 20 rows, of which other sequences and NaN fill what must not be read.
      const extents = { qLengths: [1, 2, 1], kLengths: [60], heads: 4, kvHeads: 2, headDim: 16 }
      const whole = problemOf(extents)
      const problem = { ...whole, kBegin: Int32Array.of(40, 0, 20), kEnd: Int32Array.of(47, 20, 21) }
      const used = (row: number): boolean =>
        [...problem.kBegin].some((begin, i) => row >= begin && row < (problem.kEnd[i] ?? 0))
      const hide = (values: Float32Array): Float32Array =>
        values.map((x, i) => (used(Math.floor(i / 32)) ? x : Number.NaN))
      const { q, k, v, bounds } = upload(device(), { ...problem, k: hide(whole.k), v: hide(whole.v) })
      const out = await ops.attention(q, k, v, bounds).read()
      expectClose('out', out, attention(problem).out, { relativeL2: 5e-6 })
    })

    it('gives a decoded token the bits that it has in a longer batch', async () => {
      const extents = { qLengths: [1, 1, 1], kLengths: [33, 5, 70], heads: 4, kvHeads: 2, headDim: 32 }
      const problem = problemOf(extents)
      const { q, k, v, bounds } = upload(device(), problem)
      const together = await ops.attention(q, k, v, bounds).readFloats()
      const alone = { ...problem, q: problem.q.subarray(2 * 128), cuSeqlensQ: [0, 1], kBegin: [38], kEnd: [108] }
      const single = upload(device(), alone)
      const out = await ops.attention(single.q, single.k, single.v, single.bounds).readFloats()
      expectClose('out', out, together.subarray(2 * 128), { maxAbs: 0 })
    })

    it('leaves the rows of dk and dv that no sequence covers alone', async () => {
      const whole = problemOf({ qLengths: [3], kLengths: [10], heads: 2, kvHeads: 1, headDim: 8 })
      const problem = { ...whole, kBegin: [2], kEnd: [6] }
      const { q, k, v, bounds, logSumExp } = upload(device(), problem)
      const out = ops.attention(q, k, v, bounds, { logSumExp })
      const [dk, dv] = [0, 1].map(() => ops.fill(Tensor.empty(device(), k.shape, 'f32'), 7)) as [Tensor, Tensor]
      ops.attentionBackward(out, { q, k, v, out, logSumExp }, bounds, { dk, dv })
      for (const tensor of [dk, dv]) {
        const values = await tensor.readFloats()
        const outside = [...values.subarray(0, 16), ...values.subarray(48)]
        expect(new Set(outside)).toEqual(new Set([7]))
        expect([...values.subarray(16, 48)].every((value) => value !== 7)).toBe(true)
      }
    })

    it('survives scores of any size', async () => {
      const problem = problemOf({ qLengths: [5], kLengths: [5], heads: 1, kvHeads: 1, headDim: 16 })
      const large = { ...problem, q: problem.q.map((x) => x * 1e4) }
      const { q, k, v, bounds, logSumExp } = upload(device(), large)
      const out = ops.attention(q, k, v, bounds, { logSumExp })
      const expected = attention(large)
      expectClose('out', await out.read(), expected.out, { relativeL2: 1e-3 })
      expectClose('logSumExp', await logSumExp.read(), expected.logSumExp, { relativeL2: 1e-6 })
      const { dq } = ops.attentionBackward(q, { q, k, v, out, logSumExp }, bounds)
      expect((await dq.read()).every(Number.isFinite)).toBe(true)
    })

    it('of no sequences is nothing', async () => {
      const problem = problemOf({ qLengths: [], kLengths: [], heads: 2, kvHeads: 1, headDim: 8 })
      const { q, k, v, bounds } = upload(device(), problem)
      expect((await ops.attention(q, k, v, bounds).read()).length).toBe(0)
    })

    it('names the op and what does not fit', async () => {
      const { q, k, v, bounds } = upload(
        device(),
        problemOf({ qLengths: [4], kLengths: [4], heads: 4, kvHeads: 2, headDim: 8 }),
      )
      const short = Tensor.zeros(device(), [3, 2, 8], 'f32')
      await expectError(() => ops.attention(q, k, short, bounds), 'ERR_ALMA_SHAPE', /Attention: v has 48 elements, 64/)
      const three = Tensor.zeros(device(), [4, 3, 8], 'f32')
      await expectError(() => ops.attention(q, three, three, bounds), 'ERR_ALMA_SHAPE', /ttention: .*multiple/)
      const flat = Tensor.zeros(device(), [4, 32], 'f32')
      await expectError(() => ops.attention(flat, k, v, bounds), 'ERR_ALMA_SHAPE', /^attention: q has shape \[4, 32\]/)
      const cuSeqlensK = Tensor.from(device(), Int32Array.of(0, 2, 4))
      const sequences = { cuSeqlensQ: bounds.cuSeqlensQ, cuSeqlensK }
      await expectError(() => ops.attention(q, k, v, sequences), 'ERR_ALMA_SHAPE', /^attention: cuSeqlensK has 3/)
    })

    it.each<[string, Partial<Record<'cuSeqlensQ' | 'kBegin' | 'kEnd', number[]>>]>([
      ['queries beyond the tensor', { cuSeqlensQ: [0, 9] }],
      ['queries that run backwards', { cuSeqlensQ: [3, 0] }],
      ['negative query rows', { cuSeqlensQ: [-1, 4] }],
      ['keys beyond the tensor', { kEnd: [5] }],
      ['negative key rows', { kBegin: [-2] }],
      ['keys that run backwards', { kBegin: [3], kEnd: [1] }],
    ])('%s: an error at the next read, and the device goes on', async (_name, wrong) => {
      const problem = problemOf({ qLengths: [4], kLengths: [4], heads: 2, kvHeads: 1, headDim: 8 })
      const { q, k, v, bounds } = upload(device(), { ...problem, ...wrong })
      const logSumExp = Tensor.zeros(device(), [4, 2], 'f32')
      const out = ops.attention(q, k, v, bounds)
      await expectError(() => out.read(), 'ERR_ALMA_DEVICE', /attention/i)
      const { dq } = ops.attentionBackward(q, { q, k, v, out: q, logSumExp }, bounds)
      await expectError(() => dq.read(), 'ERR_ALMA_DEVICE', /attention/i)
      await compare(device(), problem)
    })
  })
})

itIsTheSameOnAnyThreads(async (device) => {
  const problem = problemOf({ qLengths: [70, 33, 1], kLengths: [70, 40, 90], heads: 4, kvHeads: 2, headDim: 32 })
  const { q, k, v, bounds, logSumExp } = upload(device, problem)
  const out = ops.attention(q, k, v, bounds, { logSumExp })
  const { dq, dk, dv } = ops.attentionBackward(out, { q, k, v, out, logSumExp }, bounds)
  return Promise.all([out, logSumExp, dq, dk, dv].map((tensor) => tensor.readFloats()))
})
