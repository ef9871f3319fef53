/** The products of a decoder layer with what follows them, for prompts and training: qkv, gateUp, linearAdd. */
import { describe, expect, it } from 'vitest'
import { type Device, type DType, ops, Tensor } from '../../lib/runtime/index.js'
import { expectClose, expectError } from '../support/compare.js'
import { deviceName, itIsTheSameOnAnyThreads, onEachDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'
import { matmul, rope, swiGlu } from '../support/reference.js'
import { frequenciesOf, ropeTable } from '../support/rope-table.js'

const bounds = { f32: { relativeL2: 5e-6 }, bf16: { relativeL2: 1e-2 } }
const maxPositions = 50
const invariances = ['none', 'manyRows', 'fewRows'] as const

interface Shape {
  readonly rows: number
  readonly hidden: number
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly features: number
}

// Of 128 rows and of 64 and 128 columns a head, whole tiles of a GPU and ragged ones, and what its fused kernels do not take.
const shapes: readonly Shape[] = [
  { rows: 1, hidden: 64, heads: 4, kvHeads: 2, headDim: 16, features: 40 },
  { rows: 137, hidden: 72, heads: 3, kvHeads: 1, headDim: 64, features: 136 },
  { rows: 40, hidden: 136, heads: 2, kvHeads: 1, headDim: 128, features: 264 },
  { rows: 19, hidden: 30, heads: 2, kvHeads: 1, headDim: 6, features: 11 },
]

function problem(
  device: Device,
  { rows, hidden, heads, kvHeads, headDim, features }: Shape,
  dtype: DType,
  weightDtype = dtype,
) {
  const random = new TestRandom(rows + hidden)
  const weight = (out: number, inner = hidden): Tensor =>
    Tensor.from(device, random.normals(out * inner, inner ** -0.5), [out, inner], weightDtype)
  const empty = (...shape: number[]): Tensor => Tensor.empty(device, shape, dtype)
  const positions = random.integers(rows, maxPositions)
  return {
    x: Tensor.from(device, random.normals(rows * hidden), [rows, hidden], dtype),
    weights: {
      query: weight(heads * headDim),
      key: weight(kvHeads * headDim),
      value: weight(kvHeads * headDim),
      gate: weight(features),
      up: weight(features),
      down: weight(hidden, features),
    },
    positionNumbers: positions,
    positions: Tensor.from(device, positions),
    ropeTable: ropeTable(device, frequenciesOf(headDim), maxPositions),
    q: empty(rows, heads, headDim),
    k: empty(rows, kvHeads, headDim),
    v: empty(rows, kvHeads, headDim),
    gate: empty(rows, features),
    up: empty(rows, features),
    out: empty(rows, features),
  }
}

onEachDevice((device) => {
  describe.each(shapes)('%o', (shape) => {
    const { rows, hidden, heads, kvHeads, headDim, features } = shape

    describe.each(['f32', 'bf16'] as const)('%s', (dtype) => {
      it('qkv beside float64', async () => {
        const p = problem(device(), shape, dtype)
        const x = await p.x.readFloats()
        const product = async (weight: Tensor, count: number): Promise<Float64Array> =>
          matmul(x, await weight.readFloats(), rows, count * headDim, hidden, 'nt')
        const turned = async (weight: Tensor, count: number): Promise<Float64Array> =>
          rope(await product(weight, count), p.positionNumbers, frequenciesOf(headDim), count, headDim)
        const [q, k] = [await turned(p.weights.query, heads), await turned(p.weights.key, kvHeads)]
        const v = await product(p.weights.value, kvHeads)
        for (const invariance of invariances) {
          for (const tensor of [p.q, p.k, p.v]) ops.fill(tensor, Number.NaN)
          ops.qkv(p.x, p.weights, { ...p, invariance })
          expectClose(`q, ${invariance}`, await p.q.readFloats(), q, bounds[dtype])
          expectClose(`k, ${invariance}`, await p.k.readFloats(), k, bounds[dtype])
          expectClose(`v, ${invariance}`, await p.v.readFloats(), v, bounds[dtype])
        }
      })

      it('gateUp beside float64', async () => {
        const p = problem(device(), shape, dtype)
        const x = await p.x.readFloats()
        const product = async (weight: Tensor): Promise<Float64Array> =>
          matmul(x, await weight.readFloats(), rows, features, hidden, 'nt')
        const [gate, up] = [await product(p.weights.gate), await product(p.weights.up)]
        const activation = swiGlu(gate, up)
        for (const invariance of invariances) {
          for (const tensor of [p.gate, p.up, p.out]) ops.fill(tensor, Number.NaN)
          ops.gateUp(p.x, p.weights, p, invariance)
          const kept = [await p.gate.readFloats(), await p.up.readFloats()] as const
          const out = await p.out.readFloats()
          expectClose(`gate, ${invariance}`, kept[0], gate, bounds[dtype])
          expectClose(`up, ${invariance}`, kept[1], up, bounds[dtype])
          expectClose(`out, ${invariance}`, out, activation, bounds[dtype])

          ops.gateUp(p.x, p.weights, { out: ops.fill(p.out, Number.NaN) }, invariance)
          expectClose(`out alone, ${invariance}`, await p.out.readFloats(), activation, bounds[dtype])
          // Where gate and up are not kept, a GPU's product may have another order, unless one is promised.
          if (deviceName === 'cpu' || invariance !== 'none') expect(await p.out.readFloats()).toEqual(out)
          const again = { gate: ops.fill(p.gate, Number.NaN), up: ops.fill(p.up, Number.NaN) }
          ops.gateUp(p.x, p.weights, again, invariance)
          expect([await p.gate.readFloats(), await p.up.readFloats()]).toEqual(kept)
        }
      })

      it('linearAdd beside float64', async () => {
        const { x, weights, out: activation, ...p } = problem(device(), shape, dtype)
        ops.gateUp(x, weights, { ...p, out: activation })
        const [inner, matrix] = [await activation.readFloats(), await weights.down.readFloats()]
        const residual = await x.readFloats()
        const expected = matmul(inner, matrix, rows, hidden, features, 'nt', residual)
        for (const invariance of invariances) {
          const sum = ops.linearAdd(activation, weights.down, x, { invariance })
          expect([sum.shape, sum.dtype]).toEqual([[rows, hidden], dtype])
          expectClose(`residual + product, ${invariance}`, await sum.readFloats(), expected, bounds[dtype])
          expectClose('residual is left alone', await x.readFloats(), residual, { maxAbs: 0 })
          const over = Tensor.from(device(), residual, x.shape, dtype)
          expect(ops.linearAdd(activation, weights.down, over, { out: over, invariance })).toBe(over)
          expect(await over.readFloats()).toEqual(await sum.readFloats())
        }
      })
    })

    it.skipIf(deviceName !== 'cpu').each([
      ['f32', 'f32'],
      ['bf16', 'bf16'],
      ['f32', 'bf16'],
    ] as const)('have the bits of the ops that they stand for, %s with %s weights', async (dtype, weightDtype) => {
      for (const invariance of ['none', 'manyRows'] as const) {
        const p = problem(device(), shape, dtype, weightDtype)
        const apart = problem(device(), shape, dtype, weightDtype)
        const linear = (weight: Tensor, out: Tensor, x = p.x): Tensor =>
          ops.matmul(x, weight, { layout: 'nt', invariance, out })
        ops.qkv(p.x, p.weights, { ...p, invariance })
        linear(p.weights.query, apart.q)
        linear(p.weights.key, apart.k)
        linear(p.weights.value, apart.v)
        ops.rope(apart.q, p.positions, p.ropeTable, { out: apart.q })
        ops.rope(apart.k, p.positions, p.ropeTable, { out: apart.k })
        ops.gateUp(p.x, p.weights, p, invariance)
        linear(p.weights.gate, apart.gate)
        linear(p.weights.up, apart.up)
        ops.swiGlu(apart.gate, apart.up, apart.out)
        for (const name of ['q', 'k', 'v', 'gate', 'up', 'out'] as const)
          expect(await p[name].readFloats(), name).toEqual(await apart[name].readFloats())
        const branch = linear(p.weights.down, Tensor.empty(device(), [rows, hidden], dtype), p.out)
        const sum = ops.linearAdd(p.out, p.weights.down, p.x, { invariance })
        expect(await sum.readFloats()).toEqual(await ops.add(p.x, branch).readFloats())
      }
    })
  })

  const [small] = shapes
  if (small === undefined) throw new Error('there are shapes')

  it('of no rows are nothing', async () => {
    const p = problem(device(), { ...small, rows: 0 }, 'f32')
    ops.qkv(p.x, p.weights, p)
    ops.gateUp(p.x, p.weights, p)
    ops.gateUp(p.x, p.weights, { out: p.out })
    for (const tensor of [p.q, p.v, p.gate, p.out]) expect((await tensor.readFloats()).length).toBe(0)
    expect((await ops.linearAdd(p.out, p.weights.down, p.x).readFloats()).length).toBe(0)
  })

  it.each(['f32', 'bf16'] as const)('name a position that does not exist, %s', async (dtype) => {
    const p = problem(device(), { ...small, headDim: 64, rows: 70 }, dtype)
    const positions = Tensor.from(device(), p.positionNumbers.fill(maxPositions, 69))
    ops.qkv(p.x, p.weights, { ...p, positions, invariance: 'manyRows' })
    await expectError(() => p.q.read(), 'ERR_ALMA_DEVICE', /rope: position 50/)
  })

  it('name what does not fit', async () => {
    const zeros = (...shape: number[]): Tensor => Tensor.zeros(device(), shape, 'f32')
    const p = problem(device(), small, 'f32')
    const short = Tensor.from(device(), Int32Array.of(1, 2))
    await expectError(() => ops.qkv(p.x, p.weights, { ...p, positions: short }), 'ERR_ALMA_SHAPE', /^qkv: x has 1 rows/)
    await expectError(() => ops.qkv(p.x, { ...p.weights, key: p.weights.query }, p), 'ERR_ALMA_SHAPE', /key has shape/)
    await expectError(() => ops.qkv(p.x, p.weights, { ...p, v: p.q }), 'ERR_ALMA_SHAPE', /v has 64 elements, k 32/)
    const odd = { ...p, k: zeros(1, 2, 8) }
    await expectError(() => ops.qkv(p.x, p.weights, odd), 'ERR_ALMA_SHAPE', /k has rows of 8, q of 16/)
    const { gate, up, out } = p
    await expectError(() => ops.gateUp(p.x, p.weights, {}), 'ERR_ALMA_SHAPE', /nothing is asked for/)
    await expectError(() => ops.gateUp(p.x, p.weights, { gate, out }), 'ERR_ALMA_SHAPE', /gate and up go together/)
    const wide = { gate, up: zeros(1, 41), out }
    await expectError(() => ops.gateUp(p.x, p.weights, wide), 'ERR_ALMA_SHAPE', /up has shape \[1, 41\]/)
    const other = { gate: p.weights.gate, up: zeros(41, 64) }
    await expectError(() => ops.gateUp(p.x, other, { out }), 'ERR_ALMA_SHAPE', /up weight has shape \[41, 64\]/)
    const half = { gate: Tensor.empty(device(), gate.shape, 'bf16'), up, out }
    await expectError(() => ops.gateUp(p.x, p.weights, half), 'ERR_ALMA_SHAPE', /x and gate/)
  })
})

itIsTheSameOnAnyThreads(async (device) => {
  const shape = { rows: 45, hidden: 200, heads: 4, kvHeads: 2, headDim: 32, features: 300 }
  const p = problem(device, shape, 'f32')
  ops.qkv(p.x, p.weights, p)
  ops.gateUp(p.x, p.weights, p)
  const results = [p.q, p.k, p.v, p.gate, p.up, p.out, ops.linearAdd(p.out, p.weights.down, p.x)]
  return Promise.all(results.map((tensor) => tensor.readFloats()))
})
