/** What training passes keep in memory: the numbers do not depend on it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { chunkedCrossEntropy, logitRows } from '../../lib/model/chunked-cross-entropy.js'
import { type ActivationCheckpointing, createLlama, normalizeConfig } from '../../lib/model/index.js'
import { Linear } from '../../lib/model/linear.js'
import { Parameter } from '../../lib/model/parameter.js'
import { type Device, ops, Tensor } from '../../lib/runtime/index.js'
import { expectClose } from '../support/compare.js'
import { openDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'

let device: Device
beforeAll(() => {
  device = openDevice()
})
afterAll(() => device.dispose())

const config = normalizeConfig({
  vocabSize: 40,
  hiddenSize: 32,
  intermediateSize: 48,
  numHiddenLayers: 3,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
  initializerRange: 0.3,
})

function batchOf(lengths: readonly number[]): { inputIds: number[][]; labels: number[][] } {
  const random = new TestRandom(3)
  const inputIds = lengths.map((length) => Array.from({ length }, () => random.below(config.vocabSize)))
  return { inputIds, labels: inputIds.map((ids) => ids.map((id, t) => (t % 3 === 1 ? -100 : id))) }
}

describe('activation checkpointing', () => {
  it.each(['f32', 'bf16'] as const)('gives the same bits in every mode, weights in %s', async (dtype) => {
    const model = createLlama(device, config, { seed: 3, dtype })
    const batch = batchOf([9, 1, 20, 5])
    const expected = await model.lossAndGradients(batch)
    expect(expected.loss).toBeGreaterThan(1)
    for (const mode of ['selective', 'full', 'none'] as const) {
      model.activationCheckpointing = mode
      expect(await model.lossAndGradients(batch), mode).toEqual(expected)
    }
    model.dispose()
  })

  it('needs less memory the more is computed again, and leaves none behind', async () => {
    const model = createLlama(device, { ...config, numHiddenLayers: 6 }, { seed: 3, dtype: 'f32' })
    const batch = batchOf([50, 50])
    const peaks: Partial<Record<ActivationCheckpointing, number>> = {}
    await model.lossAndGradients(batch)
    for (const mode of ['none', 'selective', 'full'] as const) {
      model.activationCheckpointing = mode
      const { allocated } = device.memory()
      device.resetPeakMemory()
      await model.lossAndGradients(batch)
      peaks[mode] = device.memory().peak - allocated
      expect(device.memory().allocated, mode).toBeLessThanOrEqual(allocated)
    }
    const { none = 0, selective = 0, full = 0 } = peaks
    // Of 8 hidden and 2 intermediate sizes a layer and token, two hidden ones go; then all but one.
    expect(selective).toBeLessThan(0.9 * none)
    expect(full).toBeLessThan(0.5 * selective)
    model.dispose()
  })
})

describe('chunked cross-entropy', () => {
  it.each([64, 130, 200])('%d rows at a time give the loss and gradients of all at once', async (chunkRows) => {
    const [rows, hiddenSize, vocabSize] = [200, 24, 50]
    const random = new TestRandom(8)
    const weights = random.normals(vocabSize * hiddenSize, 0.3)
    const inputs = random.normals(rows * hiddenSize)
    const targets = Int32Array.from({ length: rows }, (_, i) => (i % 7 === 0 ? -100 : random.below(vocabSize)))
    const compute = async (at: number) => {
      const parameter = new Parameter('lm_head.weight', Tensor.from(device, weights, [vocabSize, hiddenSize]))
      parameter.gradient = ops.fill(Tensor.empty(device, [vocabSize, hiddenSize], 'f32'), 0.25)
      using hidden = Tensor.from(device, inputs, [rows, hiddenSize])
      using ids = Tensor.from(device, targets)
      using lossSum = Tensor.from(device, [2])
      using gradScale = Tensor.from(device, [0.5])
      const output = new Linear(parameter)
      chunkedCrossEntropy(output, hidden, ids, { lossSum, chunkRows: at })
      const [lossOnly = 0] = await lossSum.readFloats()
      lossSum.write([2])
      expect(await hidden.readFloats()).toEqual(inputs)
      chunkedCrossEntropy(output, hidden, ids, { lossSum, gradScale, chunkRows: at })
      const [loss = 0] = await lossSum.readFloats()
      expect(lossOnly).toBe(loss)
      const result = {
        loss,
        dhidden: await hidden.readFloats(),
        dweight: await parameter.requiredGradient.readFloats(),
      }
      parameter.dispose()
      return result
    }
    const whole = await compute(rows)
    const chunked = await compute(chunkRows)
    expect(whole.loss).toBeGreaterThan(300)
    expectClose('loss', [chunked.loss], [whole.loss], { relativeL2: 1e-6 })
    expectClose('dhidden', chunked.dhidden, whole.dhidden, { relativeL2: 1e-6 })
    expectClose('dweight', chunked.dweight, whole.dweight, { relativeL2: 1e-6 })
  })

  it('holds as many rows as fit into 256 MiB, and 64 at least', () => {
    expect(logitRows(32_000)).toBe(2048)
    expect(logitRows(128_256)).toBe(512)
    expect(logitRows(100_000_000)).toBe(64)
  })

  // Half a gigabyte of logits is more than the emulator computes in an acceptable time.
  it.runIf(process.env.ALMA_DEVICE === 'cpu')('never has the logits of a long batch whole', async () => {
    // A row of logits is 500 times as large as one of the hidden state: whole, they would be most of the memory.
    const wide = { ...config, vocabSize: 32_000, hiddenSize: 64, numHiddenLayers: 1, tieWordEmbeddings: true }
    const model = createLlama(device, wide, { seed: 3, dtype: 'f32' })
    const batch = batchOf(Array.from({ length: 16 }, () => 400))
    using lossSum = Tensor.zeros(device, [1], 'f32')
    using gradScale = Tensor.from(device, [1])
    for (const parameter of model.parameters()) {
      parameter.gradient = Tensor.zeros(device, parameter.tensor.shape, 'f32')
    }
    const logits = 16 * 266 * 32_000 * 4
    device.resetPeakMemory()
    const { allocated } = device.memory()
    model.evaluateLoss(batch, lossSum)
    expect(device.memory().peak - allocated).toBeLessThan(0.6 * logits)
    model.forwardBackward(batch, gradScale, lossSum)
    expect(device.memory().peak - allocated).toBeLessThan(0.6 * logits)
    await device.synchronize()
    model.dispose()
  })
})
