/** The backward pass against finite differences of the forward pass, and how gradients add up. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createLlama, type LlamaForCausalLM, normalizeConfig } from '../../lib/model/index.js'
import { type Device, ops, Tensor } from '../../lib/runtime/index.js'
import { expectClose, expectError } from '../support/compare.js'
import { openDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'

let device: Device
beforeAll(() => {
  device = openDevice()
})
afterAll(() => device.dispose())

const base = {
  vocabSize: 24,
  hiddenSize: 16,
  intermediateSize: 20,
  numHiddenLayers: 2,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
  initializerRange: 0.3,
}

const variants = {
  'grouped heads': base,
  'tied embeddings': { ...base, tieWordEmbeddings: true },
  'heads of their own width, llama3 frequencies': {
    ...base,
    headDim: 6,
    numKeyValueHeads: 1,
    ropeScaling: {
      type: 'llama3',
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalMaxPositionEmbeddings: 16,
    } as const,
  },
}

const batch = {
  inputIds: [
    [1, 5, 9, 9, 3, 20, 7],
    [2, 4],
    [23, 0, 11, 6],
  ],
  labels: [
    [-100, -100, 9, 9, 3, -100, 7],
    [2, 4],
    [23, 0, 11, 6],
  ],
}

describe.each(Object.entries(variants))('%s', (_name, input) => {
  it('the gradient of every weight is the slope of the loss', async () => {
    const model = createLlama(device, normalizeConfig(input), { seed: 3, dtype: 'f32' })
    const random = new TestRandom(5)
    // Norm weights of exactly 1 would hide an error that is linear in them.
    for (const [name, tensor] of model.namedParameters()) {
      if (name.endsWith('norm.weight')) tensor.write(random.normals(tensor.count, 0.2).map((x) => 1 + x))
    }
    const { gradients } = await model.lossAndGradients(batch)
    for (const [name, tensor] of model.namedParameters()) {
      const weights = await tensor.readFloats()
      const gradient = gradients.get(name) ?? new Float32Array()
      expect(gradient.length, name).toBe(weights.length)
      const norm = Math.hypot(...gradient)
      // Along the gradient itself the slope is its norm, and an error in any element shows; along a random direction, one that keeps
      // the length does too.
      const directions = [gradient.map((g) => g / norm), unit(random.normals(weights.length))]
      for (const direction of directions) {
        const slope = await slopeAlong(model, tensor, weights, direction)
        const expected = gradient.reduce((sum, g, i) => sum + g * (direction[i] ?? 0), 0)
        expect(Math.abs(slope - expected), `${name}: slope ${slope}, gradient ${expected}`).toBeLessThan(
          4e-3 * (norm + 0.05),
        )
      }
    }
    model.dispose()
  })
})

function unit(values: Float32Array): Float32Array {
  const norm = Math.hypot(...values)
  return values.map((x) => x / norm)
}

async function slopeAlong(
  model: LlamaForCausalLM,
  tensor: Tensor,
  weights: Float32Array,
  direction: Float32Array,
): Promise<number> {
  const step = 2e-3 * Math.max(1, Math.hypot(...weights) / 4)
  const loss = async (by: number): Promise<number> => {
    tensor.write(weights.map((w, i) => w + by * (direction[i] ?? 0)))
    return (await model.lossAndGradients(batch)).loss
  }
  // Fourth order, so that the step can be large enough for float32 losses.
  const near = (await loss(step)) - (await loss(-step))
  const far = (await loss(2 * step)) - (await loss(-2 * step))
  tensor.write(weights)
  return (8 * near - far) / (12 * step)
}

describe('lossAndGradients', () => {
  const model = (): LlamaForCausalLM => createLlama(device, normalizeConfig(base), { seed: 4, dtype: 'f32' })

  it('is the mean over all counted labels: of two micro-batches with one common factor, the sum', async () => {
    const llama = model()
    const whole = await llama.lossAndGradients(batch)
    const gradScale = Tensor.from(device, [1 / 8])
    const lossSum = Tensor.zeros(device, [1], 'f32')
    for (const parameter of llama.parameters()) {
      parameter.gradient = Tensor.zeros(device, parameter.tensor.shape, 'f32')
    }
    const part = (begin: number, end?: number): typeof batch => ({
      inputIds: batch.inputIds.slice(begin, end),
      labels: batch.labels.slice(begin, end),
    })
    llama.forwardBackward(part(0, 1), gradScale, lossSum)
    llama.forwardBackward(part(1), gradScale, lossSum)
    expectClose('loss', [((await lossSum.readFloats())[0] ?? 0) / 8], [whole.loss], { relativeL2: 1e-6 })
    for (const { name, requiredGradient } of llama.parameters()) {
      expectClose(name, await requiredGradient.read(), whole.gradients.get(name) ?? [], { relativeL2: 3e-6 })
    }
    llama.dispose()
  })

  it('gives the same bits every time, and leaves gradients that were enabled before alone', async () => {
    const llama = model()
    const [first] = llama.parameters()
    if (first === undefined) throw new Error('a model has parameters')
    const mine = ops.fill(Tensor.empty(device, first.tensor.shape, 'f32'), 7)
    first.gradient = mine
    const [a, b] = [await llama.lossAndGradients(batch), await llama.lossAndGradients(batch)]
    expect(b).toEqual(a)
    expect(first.gradient).toBe(mine)
    expect(new Set(await mine.read())).toEqual(new Set([7]))
    llama.dispose()
  })

  it('counts every position when every label counts but the first, and none when none does', async () => {
    const llama = model()
    const full = { inputIds: batch.inputIds, labels: batch.inputIds }
    const { loss } = await llama.lossAndGradients(full)
    const logits = await llama.logits(batch.inputIds)
    let sum = 0
    let count = 0
    batch.inputIds.forEach((ids, i) => {
      ids.slice(1).forEach((id, t) => {
        const row = [...(logits[i] ?? [])].slice(t * base.vocabSize, (t + 1) * base.vocabSize)
        sum += Math.log(row.reduce((total, x) => total + Math.exp(x), 0)) - (row[id] ?? 0)
        count++
      })
    })
    expect(loss).toBeCloseTo(sum / count, 5)
    const none = await llama.lossAndGradients({ inputIds: [[1, 2, 3]], labels: [[-100, -100, -100]] })
    expect(none.loss).toBeNaN()
    expect([...none.gradients.values()].every((gradient) => gradient.every((g) => g === 0))).toBe(true)
    llama.dispose()
  })

  it('names the sequence that does not fit', async () => {
    const llama = model()
    const ids = { inputIds: [[1], [1, 24]], labels: [[1], [1, 2]] }
    await expectError(() => llama.lossAndGradients(ids), 'ERR_ALMA_OPTION', /sequence 1: token id 24 is not in 0 … 23/)
    const short = { inputIds: [[1, 2]], labels: [[1]] }
    await expectError(() => llama.lossAndGradients(short), 'ERR_ALMA_OPTION', /sequence 0 has 2 tokens and 1 labels/)
    const long = [Array.from({ length: 2049 }, () => 1)]
    await expectError(() => llama.logits(long), 'ERR_ALMA_CONTEXT', /2049 tokens, the model's context is 2048/)
    llama.dispose()
  })

  it('leaves no memory behind', async () => {
    const llama = model()
    await llama.lossAndGradients(batch)
    await llama.logits(batch.inputIds)
    const { allocated, reserved } = device.memory()
    for (let i = 0; i < 5; i++) {
      await llama.lossAndGradients(batch)
      await llama.logits(batch.inputIds)
    }
    expect(device.memory().allocated).toBeLessThanOrEqual(allocated)
    expect(device.memory().reserved).toBe(reserved)
    llama.dispose()
  })
})
