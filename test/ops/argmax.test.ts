import { describe, expect, it } from 'vitest'
import { ops, Tensor } from '../../lib/runtime/index.js'
import { roundAllToBf16 } from '../support/bf16.js'
import { expectClose, expectError } from '../support/compare.js'
import { itIsTheSameOnAnyThreads, onEachDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'
import { softmax } from '../support/reference.js'

onEachDevice((device) => {
  describe('argmax', () => {
    it.each([
      [1, 1],
      [3, 7],
      [5, 1000],
      [64, 33],
      [2, 32_000],
    ])('[%i, %i], with its log-probability', async (rows, vocab) => {
      const wide = new TestRandom(vocab).normals(rows * vocab, 3)
      for (const dtype of ['f32', 'bf16'] as const) {
        const logits = dtype === 'bf16' ? roundAllToBf16(wide) : wide
        const logprob = Tensor.empty(device(), [rows], 'f32')
        const ids = await ops.argmax(Tensor.from(device(), logits, [rows, vocab], dtype), { logprob }).readInts()
        const row = (r: number): Float32Array => logits.subarray(r * vocab, (r + 1) * vocab)
        expect([...ids]).toEqual(
          Array.from({ length: rows }, (_, r) => row(r).indexOf(row(r).reduce((a, b) => Math.max(a, b)))),
        )
        const expected = [...ids].map((id, r) => (row(r)[id] ?? Number.NaN) - softmax(row(r)).logSumExp)
        expectClose('logprob', await logprob.read(), expected, { maxAbs: 2e-5 })
      }
    })

    it.each([2, 17, 40, 1000])('of equal logits the lowest column, %i columns', async (vocab) => {
      const equal = ops.fill(Tensor.empty(device(), [3, vocab], 'f32'), 1)
      expect([...(await ops.argmax(equal).read())]).toEqual([0, 0, 0])
      for (const [first, second] of [
        [0, vocab - 1],
        [vocab >> 1, vocab - 1],
        [vocab - 2, vocab - 1],
      ] as const) {
        const logits = new Float32Array(vocab)
        logits[first] = logits[second] = 3
        expect([...(await ops.argmax(Tensor.from(device(), logits, [1, vocab])).read())]).toEqual([first])
      }
    })

    it('finds the only logit that is not −∞, and a maximum below zero', async () => {
      const logits = new Float32Array(50).fill(Number.NEGATIVE_INFINITY)
      logits[37] = -4
      const logprob = Tensor.empty(device(), [1], 'f32')
      expect([...(await ops.argmax(Tensor.from(device(), logits, [1, 50]), { logprob }).read())]).toEqual([37])
      expectClose('logprob', await logprob.read(), [0], { maxAbs: 1e-6 })
    })

    it('names the op and what does not fit', async () => {
      const logits = Tensor.zeros(device(), [2, 4], 'f32')
      const out = Tensor.zeros(device(), [1], 'i32')
      await expectError(() => ops.argmax(logits, { out }), 'ERR_ALMA_SHAPE', /Argmax: ids has 1 elements, 2 are needed/)
    })
  })
})

itIsTheSameOnAnyThreads(async (device) => {
  const logprob = Tensor.empty(device, [19], 'f32')
  const logits = Tensor.from(device, new TestRandom(6).normals(19 * 3001), [19, 3001])
  return [await ops.argmax(logits, { logprob }).readInts(), await logprob.readFloats()]
})
