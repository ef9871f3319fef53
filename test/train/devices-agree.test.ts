/** The quick start's kind of model, trained for some steps on the device under test: the losses of the CPU, and it decodes. */
import { describe, expect, it } from 'vitest'
import type { Alma } from '../../lib/index.js'
import { deviceName } from '../support/devices.js'
import { type TinyData, tinyAlma, tinyData } from './support.js'

/** Losses of the steps, nats a token, and the ids of a translation by what was trained. */
async function train(alma: Alma, data: TinyData): Promise<{ losses: number[]; ids: readonly number[] }> {
  const { stages } = await alma.finetune({
    kind: 'parallel',
    pairs: [{ path: data.train, from: 'de', to: 'en' }],
    batchSize: 4,
    microBatchSize: 2,
    maxSteps: 4,
    learningRate: 1e-3,
    seed: 11,
  })
  const translation = await alma.translate('Der Hund schläft.', { from: 'de', to: 'en', maxNewTokens: 6 })
  return { losses: stages.flatMap((stage) => stage.losses.map(({ loss }) => loss)), ids: translation.tokenIds }
}

describe.skipIf(deviceName === 'cpu')('training on the CPU and on the device', () => {
  it.each([
    ['f32', 1e-4],
    ['bf16', 2e-2],
  ] as const)('gives the same losses (%s there, f32 here), and decodes', async (dtype, tolerance) => {
    const data = await tinyData()
    await using reference = await tinyAlma(data, 5, 'f32', 'cpu')
    await using alma = await tinyAlma(data, 5, dtype)
    const expected = await train(reference, data)
    const got = await train(alma, data)
    expect(expected.losses).toHaveLength(4)
    expect(got.losses).toHaveLength(4)
    for (const [i, loss] of expected.losses.entries()) {
      const difference = Math.abs((got.losses[i] ?? Number.NaN) / loss - 1)
      expect(difference, `step ${i}: ${got.losses[i]}, expected ${loss}`).toBeLessThan(tolerance)
    }
    expect(got.ids.length).toBeGreaterThan(0)
    if (dtype === 'f32') expect(got.ids).toEqual(expected.ids)
  })
})
