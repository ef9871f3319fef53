import { describe, expect, it } from 'vitest'
import { ops, Tensor } from '../../lib/runtime/index.js'
import { expectClose, expectError } from '../support/compare.js'
import { onEachDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'
import { processLogits } from '../support/reference.js'

const vocab = 40
const histories = [[], [3], [3, 3, 3], [1, 2, 3, 1, 2], [5, 6, 7, 5, 6, 7, 5, 6], [0, 39, 0, 39, 0]]
const stride = 8
const rows = histories.length

interface Settings {
  readonly repetitionPenalty?: number
  readonly noRepeatNgramSize?: number
  readonly suppress?: readonly number[]
}

onEachDevice((device) => {
  // What lies behind a row's end is no history: ids that would be an error if they were read.
  const history = (): Tensor =>
    Tensor.from(
      device(),
      Int32Array.from(histories.flatMap((ids) => [...ids, ...Array(stride - ids.length).fill(9999)])),
      [rows, stride],
    )
  const lengths = (): Tensor =>
    Tensor.from(
      device(),
      Int32Array.from(histories, (ids) => ids.length),
    )

  describe('processLogits', () => {
    it.each<[string, Settings]>([
      ['nothing', {}],
      ['a repetition penalty', { repetitionPenalty: 1.7 }],
      ['a repetition bonus', { repetitionPenalty: 0.5 }],
      ['no repeated token', { noRepeatNgramSize: 1 }],
      ['no repeated bigram', { noRepeatNgramSize: 2 }],
      ['no repeated trigram', { noRepeatNgramSize: 3 }],
      ['n-grams longer than the history', { noRepeatNgramSize: 20 }],
      ['suppressed ids', { suppress: [2, 0, 39] }],
      ['all together', { repetitionPenalty: 1.3, noRepeatNgramSize: 2, suppress: [2] }],
    ])('%s', async (_name, { suppress, ...settings }) => {
      const logits = new TestRandom(1).normals(rows * vocab, 3)
      const below = [0, 2, 4, 5, 6, 9]
      const x = Tensor.from(device(), logits, [rows, vocab])
      ops.processLogits(x, {
        history: history(),
        historyLength: lengths(),
        ...settings,
        ...(suppress && {
          suppress: Tensor.from(device(), Int32Array.from(suppress)),
          suppressBelow: Tensor.from(device(), Int32Array.from(below)),
        }),
      })
      const expected = histories.flatMap((ids, r) => {
        const row = Float64Array.from(logits.subarray(r * vocab, (r + 1) * vocab))
        processLogits(row, ids, { ...settings, ...(suppress && { suppress, below: below[r] ?? 0 }) })
        return [...row]
      })
      expectClose('logits', await x.read(), expected, { maxAbs: 1e-5 })
    })

    it('works on bf16 logits', async () => {
      const x = ops.fill(Tensor.empty(device(), [rows, vocab], 'bf16'), 2)
      ops.processLogits(x, { history: history(), historyLength: lengths(), repetitionPenalty: 2 })
      const got = await x.readFloats()
      expect([got[0], got[vocab + 3], got[vocab + 4]]).toEqual([2, 1, 2])
    })

    it('names the op and what does not fit', async () => {
      const x = Tensor.zeros(device(), [rows, vocab], 'f32')
      const one = Tensor.zeros(device(), [1], 'i32')
      const call = (): Tensor => ops.processLogits(x, { history: history(), historyLength: one })
      await expectError(call, 'ERR_ALMA_SHAPE', /ProcessLogits: historyLength has 1 elements, 6 are needed/)
      const half = (): Tensor => ops.processLogits(x, { history: history(), historyLength: lengths(), suppress: one })
      await expectError(half, 'ERR_ALMA_SHAPE', /ProcessLogits: suppress and suppressBelow go together/)
    })

    it.each<[string, number, number]>([
      ['an id', 40, 1],
      ['a negative id', -1, 1],
      ['a length', 0, 3],
      ['a negative length', 0, -1],
    ])('%s out of range: an error at the next read, and the device goes on', async (_name, id, length) => {
      const x = Tensor.zeros(device(), [1, vocab], 'f32')
      const ids = Tensor.from(device(), Int32Array.of(id, 0), [1, 2])
      const options = { history: ids, repetitionPenalty: 2, noRepeatNgramSize: 2 }
      ops.processLogits(x, { ...options, historyLength: Tensor.from(device(), Int32Array.of(length)) })
      await expectError(() => x.read(), 'ERR_ALMA_DEVICE', /process_?logits/i)
      ops.processLogits(x, { ...options, historyLength: Tensor.from(device(), Int32Array.of(0)) })
      expect((await x.read()).length).toBe(vocab)
    })
  })
})
