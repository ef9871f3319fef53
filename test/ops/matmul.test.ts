import { describe, expect, it } from 'vitest'
import { type Device, type DType, ops, Tensor } from '../../lib/runtime/index.js'
import { roundAllToBf16 } from '../support/bf16.js'
import { expectClose, expectError } from '../support/compare.js'
import { itIsTheSameOnAnyThreads, onEachDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'
import { type Layout, matmul } from '../support/reference.js'

const layouts: readonly Layout[] = ['nn', 'nt', 'tn']

// Around the register blocks and cache blocks of any implementation, and the one- and few-row products of decoding.
const shapes: readonly (readonly [m: number, n: number, k: number])[] = [
  [1, 1, 1],
  [1, 7, 5],
  [1, 300, 129],
  [2, 33, 64],
  [3, 1, 17],
  [4, 16, 16],
  [5, 130, 31],
  [7, 9, 260],
  [16, 48, 32],
  [17, 65, 33],
  [61, 59, 67],
  [96, 100, 300],
  [130, 70, 513],
]

const extents = (layout: Layout, m: number, n: number, k: number): [a: number[], b: number[]] => [
  layout === 'tn' ? [k, m] : [m, k],
  layout === 'nt' ? [n, k] : [k, n],
]

const rounded = (values: Float32Array, dtype: DType): Float32Array =>
  dtype === 'bf16' ? roundAllToBf16(values) : values

onEachDevice((device) => {
  describe.each(layouts)('matmul %s', (layout) => {
    it.each(shapes)('%i × %i × %i in f32', async (m, n, k) => {
      await compare(device(), layout, [m, n, k], ['f32', 'f32', 'f32'])
    })

    it.each<[DType, DType, DType]>([
      ['bf16', 'bf16', 'bf16'],
      ['f32', 'bf16', 'f32'],
      ['bf16', 'f32', 'bf16'],
      ['bf16', 'bf16', 'f32'],
      ['f32', 'f32', 'bf16'],
    ])('%s · %s → %s', async (...dtypes) => {
      for (const shape of [
        [1, 70, 257],
        [3, 40, 100],
        [33, 47, 65],
        [70, 130, 96],
      ] as const) {
        await compare(device(), layout, shape, dtypes)
      }
    })

    it('adds to the result with accumulate', async () => {
      for (const [m, n, k] of [
        [1, 30, 20],
        [6, 50, 40],
        [65, 33, 300],
      ] as const) {
        const random = new TestRandom(m)
        const [aShape, bShape] = extents(layout, m, n, k)
        const a = random.normals(m * k)
        const b = random.normals(n * k)
        const c = random.normals(m * n)
        const out = Tensor.from(device(), c, [m, n])
        ops.matmul(Tensor.from(device(), a, aShape), Tensor.from(device(), b, bShape), {
          layout,
          accumulate: true,
          out,
        })
        expectClose('c', await out.read(), matmul(a, b, m, n, k, layout, c), { relativeL2: 1e-6 })
      }
    })

    it('of nothing is nothing, and a sum over nothing is zero', async () => {
      for (const [m, n, k] of [
        [0, 3, 4],
        [3, 0, 4],
      ] as const) {
        const [aShape, bShape] = extents(layout, m, n, k)
        const out = ops.matmul(Tensor.zeros(device(), aShape, 'f32'), Tensor.zeros(device(), bShape, 'f32'), { layout })
        expect((await out.read()).length).toBe(0)
      }
      const filled = ops.fill(Tensor.empty(device(), [2, 3], 'f32'), 5)
      const [aShape, bShape] = extents(layout, 2, 3, 0)
      const nothing: [Tensor, Tensor] = [Tensor.empty(device(), aShape, 'f32'), Tensor.empty(device(), bShape, 'f32')]
      device().addon.opMatmul(
        nothing[0].handle,
        nothing[1].handle,
        filled.handle,
        2,
        3,
        0,
        layouts.indexOf(layout),
        true,
        0,
        false,
      )
      expect([...(await filled.read())]).toEqual([5, 5, 5, 5, 5, 5])
      device().addon.opMatmul(
        nothing[0].handle,
        nothing[1].handle,
        filled.handle,
        2,
        3,
        0,
        layouts.indexOf(layout),
        false,
        0,
        false,
      )
      expect([...(await filled.read())]).toEqual([0, 0, 0, 0, 0, 0])
    })
  })

  it.each(layouts)('rounds both operands where it may and where that is faster: %s', async (layout) => {
    await compare(device(), layout, [31, 70, 257], ['f32', 'f32', 'f32'], true)
    await compare(device(), layout, [130, 515, 96], ['f32', 'f32', 'f32'], true)
  })

  it('reads views of larger tensors', async () => {
    const random = new TestRandom(3)
    const table = random.normals(10 * 20)
    const b = random.normals(20 * 12)
    const rows = Tensor.from(device(), table, [10, 20]).rows(3, 8)
    const got = await ops.matmul(rows, Tensor.from(device(), b, [20, 12])).read()
    expectClose('c', got, matmul(table.slice(60, 160), b, 5, 12, 20, 'nn'), { relativeL2: 1e-6 })
  })

  it('propagates NaN and infinity instead of hiding them', async () => {
    const a = Tensor.from(device(), [Number.NaN, 0, 0, Number.POSITIVE_INFINITY, 1, 1], [3, 2])
    const b = Tensor.from(device(), [0, 1, 1, 0], [2, 2])
    expect([...(await ops.matmul(a, b).read())].map(Number.isFinite)).toEqual([false, false, false, false, true, true])
  })

  it('names the op and what does not fit', async () => {
    const a = Tensor.zeros(device(), [2, 3], 'f32')
    const b = Tensor.zeros(device(), [4, 5], 'f32')
    await expectError(() => ops.matmul(a, b), 'ERR_ALMA_SHAPE', /^matmul: .*3 ≠ 4/)
    const fitting = Tensor.zeros(device(), [3, 5], 'f32')
    const small = Tensor.zeros(device(), [2, 4], 'f32')
    await expectError(() => ops.matmul(a, fitting, { out: small }), 'ERR_ALMA_SHAPE', /matmul: out .*\[2, 5\]/)
    const ids = Tensor.zeros(device(), [3, 5], 'i32')
    await expectError(() => ops.matmul(a, ids), 'ERR_ALMA_SHAPE', /atmul: b is i32/)
  })
})

itIsTheSameOnAnyThreads(async (device) => {
  const results: Float32Array[] = []
  for (const layout of layouts) {
    for (const [m, n, k] of [
      [1, 301, 200],
      [5, 77, 130],
      [130, 190, 300],
    ] as const) {
      const random = new TestRandom(7)
      const [aShape, bShape] = extents(layout, m, n, k)
      const a = Tensor.from(device, random.normals(m * k), aShape)
      const b = Tensor.from(device, random.normals(n * k), bShape)
      results.push(await ops.matmul(a, b, { layout }).readFloats())
    }
  }
  return results
})

async function compare(
  device: Device,
  layout: Layout,
  [m, n, k]: readonly [number, number, number],
  [aType, bType, cType]: readonly [DType, DType, DType],
  mayRound = false,
): Promise<void> {
  const random = new TestRandom(m * 7919 + n * 31 + k)
  const a = rounded(random.normals(m * k), aType)
  const b = rounded(random.normals(n * k), bType)
  const [aShape, bShape] = extents(layout, m, n, k)
  const out = Tensor.empty(device, [m, n], cType)
  // Processors that multiply pairs of bf16 round the other operand, or both, but where weights are read in place.
  const rounds = (aType !== bType || mayRound) && /bf16|amx/.test(device.description) && !(layout === 'nt' && m <= 8)
  const [x, y] = rounds ? [roundAllToBf16(a), roundAllToBf16(b)] : [a, b]
  ops.matmul(Tensor.from(device, a, aShape, aType), Tensor.from(device, b, bShape, bType), { layout, out, mayRound })
  // Products of bf16 pairs may be summed in another order than the reference; the result is rounded once at the end.
  const relativeL2 = cType === 'bf16' ? 4e-3 : 1e-6
  expectClose(`${m} × ${n} × ${k}`, await out.read(), matmul(x, y, m, n, k, layout), { relativeL2 })
}
