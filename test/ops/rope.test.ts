import { describe, expect, it } from 'vitest'
import { ops, Tensor } from '../../lib/runtime/index.js'
import { expectClose, expectError } from '../support/compare.js'
import { itIsTheSameOnAnyThreads, onEachDevice } from '../support/devices.js'
import { describeOpCases, numberOf } from '../support/op-fixtures.js'
import { TestRandom } from '../support/random.js'
import { rope } from '../support/reference.js'
import { frequenciesOf, ropeTable } from '../support/rope-table.js'

onEachDevice((device) => {
  describeOpCases('rope', (opCase) => {
    it.each(['f32', 'bf16'] as const)('%s', async (dtype) => {
      const fixture = opCase.load()
      // The fixture's own cosines, one row a token: the angles of real positions are test/model/rope.test.ts's matter.
      const [tokens = 0, , headDim] = fixture.shape('in.x')
      expect(headDim).toBe(numberOf(opCase.params, 'head_dim'))
      const positions = Tensor.from(
        device(),
        Int32Array.from({ length: tokens }, (_, i) => i),
      )
      const load = (name: string): Tensor => Tensor.from(device(), fixture.floats(name), fixture.shape(name))
      const rows = { cosine: load('out.cos'), sine: load('out.sin') }
      const input = (name: string): Tensor => Tensor.from(device(), fixture.floats(name), fixture.shape(name), dtype)
      const tolerance = dtype === 'f32' ? { maxAbs: 2e-6 } : { relativeL2: 1e-2 }
      const y = ops.rope(input('in.x'), positions, rows)
      expectClose('y', await y.read(), fixture.floats('out.y'), tolerance)
      const dx = ops.rope(input('in.dy'), positions, rows, { inverse: true })
      expectClose('dx', await dx.read(), fixture.floats('out.dx'), tolerance)
    })
  })

  describe('rope', () => {
    it.each([
      [1, 1, 2],
      [5, 3, 6],
      [7, 2, 34],
      [40, 4, 64],
      [3, 5, 128],
    ])('[%i, %i, %i], forward and back', async (tokens, heads, headDim) => {
      const random = new TestRandom(tokens)
      const x = random.normals(tokens * heads * headDim)
      const positions = random.integers(tokens, 50)
      const frequencies = frequenciesOf(headDim)
      const rows = ropeTable(device(), frequencies, 50)
      const ids = Tensor.from(device(), positions)
      const y = ops.rope(Tensor.from(device(), x, [tokens, heads, headDim]), ids, rows)
      expectClose('y', await y.read(), rope(x, positions, frequencies, heads, headDim), { maxAbs: 2e-6 })
      const back = ops.rope(y, ids, rows, { out: y, inverse: true })
      expect(back).toBe(y)
      expectClose('rotated back', await back.read(), x, { maxAbs: 2e-6 })
    })

    it('rotates pairs half a head apart by +position: (1, 0) at angle 90° becomes (0, 1)', async () => {
      const rows = ropeTable(device(), [Math.PI / 2], 2)
      const x = Tensor.from(device(), [1, 0], [1, 1, 2])
      const y = await ops.rope(x, Tensor.from(device(), Int32Array.of(1)), rows).read()
      expectClose('y', y, [0, 1], { maxAbs: 1e-6 })
    })

    it('of no tokens is nothing', async () => {
      const x = Tensor.empty(device(), [0, 2, 8], 'f32')
      expect(
        (await ops.rope(x, Tensor.from(device(), new Int32Array()), ropeTable(device(), frequenciesOf(8), 4)).read())
          .length,
      ).toBe(0)
    })

    it('names the op and what does not fit', async () => {
      const rows = ropeTable(device(), frequenciesOf(8), 4)
      const ids = Tensor.from(device(), Int32Array.of(0, 1))
      const flat = Tensor.zeros(device(), [2, 16], 'f32')
      await expectError(() => ops.rope(flat, ids, rows), 'ERR_ALMA_SHAPE', /^rope: x has shape/)
      const three = Tensor.zeros(device(), [3, 2, 8], 'f32')
      await expectError(
        () => ops.rope(three, ids, rows),
        'ERR_ALMA_SHAPE',
        /Rope: positions has 2 elements, 3 are needed/,
      )
    })

    it.each([4, -1, 2 ** 30])(
      'position %i of a table of 4: an error at the next read, and the device goes on',
      async (position) => {
        const rows = ropeTable(device(), frequenciesOf(8), 4)
        const x = Tensor.from(device(), new TestRandom(1).normals(32), [2, 2, 8])
        const y = ops.rope(x, Tensor.from(device(), Int32Array.of(0, position)), rows)
        await expectError(() => y.read(), 'ERR_ALMA_DEVICE', /rope/i)
        const again = ops.rope(x, Tensor.from(device(), Int32Array.of(0, 0)), rows)
        expectClose('y', await again.read(), await x.read(), { maxAbs: 0 })
      },
    )
  })
})

itIsTheSameOnAnyThreads(async (device) => {
  const random = new TestRandom(9)
  const x = Tensor.from(device, random.normals(67 * 3 * 32), [67, 3, 32])
  const positions = Tensor.from(device, random.integers(67, 100))
  return [await ops.rope(x, positions, ropeTable(device, frequenciesOf(32), 100)).readFloats()]
})
