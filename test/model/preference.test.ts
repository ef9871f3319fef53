/** Losses of preference pairs through a whole model, against the numbers of trl and of ALMA's own trainer. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type LlamaForCausalLM, loadLlama, Parameter } from '../../lib/model/index.js'
import { Linear } from '../../lib/model/linear.js'
import { preferenceCrossEntropy } from '../../lib/model/preference-cross-entropy.js'
import { type Device, Tensor } from '../../lib/runtime/index.js'
import { expectClose } from '../support/compare.js'
import { openDevice } from '../support/devices.js'
import { fixtureCases, fixturesRoot } from '../support/fixtures.js'
import { TestRandom } from '../support/random.js'
import { loadTensors } from '../support/safetensors.js'

let device: Device
beforeAll(() => {
  device = openDevice()
})
afterAll(() => device.dispose())

interface Expected {
  readonly model: string
  readonly kind: 'cpo' | 'arpo'
  readonly hyperparameters: Readonly<Record<string, number>>
  readonly pairs: number
  readonly loss: number
  readonly preference_loss: number
  readonly nll_loss: number
}

const boundsOf = {
  f32: { logps: 1e-4, loss: 1e-5, gradient: 5e-5 },
  bf16: { logps: 1, loss: 0.1, gradient: 0.4 },
} as const

describe.each(fixtureCases('preference'))('$name', ({ folder }) => {
  it.each(['f32', 'bf16'] as const)('values and gradients in %s', async (dtype) => {
    const bounds = boundsOf[dtype]
    const expected = JSON.parse(await readFile(join(folder, 'expected.json'), 'utf8')) as Expected
    const tensors = loadTensors(join(folder, 'expected.safetensors'))
    const inputs = loadTensors(join(folder, 'inputs.safetensors'))
    const [rows = 0, length = 0] = inputs.get('input_ids')?.shape ?? []
    const mask = inputs.get('attention_mask')?.data ?? []
    const real = (name: string): number[][] =>
      Array.from({ length: rows }, (_, row) =>
        [...(inputs.get(name)?.data.slice(row * length, (row + 1) * length) ?? [])].filter(
          (_, t) => mask[row * length + t] === 1,
        ),
      )
    const batch = { inputIds: real('input_ids'), labels: real('labels') }
    const { beta = 0, cpo_alpha: alpha = 0, label_smoothing: labelSmoothing = 0 } = expected.hyperparameters
    const settings = {
      loss: expected.kind,
      beta,
      labelSmoothing,
      simpoGamma: 0.5,
      relax1: expected.hyperparameters.relax_cofficient_1 ?? 1,
      relax2: expected.hyperparameters.relax_cofficient_2 ?? 1,
    }
    const { pairs } = expected
    const chosenTokens = batch.labels.slice(0, pairs).reduce((sum, row) => sum + row.filter((id) => id >= 0).length, 0)

    const model = await loadLlama(device, join(fixturesRoot, expected.model), { dtype })
    const weights = Tensor.from(device, [1 / pairs, alpha / chosenTokens])
    const sums = Tensor.zeros(device, [5], 'f32')
    const gradients = await gradientsOf(model, () =>
      model.preferenceForwardBackward(batch, { weights, sums }, settings),
    )
    const [losses = 0, nll = 0, chosen = 0, rejected = 0, accurate = 0] = await sums.readFloats()
    expect(Math.abs(losses / pairs - expected.preference_loss)).toBeLessThan(bounds.loss)
    expect(Math.abs(nll / chosenTokens - expected.nll_loss)).toBeLessThan(bounds.loss)
    expect(Math.abs(losses / pairs + (alpha * nll) / chosenTokens - expected.loss)).toBeLessThan(bounds.loss)
    const logps = (name: string): number[] => [...(tensors.get(`${name}_logps`)?.data ?? [])]
    const total = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0)
    expect(Math.abs(chosen - total(logps('chosen')))).toBeLessThan(pairs * bounds.logps)
    expect(Math.abs(rejected - total(logps('rejected')))).toBeLessThan(pairs * bounds.logps)
    expect(accurate).toBe(logps('chosen').filter((c, i) => c > (logps('rejected')[i] ?? 0)).length)
    const names = [...tensors.keys()].filter((name) => name.startsWith('grad.'))
    expect([...gradients.keys()].sort()).toEqual(names.map((name) => name.slice('grad.'.length)).sort())
    for (const name of names) {
      const got = gradients.get(name.slice('grad.'.length)) ?? []
      expectClose(name, got, tensors.get(name)?.data ?? [], { relativeL2: bounds.gradient })
    }

    const evaluated = Tensor.zeros(device, [5], 'f32')
    model.evaluatePreference(batch, { weights, sums: evaluated }, settings)
    expectClose('sums without gradients', await evaluated.read(), await sums.read(), { relativeL2: 1e-4 })
    for (const tensor of [weights, sums, evaluated]) tensor.dispose()
    model.dispose()
  })
})

describe('preferenceCrossEntropy', () => {
  it('in chunks gives what it gives at once', async () => {
    const bounds = Int32Array.of(0, 3, 10, 12, 17)
    const hidden = new TestRandom(2).normals(17 * 16)
    const targets = new TestRandom(3).integers(17, 40)
    const settings = { loss: 'arpo', beta: 0.3, labelSmoothing: 0.1, simpoGamma: 0, relax1: 0.9, relax2: 0.4 } as const
    const run = async (chunkRows: number): Promise<Float32Array[]> => {
      const weight = new Parameter('lm_head.weight', Tensor.from(device, new TestRandom(4).normals(40 * 16), [40, 16]))
      weight.gradient = Tensor.zeros(device, [40, 16], 'f32')
      const x = Tensor.from(device, hidden, [17, 16])
      const sums = Tensor.zeros(device, [5], 'f32')
      const weights = Tensor.from(device, [0.5, 0.1])
      preferenceCrossEntropy(new Linear(weight), x, Tensor.from(device, targets), Tensor.from(device, bounds), {
        weights,
        sums,
        settings,
        training: true,
        chunkRows,
      })
      const results = [await x.readFloats(), await sums.readFloats(), await weight.gradient.readFloats()]
      weight.dispose()
      return results
    }
    const [whole, parts] = [await run(64), await run(5)] as const
    whole.forEach((values, i) => {
      expectClose(`result ${i}`, parts[i] ?? [], values, { relativeL2: 1e-6 })
    })
    expect(Math.max(...(whole[0] ?? []))).toBeGreaterThan(0)
  })
})

async function gradientsOf(model: LlamaForCausalLM, pass: () => void): Promise<Map<string, Float32Array>> {
  const parameters = [...model.parameters()]
  for (const parameter of parameters) parameter.gradient = Tensor.zeros(device, parameter.tensor.shape, 'f32')
  pass()
  const gradients = new Map<string, Float32Array>()
  for (const { name, gradient } of parameters)
    if (gradient !== undefined) gradients.set(name, await gradient.readFloats())
  return gradients
}
