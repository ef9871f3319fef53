/** The fused products of a decoding step: normQkv, normGateUp, linearAdd. */
import { describe, expect, it } from 'vitest'
import { type Device, type DType, ops, Tensor } from '../../lib/runtime/index.js'
import { expectClose, expectError } from '../support/compare.js'
import { deviceName, itIsTheSameOnAnyThreads, onEachDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'
import { matmul, rmsNorm, rope, swiGlu } from '../support/reference.js'
import { frequenciesOf, ropeTable } from '../support/rope-table.js'

const fewRows = 'fewRows'
const few = { invariance: fewRows } as const
const epsilon = 1e-5
const bounds = { f32: { relativeL2: 5e-6 }, bf16: { relativeL2: 2e-2 } }
/** What a cache row holds that nobody has written. */
const untouched = 7

interface Shape {
  readonly rows: number
  readonly hidden: number
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly features: number
}

const shapes: readonly Shape[] = [
  { rows: 1, hidden: 64, heads: 4, kvHeads: 2, headDim: 16, features: 40 },
  { rows: 5, hidden: 136, heads: 2, kvHeads: 2, headDim: 64, features: 33 },
  { rows: 17, hidden: 72, heads: 3, kvHeads: 1, headDim: 32, features: 70 },
  { rows: 2, hidden: 30, heads: 2, kvHeads: 1, headDim: 6, features: 11 },
]

function qkvProblem(
  device: Device,
  { rows, hidden, heads, kvHeads, headDim }: Shape,
  dtype: DType,
  weightDtype = dtype,
) {
  const random = new TestRandom(rows + hidden)
  const weight = (out: number): Tensor =>
    Tensor.from(device, random.normals(out * hidden, hidden ** -0.5), [out, hidden], weightDtype)
  const slots = rows + 3
  const cache = (): Tensor => ops.fill(Tensor.empty(device, [slots, kvHeads, headDim], dtype), untouched)
  const cacheRows = Int32Array.from({ length: rows }, (_, i) => slots - 1 - i)
  const positions = random.integers(rows, 50)
  return {
    x: Tensor.from(device, random.normals(rows * hidden), [rows, hidden], dtype),
    weights: {
      norm: Tensor.from(device, random.normals(hidden), [hidden], weightDtype),
      query: weight(heads * headDim),
      key: weight(kvHeads * headDim),
      value: weight(kvHeads * headDim),
    },
    positionNumbers: positions,
    cacheRowNumbers: cacheRows,
    options: {
      epsilon,
      positions: Tensor.from(device, positions),
      ropeTable: ropeTable(device, frequenciesOf(headDim), 50),
      cache: { keys: cache(), values: cache(), rows: Tensor.from(device, cacheRows) },
      q: Tensor.empty(device, [rows, heads, headDim], dtype),
    },
  }
}

function ffnProblem(device: Device, { rows, hidden, features }: Shape, dtype: DType, weightDtype = dtype) {
  const random = new TestRandom(rows * hidden)
  const matrix = (out: number, inner: number): Tensor =>
    Tensor.from(device, random.normals(out * inner, inner ** -0.5), [out, inner], weightDtype)
  return {
    x: Tensor.from(device, random.normals(rows * hidden), [rows, hidden], dtype),
    weights: {
      norm: Tensor.from(device, random.normals(hidden), [hidden], weightDtype),
      gate: matrix(features, hidden),
      up: matrix(features, hidden),
    },
    down: matrix(hidden, features),
    activation: Tensor.from(device, random.normals(rows * features), [rows, features], dtype),
  }
}

onEachDevice((device) => {
  describe.each(shapes)('%o', (shape) => {
    const { rows, hidden, heads, kvHeads, headDim, features } = shape

    it.each(['f32', 'bf16'] as const)('normQkv, %s, beside float64', async (dtype) => {
      const { x, weights, options, positionNumbers, cacheRowNumbers } = qkvProblem(device(), shape, dtype)
      const { q, cache } = options
      expect(ops.normQkv(x, weights, options)).toBe(q)
      const { y } = rmsNorm(await x.readFloats(), await weights.norm.readFloats(), rows, hidden, epsilon)
      const product = async (weight: Tensor, width: number): Promise<Float64Array> =>
        matmul(y, await weight.readFloats(), rows, width, hidden, 'nt')
      const turned = (values: Float64Array, count: number): Float64Array =>
        rope(values, positionNumbers, frequenciesOf(headDim), count, headDim)
      const expectedQ = turned(await product(weights.query, heads * headDim), heads)
      expectClose('q', await q.readFloats(), expectedQ, bounds[dtype])
      const width = kvHeads * headDim
      const inCache = (values: Float64Array): Float64Array => {
        const whole = new Float64Array(cache.keys.count).fill(untouched)
        for (const [i, row] of cacheRowNumbers.entries())
          whole.set(values.subarray(i * width, (i + 1) * width), row * width)
        return whole
      }
      const keys = turned(await product(weights.key, width), kvHeads)
      expectClose('keys', await cache.keys.readFloats(), inCache(keys), bounds[dtype])
      const values = await product(weights.value, width)
      expectClose('values', await cache.values.readFloats(), inCache(values), bounds[dtype])
    })

    it.each(['f32', 'bf16'] as const)('normGateUp and linearAdd, %s, beside float64', async (dtype) => {
      const { x, weights, down, activation } = ffnProblem(device(), shape, dtype)
      const { y } = rmsNorm(await x.readFloats(), await weights.norm.readFloats(), rows, hidden, epsilon)
      const gate = matmul(y, await weights.gate.readFloats(), rows, features, hidden, 'nt')
      const up = matmul(y, await weights.up.readFloats(), rows, features, hidden, 'nt')
      const out = ops.normGateUp(x, weights, { epsilon })
      expect([out.shape, out.dtype]).toEqual([[rows, features], dtype])
      expectClose('silu(gate) · up', await out.readFloats(), swiGlu(gate, up), bounds[dtype])
      const residual = await x.readFloats()
      const [inner, matrix] = [await activation.readFloats(), await down.readFloats()]
      const expected = matmul(inner, matrix, rows, hidden, features, 'nt', residual)
      expectClose(
        'residual + product',
        await ops.linearAdd(activation, down, x, few).readFloats(),
        expected,
        bounds[dtype],
      )
      expectClose('residual is left alone', await x.readFloats(), residual, { maxAbs: 0 })
      expect(ops.linearAdd(activation, down, x, { ...few, out: x })).toBe(x)
      expectClose('in place', await x.readFloats(), expected, bounds[dtype])
    })

    it.skipIf(deviceName !== 'cpu').each([
      ['f32', 'f32'],
      ['bf16', 'bf16'],
      ['f32', 'bf16'],
    ] as const)('have the bits of the ops that they stand for, %s with %s weights', async (dtype, weightDtype) => {
      const problem = qkvProblem(device(), shape, dtype, weightDtype)
      const { positions, ropeTable: table, cache } = problem.options
      ops.normQkv(problem.x, problem.weights, problem.options)
      const normed = ops.rmsNorm(problem.x, problem.weights.norm, { epsilon })
      const apart = qkvProblem(device(), shape, dtype, weightDtype).options
      const head = (weight: Tensor, count: number): Tensor => {
        const out = Tensor.empty(device(), [rows, count, headDim], dtype)
        return ops.matmul(normed, weight, { layout: 'nt', invariance: fewRows, out })
      }
      const q = head(problem.weights.query, heads)
      const k = head(problem.weights.key, kvHeads)
      ops.rope(q, positions, table, { out: q })
      ops.rope(k, positions, table, { out: k })
      ops.scatterRows(k, cache.rows, apart.cache.keys)
      ops.scatterRows(head(problem.weights.value, kvHeads), cache.rows, apart.cache.values)
      expect(await problem.options.q.readFloats()).toEqual(await q.readFloats())
      expect(await cache.keys.readFloats()).toEqual(await apart.cache.keys.readFloats())
      expect(await cache.values.readFloats()).toEqual(await apart.cache.values.readFloats())

      const { x, weights, down } = ffnProblem(device(), shape, dtype, weightDtype)
      const again = ops.rmsNorm(x, weights.norm, { epsilon })
      const linear = (weight: Tensor, from: Tensor): Tensor =>
        ops.matmul(from, weight, { layout: 'nt', invariance: fewRows })
      const activation = ops.swiGlu(linear(weights.gate, again), linear(weights.up, again))
      const fused = ops.normGateUp(x, weights, { epsilon })
      expect(await fused.readFloats()).toEqual(await activation.readFloats())
      const sum = ops.add(x, linear(down, activation))
      expect(await ops.linearAdd(fused, down, x, few).readFloats()).toEqual(await sum.readFloats())
    })
  })

  it('of no rows are nothing', async () => {
    const [shape] = shapes
    if (shape === undefined) throw new Error('there are shapes')
    const { weights, options } = qkvProblem(device(), { ...shape, rows: 0 }, 'f32')
    const x = Tensor.empty(device(), [0, shape.hidden], 'f32')
    ops.normQkv(x, weights, options)
    expect(await options.cache.keys.readFloats()).toEqual(new Float32Array(options.cache.keys.count).fill(untouched))
    const ffn = ffnProblem(device(), shape, 'f32')
    expect((await ops.normGateUp(x, ffn.weights).readFloats()).length).toBe(0)
    expect((await ops.linearAdd(x, ffn.weights.gate, Tensor.empty(device(), [0, 40], 'f32')).readFloats()).length).toBe(
      0,
    )
  })

  it.each(['f32', 'bf16'] as const)('name a position or a cache row that does not exist, %s', async (dtype) => {
    const [shape] = shapes
    if (shape === undefined) throw new Error('there are shapes')
    const { x, weights, options } = qkvProblem(device(), shape, dtype)
    const positions = Tensor.from(device(), Int32Array.of(50))
    ops.normQkv(x, weights, { ...options, positions })
    await expectError(() => options.q.read(), 'ERR_ALMA_DEVICE', /rope: position 50/)
    const rows = Tensor.from(device(), Int32Array.of(-1))
    ops.normQkv(x, weights, { ...options, cache: { ...options.cache, rows } })
    await expectError(() => options.cache.keys.read(), 'ERR_ALMA_DEVICE', /scatter_rows: row -1/)
  })

  it('name what does not fit', async () => {
    const zeros = (...shape: number[]): Tensor => Tensor.zeros(device(), shape, 'f32')
    const [x, norm, weight] = [zeros(2, 8), zeros(8), zeros(4, 8)]
    await expectError(
      () => ops.normGateUp(x, { norm, gate: weight, up: zeros(5, 8) }),
      'ERR_ALMA_SHAPE',
      /^normGateUp: up has shape \[5, 8\], expected \[4, 8\]/,
    )
    await expectError(
      () => ops.normGateUp(x, { norm: zeros(7), gate: weight, up: weight }),
      'ERR_ALMA_SHAPE',
      /norm has 7 elements/,
    )
    await expectError(() => ops.linearAdd(x, weight, zeros(2, 5)), 'ERR_ALMA_SHAPE', /residual has shape \[2, 5\]/)
    await expectError(() => ops.linearAdd(x, zeros(4, 9), zeros(2, 4)), 'ERR_ALMA_SHAPE', /weight has shape \[4, 9\]/)
    const [shape] = shapes
    if (shape === undefined) throw new Error('there are shapes')
    const { x: hidden, weights, options } = qkvProblem(device(), shape, 'f32')
    const short = { ...options, positions: Tensor.from(device(), Int32Array.of(1, 2)) }
    await expectError(() => ops.normQkv(hidden, weights, short), 'ERR_ALMA_SHAPE', /^normQkv: x has 1 rows/)
    await expectError(
      () => ops.normQkv(hidden, { ...weights, key: weights.query }, options),
      'ERR_ALMA_SHAPE',
      /^normQkv: key has shape/,
    )
  })
})

itIsTheSameOnAnyThreads(async (device) => {
  const shape = { rows: 9, hidden: 200, heads: 4, kvHeads: 2, headDim: 32, features: 300 }
  const { x, weights, options } = qkvProblem(device, shape, 'f32')
  ops.normQkv(x, weights, options)
  const ffn = ffnProblem(device, shape, 'f32')
  const activation = ops.normGateUp(ffn.x, ffn.weights)
  const results = [options.q, options.cache.keys, options.cache.values, activation]
  results.push(ops.linearAdd(activation, ffn.down, ffn.x, few))
  return Promise.all(results.map((tensor) => tensor.readFloats()))
})
