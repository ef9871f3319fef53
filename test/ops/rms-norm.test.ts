import { describe, expect, it } from 'vitest'
import { type Device, ops, Tensor } from '../../lib/runtime/index.js'
import { roundAllToBf16 } from '../support/bf16.js'
import { expectClose, expectError } from '../support/compare.js'
import { itIsTheSameOnAnyThreads, onEachDevice } from '../support/devices.js'
import { describeOpCases, numberOf } from '../support/op-fixtures.js'
import { TestRandom } from '../support/random.js'
import { rmsNorm, rmsNormBackward } from '../support/reference.js'

const shapes = [
  [1, 1],
  [3, 7],
  [5, 64],
  [33, 100],
  [2, 4097],
] as const

function problem(rows: number, cols: number) {
  const random = new TestRandom(rows + 1000 * cols)
  return {
    x: random.normals(rows * cols, 2),
    residual: random.normals(rows * cols),
    weight: random.normals(cols),
    dy: random.normals(rows * cols),
    before: random.normals(rows * cols),
    dweight: random.normals(cols),
  }
}

const plus = (a: Float32Array, b: ArrayLike<number>): Float64Array =>
  Float64Array.from(a, (x, i) => x + (b[i] ?? Number.NaN))

onEachDevice((device) => {
  describeOpCases('rmsnorm', (opCase) => {
    it.each(['f32', 'bf16'] as const)('%s', async (dtype) => {
      const fixture = opCase.load()
      const shape = fixture.shape('in.x')
      const epsilon = numberOf(opCase.params, 'eps')
      const load = (name: string): Tensor => Tensor.from(device(), fixture.floats(name), fixture.shape(name), dtype)
      const x = load('in.x')
      const weight = load('in.weight')
      const inverseRms = Tensor.empty(device(), [shape[0] ?? 0], 'f32')
      const dweight = Tensor.zeros(device(), weight.shape, 'f32')
      const y = ops.rmsNorm(x, weight, { epsilon, inverseRms })
      const dx = ops.rmsNormBackward(load('in.dy'), x, weight, inverseRms, { dweight })
      const bound = (output: string): { relativeL2: number } => ({
        relativeL2: Math.max(dtype === 'f32' ? 2e-6 : 2e-2, 4 * opCase.measured(dtype, output)),
      })
      expectClose('y', await y.read(), fixture.floats('out.y'), bound('y'))
      expectClose('dx', await dx.read(), fixture.floats('out.dx'), bound('dx'))
      expectClose('dw', await dweight.read(), fixture.floats('out.dw'), bound('dw'))
    })
  })

  describe('rmsNorm', () => {
    it.each(shapes)('[%i, %i], forward and backward', async (rows, cols) => {
      const { x, weight, dy, before, dweight } = problem(rows, cols)
      const expected = rmsNorm(x, weight, rows, cols, 1e-5)
      const gradients = rmsNormBackward(dy, x, weight, rows, cols, 1e-5)
      const inverseRms = Tensor.empty(device(), [rows], 'f32')
      const xs = Tensor.from(device(), x, [rows, cols])
      const w = Tensor.from(device(), weight)
      const y = ops.rmsNorm(xs, w, { inverseRms })
      expectClose('y', await y.read(), expected.y, { relativeL2: 2e-6 })
      expectClose('inverseRms', await inverseRms.read(), expected.inverseRms, { relativeL2: 2e-6 })

      const dx = Tensor.from(device(), before, [rows, cols])
      const dw = Tensor.from(device(), dweight)
      const d = Tensor.from(device(), dy, [rows, cols])
      ops.rmsNormBackward(d, xs, w, inverseRms, { dx, dweight: dw, accumulateDx: true })
      expectClose('dx added to', await dx.read(), plus(before, gradients.dx), { relativeL2: 2e-6 })
      expectClose('dweight added to', await dw.read(), plus(dweight, gradients.dweight), { relativeL2: 2e-6 })
      // dx may be dy, and the weight's gradient may be left out.
      expect(ops.rmsNormBackward(d, xs, w, inverseRms, { dx: d })).toBe(d)
      // A single column is normalised to ±1 whatever it was: its gradient is what epsilon leaves of nothing.
      const tolerance = cols === 1 ? { maxAbs: 1e-5 } : { relativeL2: 2e-6 }
      expectClose('dx in the place of dy', await d.read(), gradients.dx, tolerance)
    })

    it.each(['sum apart', 'sum in the place of x', 'sum in the place of the residual', 'y in the place of x'])(
      'adds a residual first: %s',
      async (where) => {
        const [rows, cols] = [9, 65]
        const { x, residual, weight } = problem(rows, cols)
        const total = Float32Array.from(x, (value, i) => value + (residual[i] ?? 0))
        const xs = Tensor.from(device(), x, [rows, cols])
        const rs = Tensor.from(device(), residual, [rows, cols])
        const places = { 'sum in the place of x': xs, 'sum in the place of the residual': rs }
        const sum = places[where as keyof typeof places] ?? Tensor.empty(device(), [rows, cols], 'f32')
        const out = where === 'y in the place of x' ? xs : Tensor.empty(device(), [rows, cols], 'f32')
        ops.rmsNorm(xs, Tensor.from(device(), weight), { residual: rs, sum, out })
        expectClose('sum', await sum.read(), total, { maxAbs: 0 })
        expectClose('y', await out.read(), rmsNorm(total, weight, rows, cols, 1e-5).y, { relativeL2: 2e-6 })
      },
    )

    it('takes bf16 activations with f32 weights, and the reverse', async () => {
      const [rows, cols] = [6, 96]
      const { x, weight, dy } = problem(rows, cols)
      const [xb, wb, dyb] = [roundAllToBf16(x), roundAllToBf16(weight), roundAllToBf16(dy)]
      await mixed(device(), 'bf16', 'f32', xb, weight, dyb, 2e-2)
      await mixed(device(), 'f32', 'bf16', x, wb, dy, 2e-6)
    })

    it('of no rows is nothing', async () => {
      const x = Tensor.empty(device(), [0, 16], 'f32')
      expect((await ops.rmsNorm(x, Tensor.zeros(device(), [16], 'f32')).read()).length).toBe(0)
    })

    it('names the op and what does not fit', async () => {
      const x = Tensor.zeros(device(), [2, 8], 'f32')
      const weight = Tensor.zeros(device(), [8], 'f32')
      const wrong = Tensor.zeros(device(), [7], 'f32')
      await expectError(() => ops.rmsNorm(x, wrong), 'ERR_ALMA_SHAPE', /^rmsNorm: weight/)
      const inverseRms = Tensor.zeros(device(), [1], 'f32')
      await expectError(
        () => ops.rmsNorm(x, weight, { inverseRms }),
        'ERR_ALMA_SHAPE',
        /RmsNorm: inverseRms has 1 elements, 2 are needed/,
      )
      const half = Tensor.zeros(device(), [2, 8], 'bf16')
      await expectError(() => ops.rmsNorm(x, weight, { out: half }), 'ERR_ALMA_SHAPE', /dtype/)
      await expectError(() => ops.rmsNorm(x, weight, { residual: x }), 'ERR_ALMA_SHAPE', /sum is needed/)
    })
  })
})

itIsTheSameOnAnyThreads(async (device) => {
  const [rows, cols] = [131, 96]
  const { x, weight, dy } = problem(rows, cols)
  const inverseRms = Tensor.empty(device, [rows], 'f32')
  const dweight = Tensor.zeros(device, [cols], 'f32')
  const xs = Tensor.from(device, x, [rows, cols])
  const w = Tensor.from(device, weight)
  const y = ops.rmsNorm(xs, w, { inverseRms })
  const dx = ops.rmsNormBackward(Tensor.from(device, dy, [rows, cols]), xs, w, inverseRms, { dweight })
  return Promise.all([y, inverseRms, dx, dweight].map((tensor) => tensor.readFloats()))
})

async function mixed(
  device: Device,
  dtype: 'f32' | 'bf16',
  weightDtype: 'f32' | 'bf16',
  x: Float32Array,
  weight: Float32Array,
  dy: Float32Array,
  relativeL2: number,
): Promise<void> {
  const cols = weight.length
  const rows = x.length / cols
  const inverseRms = Tensor.empty(device, [rows], 'f32')
  const dweight = Tensor.zeros(device, [cols], 'f32')
  const xs = Tensor.from(device, x, [rows, cols], dtype)
  const w = Tensor.from(device, weight, [cols], weightDtype)
  const y = ops.rmsNorm(xs, w, { inverseRms })
  const dx = ops.rmsNormBackward(Tensor.from(device, dy, [rows, cols], dtype), xs, w, inverseRms, { dweight })
  const gradients = rmsNormBackward(dy, x, weight, rows, cols, 1e-5)
  expectClose('y', await y.read(), rmsNorm(x, weight, rows, cols, 1e-5).y, { relativeL2 })
  expectClose('dx', await dx.read(), gradients.dx, { relativeL2 })
  expectClose('dweight', await dweight.read(), gradients.dweight, { relativeL2 })
}
