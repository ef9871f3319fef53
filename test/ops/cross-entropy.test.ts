import { describe, expect, it } from 'vitest'
import { ops, Tensor } from '../../lib/runtime/index.js'
import { expectClose, expectError } from '../support/compare.js'
import { itIsTheSameOnAnyThreads, onEachDevice } from '../support/devices.js'
import { describeOpCases, numberOf } from '../support/op-fixtures.js'
import { TestRandom } from '../support/random.js'
import { crossEntropy } from '../support/reference.js'

onEachDevice((device) => {
  describeOpCases('cross_entropy', (opCase) => {
    it.each(['f32', 'bf16'] as const)('%s', async (dtype) => {
      const fixture = opCase.load()
      const logits = Tensor.from(device(), fixture.floats('in.logits'), fixture.shape('in.logits'), dtype)
      const ids = fixture.ints('in.targets')
      const ignoreIndex = numberOf(opCase.params, 'ignore_index', -100)
      const counted = ids.filter((id) => id !== ignoreIndex).length
      const logSumExp = Tensor.empty(device(), [ids.length], 'f32')
      const dlogits = Tensor.empty(device(), logits.shape, dtype)
      const gradScale = Tensor.from(device(), [1 / counted])
      const targets = Tensor.from(device(), ids)
      const nll = ops.crossEntropy(logits, targets, { ignoreIndex, logSumExp, dlogits, gradScale })
      const bound = (output: string): { relativeL2: number } => ({
        relativeL2: Math.max(
          dtype === 'f32' ? (output === 'dlogits' ? 1e-5 : 2e-6) : 2e-2,
          4 * opCase.measured(dtype, output),
        ),
      })
      expectClose('nll', await nll.read(), fixture.floats('out.nll'), bound('nll'))
      expectClose('lse', await logSumExp.read(), fixture.floats('out.lse'), bound('lse'))
      expectClose('dlogits', await dlogits.read(), fixture.floats('out.dlogits'), bound('dlogits'))
      const [sum = Number.NaN] = await ops.reduceSum(nll).readFloats()
      expectClose('loss', [sum / counted], fixture.floats('out.loss_mean'), bound('loss_mean'))
    })
  })

  describe('crossEntropy', () => {
    it.each([
      [1, 1],
      [1, 5],
      [7, 33],
      [4, 1000],
      [65, 17],
    ])('[%i, %i], loss and gradient', async (rows, vocab) => {
      const random = new TestRandom(rows * vocab)
      const logits = random.normals(rows * vocab, 4)
      const ids = random.integers(rows, vocab)
      if (rows > 2) ids[1] = -100
      const expected = crossEntropy(logits, ids, vocab, -100, 0.25)
      const x = Tensor.from(device(), logits, [rows, vocab])
      const targets = Tensor.from(device(), ids)
      const logSumExp = Tensor.empty(device(), [rows], 'f32')
      const gradScale = Tensor.from(device(), [0.25])
      expectClose('nll alone', await ops.crossEntropy(x, targets).read(), expected.nll, {
        relativeL2: 2e-6,
        maxAbs: 1e-5,
      })
      // dlogits may be logits.
      const nll = ops.crossEntropy(x, targets, { logSumExp, dlogits: x, gradScale })
      expectClose('nll', await nll.read(), expected.nll, { relativeL2: 2e-6, maxAbs: 1e-5 })
      expectClose('logSumExp', await logSumExp.read(), expected.logSumExp, { relativeL2: 2e-6 })
      expectClose('dlogits', await x.read(), expected.dlogits, { maxAbs: 5e-7 })
    })

    it('has another ignore index, also one inside the vocabulary, and a gradient factor of 1 when none is given', async () => {
      const logits = new TestRandom(4).normals(3 * 6)
      const expected = crossEntropy(logits, [0, 2, 5], 6, 0, 1)
      const x = Tensor.from(device(), logits, [3, 6])
      const nll = ops.crossEntropy(x, Tensor.from(device(), Int32Array.of(0, 2, 5)), { ignoreIndex: 0, dlogits: x })
      expectClose('nll', await nll.read(), expected.nll, { maxAbs: 1e-6 })
      expectClose('dlogits', await x.read(), expected.dlogits, { maxAbs: 1e-6 })
    })

    it('survives logits of any size, and −∞ for a column that is banned', async () => {
      const logits = Float32Array.of(1e4, -1e4, 1e4 - 1, 0, -3e38, -3e38, Number.NEGATIVE_INFINITY, 1, 2)
      const expected = crossEntropy(logits, [0, 1, 2], 3, -100, 1)
      const x = Tensor.from(device(), logits, [3, 3])
      const nll = ops.crossEntropy(x, Tensor.from(device(), Int32Array.of(0, 1, 2)), { dlogits: x })
      expectClose('nll', await nll.read(), expected.nll, { relativeL2: 2e-6 })
      expectClose('dlogits', await x.read(), expected.dlogits, { maxAbs: 1e-6 })
    })

    it.each([0.1, 1])('label smoothing %d and factors of rows', async (labelSmoothing) => {
      const [rows, vocab] = [5, 37]
      const random = new TestRandom(12)
      const logits = random.normals(rows * vocab, 3)
      const ids = Int32Array.of(3, 36, -100, 0, 11)
      const factors = [0.5, -2, 3, 0, 1]
      const plain = crossEntropy(logits, ids, vocab, -100, 1)
      const nll = new Float64Array(rows)
      const dlogits = new Float64Array(rows * vocab)
      for (let r = 0; r < rows; r++) {
        if (ids[r] === -100) continue
        const row = logits.slice(r * vocab, (r + 1) * vocab)
        const lse = plain.logSumExp[r] ?? 0
        const mean = row.reduce((sum, x) => sum + (lse - x) / vocab, 0)
        nll[r] = (1 - labelSmoothing) * (plain.nll[r] ?? 0) + labelSmoothing * mean
        row.forEach((x, c) => {
          const wanted = (c === ids[r] ? 1 - labelSmoothing : 0) + labelSmoothing / vocab
          dlogits[r * vocab + c] = 0.25 * (factors[r] ?? 0) * (Math.exp(x - lse) - wanted)
        })
      }
      const x = Tensor.from(device(), logits, [rows, vocab])
      const rowScale = Tensor.from(device(), factors)
      const gradScale = Tensor.from(device(), [0.25])
      const got = ops.crossEntropy(x, Tensor.from(device(), ids), { dlogits: x, gradScale, rowScale, labelSmoothing })
      expectClose('nll', await got.read(), nll, { relativeL2: 2e-6 })
      expectClose('dlogits', await x.read(), dlogits, { maxAbs: 5e-7 })
    })

    it('of no rows is nothing', async () => {
      const nll = ops.crossEntropy(Tensor.empty(device(), [0, 9], 'f32'), Tensor.from(device(), new Int32Array()))
      expect((await nll.read()).length).toBe(0)
    })

    it('names the op and what does not fit', async () => {
      const x = Tensor.zeros(device(), [2, 4], 'f32')
      const one = Tensor.from(device(), Int32Array.of(1))
      await expectError(() => ops.crossEntropy(x, one), 'ERR_ALMA_SHAPE', /CrossEntropy: targets has 1 elements, 2 are/)
      const dlogits = Tensor.zeros(device(), [2, 4], 'bf16')
      const two = Tensor.from(device(), Int32Array.of(1, 2))
      await expectError(() => ops.crossEntropy(x, two, { dlogits }), 'ERR_ALMA_SHAPE', /logits and dlogits differ/)
    })

    it.each([4, -1, -101])(
      'target %i of a vocabulary of 4: an error at the next read, and the device goes on',
      async (target) => {
        const x = Tensor.zeros(device(), [2, 4], 'f32')
        const nll = ops.crossEntropy(x, Tensor.from(device(), Int32Array.of(0, target)))
        await expectError(() => nll.read(), 'ERR_ALMA_DEVICE', /cross_?entropy/i)
        const again = await ops.crossEntropy(x, Tensor.from(device(), Int32Array.of(0, 3))).read()
        expectClose('nll', again, [Math.log(4), Math.log(4)], { maxAbs: 1e-6 })
      },
    )
  })
})

itIsTheSameOnAnyThreads(async (device) => {
  const random = new TestRandom(8)
  const x = Tensor.from(device, random.normals(37 * 501), [37, 501])
  const nll = ops.crossEntropy(x, Tensor.from(device, random.integers(37, 501)), { dlogits: x })
  return [await nll.readFloats(), await x.readFloats()]
})
