import { describe, expect, it } from 'vitest'
import { ops, Tensor } from '../../lib/runtime/index.js'
import { expectClose, expectError } from '../support/compare.js'
import { itIsTheSameOnAnyThreads, onEachDevice } from '../support/devices.js'
import { describeOpCases } from '../support/op-fixtures.js'
import { TestRandom } from '../support/random.js'
import { swiGlu, swiGluBackward } from '../support/reference.js'

onEachDevice((device) => {
  describeOpCases('swiglu', (opCase) => {
    it.each(['f32', 'bf16'] as const)('%s', async (dtype) => {
      const fixture = opCase.load()
      const load = (name: string): Tensor => Tensor.from(device(), fixture.floats(name), fixture.shape(name), dtype)
      const [gate, up, dout] = [load('in.gate'), load('in.up'), load('in.dout')]
      const bound = (output: string): { relativeL2: number } => ({
        relativeL2: Math.max(dtype === 'f32' ? 2e-6 : 2e-2, 4 * opCase.measured(dtype, output)),
      })
      const again = Tensor.empty(device(), gate.shape, dtype)
      const { dgate, dup } = ops.swiGluBackward(dout, gate, up, { out: again })
      expectClose('out', await ops.swiGlu(gate, up).read(), fixture.floats('out.out'), bound('out'))
      expectClose('out computed again', await again.read(), fixture.floats('out.out'), bound('out'))
      expectClose('dgate', await dgate.read(), fixture.floats('out.dgate'), bound('dgate'))
      expectClose('dup', await dup.read(), fixture.floats('out.dup'), bound('dup'))
    })
  })

  describe('swiGlu', () => {
    it.each([1, 15, 16, 17, 1001, 20_000])('%i elements, forward and backward', async (count) => {
      const random = new TestRandom(count)
      const [gate, up, dout] = [random.normals(count, 3), random.normals(count), random.normals(count)]
      const from = (data: Float32Array): Tensor => Tensor.from(device(), data)
      const expected = swiGluBackward(gate, up, dout)
      expectClose('out', await ops.swiGlu(from(gate), from(up)).read(), swiGlu(gate, up), { relativeL2: 2e-6 })
      const { dgate, dup } = ops.swiGluBackward(from(dout), from(gate), from(up))
      expectClose('dgate', await dgate.read(), expected.dgate, { relativeL2: 2e-6 })
      expectClose('dup', await dup.read(), expected.dup, { relativeL2: 2e-6 })
    })

    it('writes over its inputs where that is allowed', async () => {
      const random = new TestRandom(5)
      const [gate, up, dout] = [random.normals(77), random.normals(77), random.normals(77)]
      const from = (data: Float32Array): Tensor => Tensor.from(device(), data)
      const expected = { out: swiGlu(gate, up), ...swiGluBackward(gate, up, dout) }
      const [g, u] = [from(gate), from(up)]
      ops.swiGlu(g, u, u)
      expectClose('out over up', await u.read(), expected.out, { relativeL2: 2e-6 })
      const u2 = from(up)
      ops.swiGlu(g, u2, g)
      expectClose('out over gate', await g.read(), expected.out, { relativeL2: 2e-6 })

      const [dg, du, d] = [from(gate), from(up), from(dout)]
      ops.swiGluBackward(d, dg, du, { dgate: dg, dup: du, out: d })
      expectClose('dgate over gate', await dg.read(), expected.dgate, { relativeL2: 2e-6 })
      expectClose('dup over up', await du.read(), expected.dup, { relativeL2: 2e-6 })
      expectClose('out over dout', await d.read(), expected.out, { relativeL2: 2e-6 })
    })

    it('stays finite far from zero', async () => {
      const gate = Float32Array.of(-1e4, -200, -90, 90, 200, 1e4)
      const ones = Float32Array.from(gate, () => 1)
      const [g, u, d] = [gate, ones, ones].map((data) => Tensor.from(device(), data)) as [Tensor, Tensor, Tensor]
      expectClose('out', await ops.swiGlu(g, u).read(), [0, 0, 0, 90, 200, 1e4], { maxAbs: 1e-6 })
      const { dgate } = ops.swiGluBackward(d, g, u)
      expectClose('dgate', await dgate.read(), [0, 0, 0, 1, 1, 1], { maxAbs: 1e-6 })
    })

    it('of nothing is nothing', async () => {
      const nothing = Tensor.empty(device(), [0, 4], 'f32')
      expect((await ops.swiGlu(nothing, nothing).read()).length).toBe(0)
    })

    it('names the op and what does not fit', async () => {
      const four = Tensor.zeros(device(), [4], 'f32')
      const three = Tensor.zeros(device(), [3], 'f32')
      await expectError(() => ops.swiGlu(four, three), 'ERR_ALMA_SHAPE', /SwiGlu: up has 3 elements, 4 are needed/)
      const half = Tensor.zeros(device(), [4], 'bf16')
      await expectError(() => ops.swiGlu(four, half), 'ERR_ALMA_SHAPE', /differ in dtype: f32 and bf16/)
      await expectError(() => ops.swiGluBackward(three, four, four), 'ERR_ALMA_SHAPE', /dout has 3/)
    })
  })
})

itIsTheSameOnAnyThreads(async (device) => {
  const random = new TestRandom(6)
  const count = 40_003
  const from = (): Tensor => Tensor.from(device, random.normals(count))
  const [gate, up, dout] = [from(), from(), from()]
  const { dgate, dup } = ops.swiGluBackward(dout, gate, up)
  return Promise.all([ops.swiGlu(gate, up), dgate, dup].map((tensor) => tensor.readFloats()))
})
