/** Whole models against reference numbers: logits, log-probabilities, loss and every gradient. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type LlamaForCausalLM, loadLlama } from '../../lib/model/index.js'
import type { Device } from '../../lib/runtime/index.js'
import { expectClose, type Tolerance } from '../support/compare.js'
import { emulated, openDevice } from '../support/devices.js'
import { fixtureCases } from '../support/fixtures.js'
import { type ModelExpectation, modelExpectations } from '../support/model-fixtures.js'
import { softmax } from '../support/reference.js'

interface Bounds {
  readonly logits: Tolerance
  readonly loss: number
  readonly gradient: number
}

const bounds: Readonly<Record<'f32' | 'bf16', Bounds>> = {
  f32: { logits: { relativeL2: 1e-5, maxAbs: 1e-4 }, loss: 1e-5, gradient: 3e-5 },
  bf16: { logits: { relativeL2: 6e-2, maxAbs: 1 }, loss: 3e-2, gradient: 0.2 },
}
const dtypes = ['f32', 'bf16'] as const

const cases = fixtureCases('model')
if (cases.length === 0) it.skip('fixtures model: there are none', () => {})

describe.each(cases)('model/$name', ({ folder }) => {
  describe.each(dtypes)('%s weights', (dtype) => {
    let device: Device
    let model: LlamaForCausalLM
    beforeAll(async () => {
      device = openDevice()
      model = await loadLlama(device, folder, { dtype })
    })
    afterAll(async () => {
      model.dispose()
      await device.dispose()
    })

    for (const expectation of modelExpectations(folder)) {
      it(`${expectation.file}: logits and log-probabilities of every token`, async () => {
        await compareLogits(model, expectation, bounds[dtype])
      })

      it(`${expectation.file}: loss and every gradient`, async () => {
        const { loss, gradients } = await model.lossAndGradients(expectation)
        expect(Math.abs(loss - expectation.loss), 'loss').toBeLessThanOrEqual(bounds[dtype].loss)
        expect([...gradients.keys()].sort()).toEqual([...expectation.gradients.keys()].sort())
        for (const [name, expected] of expectation.gradients) {
          expectClose(name, gradients.get(name) ?? [], expected, { relativeL2: bounds[dtype].gradient })
        }
      })

      it.skipIf(emulated && dtype === 'f32')(
        `${expectation.file}: the sequences in any order and company`,
        async () => {
          const { inputIds } = expectation
          const together = await model.logits(inputIds)
          for (const [i, ids] of inputIds.entries()) {
            const [alone = new Float32Array()] = await model.logits([ids])
            // A matrix product may add in another order for other numbers of rows.
            expectClose(`sequence ${i}`, alone, together[i] ?? [], { relativeL2: dtype === 'f32' ? 2e-6 : 6e-2 })
          }
        },
      )
    }
  })
})

async function compareLogits(
  model: LlamaForCausalLM,
  expectation: ModelExpectation,
  { logits }: Bounds,
): Promise<void> {
  const { inputIds, tokenLogprobs } = expectation
  const got = await model.logits(inputIds)
  const { vocabSize } = model.config
  const all = new Float32Array(expectation.logits.length)
  let offset = 0
  for (const [i, sequence] of got.entries()) {
    expect(sequence.length).toBe((inputIds[i]?.length ?? 0) * vocabSize)
    all.set(sequence, offset)
    offset += sequence.length
  }
  expect(offset).toBe(expectation.logits.length)
  expectClose('logits', all, expectation.logits, logits)
  const logprobs = inputIds.flatMap((ids, i) =>
    ids.map((id, t) => {
      if (t === 0) return 0
      const row = got[i]?.subarray((t - 1) * vocabSize, t * vocabSize) ?? []
      return (row[id] ?? Number.NaN) - softmax(row).logSumExp
    }),
  )
  expectClose('token log-probabilities', logprobs, tokenLogprobs.flat(), logits)
}
