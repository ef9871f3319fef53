/** LoRA against PEFT's numbers, and adapters in and out. */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  createLlama,
  defaultLora,
  type LlamaForCausalLM,
  LoraAdapter,
  loadAdapter,
  loadLlama,
  normalizeConfig,
  saveAdapter,
} from '../../lib/model/index.js'
import { type Device, Tensor } from '../../lib/runtime/index.js'
import { expectClose, expectError } from '../support/compare.js'
import { openDevice } from '../support/devices.js'
import { fixtureCases, fixturesRoot } from '../support/fixtures.js'
import { loadTensors } from '../support/safetensors.js'

let device: Device
let folder: string
beforeAll(async () => {
  device = openDevice()
  folder = await mkdtemp(join(tmpdir(), 'alma-lora-'))
})
afterAll(async () => {
  await device.dispose()
  await rm(folder, { recursive: true, force: true })
})

const floats = (tensors: ReturnType<typeof loadTensors>, name: string): Float32Array =>
  (tensors.get(name)?.data ?? new Float32Array()) as Float32Array

/** Of the fixtures' README; one rounding to bf16 is 2^-8 of the largest weight at most. */
const boundsOf = {
  f32: { logits: { relativeL2: 1e-5, maxAbs: 1e-4 }, loss: 1e-5, gradient: 3e-5, merged: { maxAbs: 1e-6 } },
  bf16: { logits: { relativeL2: 6e-2, maxAbs: 1 }, loss: 3e-2, gradient: 0.2, merged: { relativeL2: 2 ** -8 } },
} as const

describe.each(fixtureCases('lora'))('$name', ({ name, folder: path }) => {
  it.each(['f32', 'bf16'] as const)(
    'gives the logits, the loss, the gradients and the merged weights of PEFT in %s',
    async (dtype) => {
      const bounds = boundsOf[dtype]
      const expected = loadTensors(join(path, 'expected.safetensors'))
      const inputs = loadTensors(join(path, 'inputs.safetensors'))
      const { model: base } = JSON.parse(await readFile(join(path, 'expected.json'), 'utf8')) as { model: string }
      const model = await loadLlama(device, join(fixturesRoot, base), { dtype })
      const adapter = await loadAdapter(model, path)
      const adapted = model.withAdapter(adapter)

      const [rows = 0, length = 0] = inputs.get('input_ids')?.shape ?? []
      const ids = floats(inputs, 'input_ids')
      const mask = floats(inputs, 'attention_mask')
      const labels = floats(inputs, 'labels')
      const real = (values: ArrayLike<number>, row: number): number[] =>
        Array.from({ length }, (_, t) => t)
          .filter((t) => mask[row * length + t] === 1)
          .map((t) => values[row * length + t] ?? 0)
      const batch = {
        inputIds: Array.from({ length: rows }, (_, row) => real(ids, row)),
        labels: Array.from({ length: rows }, (_, row) => real(labels, row)),
      }
      const { vocabSize } = model.config
      const logits = await adapted.logits(batch.inputIds)
      const wanted = floats(expected, 'logits')
      logits.forEach((got, row) => {
        const kept = wanted
          .slice(row * length * vocabSize, (row + 1) * length * vocabSize)
          .filter((_, i) => mask[row * length + Math.floor(i / vocabSize)] === 1)
        expectClose(`logits of row ${row}`, got, kept, bounds.logits)
      })

      const { loss, gradients } = await adapted.lossAndGradients(batch)
      expect(Math.abs(loss - (floats(expected, 'loss')[0] ?? 0))).toBeLessThan(bounds.loss)
      const names = [...expected.keys()].filter((name) => name.startsWith('grad.'))
      expect([...gradients.keys()].sort()).toEqual(names.map((name) => name.slice('grad.'.length)).sort())
      for (const name of names) {
        expectClose(name, gradients.get(name.slice('grad.'.length)) ?? [], floats(expected, name), {
          relativeL2: bounds.gradient,
        })
      }

      // The base model beside it is as it was, until the adapter is merged into it; taken away again, it is so up to rounding.
      const before = new Map<string, Float32Array>()
      for (const [weight, tensor] of model.namedParameters()) before.set(weight, await tensor.readFloats())
      model.merge(adapter)
      const merged = new Map(model.namedParameters())
      for (const [name, { data }] of expected) {
        if (!name.startsWith('merged.')) continue
        const got = await merged.get(name.slice('merged.'.length))?.readFloats()
        expectClose(name, got ?? [], data, bounds.merged)
      }
      model.merge(adapter, -1)
      for (const [name, tensor] of model.namedParameters()) {
        expectClose(name, await tensor.readFloats(), before.get(name) ?? [], bounds.merged)
      }
      adapted.dispose()
      adapter.dispose()
      model.dispose()
    },
  )

  it('is saved and loaded without a change, under the same names', async () => {
    const { model: base } = JSON.parse(await readFile(join(path, 'expected.json'), 'utf8')) as { model: string }
    const model = await loadLlama(device, join(fixturesRoot, base), { dtype: 'f32' })
    using adapter = disposable(await loadAdapter(model, path))
    const saved = join(folder, name)
    await saveAdapter(adapter.value, saved, { baseModel: base })
    const [given, again] = [path, saved].map((at) => loadTensors(join(at, 'adapter_model.safetensors')))
    expect([...(again?.keys() ?? [])].sort()).toEqual([...(given?.keys() ?? [])].sort())
    for (const [name, { data }] of given ?? []) expect(again?.get(name)?.data, name).toEqual(data)
    const configs = await Promise.all(
      [path, saved].map(async (at) => JSON.parse(await readFile(join(at, 'adapter_config.json'), 'utf8'))),
    )
    for (const field of ['r', 'lora_alpha', 'lora_dropout', 'target_modules', 'peft_type', 'use_rslora', 'bias']) {
      expect(configs[1][field], field).toEqual(configs[0][field])
    }
    model.dispose()
  })

  it('is refused by another base model, which says what differs', async () => {
    const other = normalizeConfig({
      vocabSize: 32,
      hiddenSize: 48,
      intermediateSize: 64,
      numHiddenLayers: 3,
      numAttentionHeads: 4,
    })
    using wide = disposable(createLlama(device, other))
    await expectError(
      () => loadAdapter(wide.value, path),
      'ERR_ALMA_ADAPTER',
      /is \[\d+, \d+\], expected \[\d+, \d+\]; the adapter is for another base model/,
    )
    using shallow = disposable(createLlama(device, normalizeConfig({ ...other, numHiddenLayers: 1 })))
    await expectError(() => loadAdapter(shallow.value, path), 'ERR_ALMA_ADAPTER', /another base model/)
  })

  it.each([
    ['use_dora', true],
    ['bias', 'all'],
    ['modules_to_save', ['lm_head']],
    ['rank_pattern', { q_proj: 2 }],
    ['peft_type', 'IA3'],
    ['r', 0],
    ['lora_dropout', 1],
  ])('with %s = %j is refused by name', async (field, value) => {
    const copy = join(folder, `bad-${name}-${field}`)
    await cp(path, copy, { recursive: true })
    const file = join(copy, 'adapter_config.json')
    await writeFile(file, JSON.stringify({ ...JSON.parse(await readFile(file, 'utf8')), [field]: value }))
    const config = normalizeConfig({ vocabSize: 8, hiddenSize: 8, numHiddenLayers: 1, numAttentionHeads: 1 })
    using model = disposable(createLlama(device, config))
    await expectError(
      () => loadAdapter(model.value, copy),
      'ERR_ALMA_ADAPTER',
      new RegExp(`adapter_config.json: ${field} is`),
    )
  })
})

const small = normalizeConfig({
  vocabSize: 24,
  hiddenSize: 16,
  intermediateSize: 20,
  numHiddenLayers: 2,
  numAttentionHeads: 4,
  initializerRange: 0.3,
})
const batch = { inputIds: [[1, 5, 9, 3, 20]], labels: [[-100, 5, 9, 3, 20]] }

describe('LoRA', () => {
  it('changes nothing when it is new, and its A depends on the seed alone', async () => {
    const model = createLlama(device, small, { dtype: 'f32' })
    const config = { ...defaultLora, rank: 4, targetModules: 'all-linear' } as const
    const [one, same, other] = [1, 1, 2].map((seed) => LoraAdapter.create(model, config, seed))
    const read = async (adapter: LoraAdapter | undefined): Promise<number[]> => {
      const [first] = adapter?.parameters() ?? []
      return [...((await first?.tensor.readFloats()) ?? [])]
    }
    expect(await read(one)).toEqual(await read(same))
    expect(await read(one)).not.toEqual(await read(other))
    if (one === undefined) throw new Error('no adapter')
    expect(one.pairs.size).toBe(14)
    const adapted = model.withAdapter(one)
    expect(await adapted.logits([[1, 2, 3]])).toEqual(await model.logits([[1, 2, 3]]))
    for (const adapter of [one, same, other]) adapter?.dispose()
    model.dispose()
  })

  it('its gradients are the slope of the loss, with dropout as well; rsLoRA scales by the root of the rank', async () => {
    const model = createLlama(device, small, { dtype: 'f32' })
    const config = { rank: 4, alpha: 8, dropout: 0.4, useRslora: true, targetModules: 'all-linear' } as const
    const adapter = LoraAdapter.create(model, config, 3)
    expect([...adapter.pairs.values()][0]?.scaling).toBe(4)
    for (const { b } of adapter.pairs.values()) {
      b.tensor.write(Float32Array.from({ length: b.tensor.count }, (_, i) => Math.sin(i * 1.7) * 0.1))
    }
    const step = Tensor.from(device, Int32Array.of(5))
    adapter.dropoutState = { seed: 11, step }
    const adapted = model.withAdapter(adapter)
    const { gradients } = await adapted.lossAndGradients(batch)
    for (const [name, gradient] of gradients) {
      const parameter = [...adapter.parameters()].find((candidate) => candidate.name === name)
      if (parameter === undefined) throw new Error(name)
      const weights = await parameter.tensor.readFloats()
      const norm = Math.hypot(...gradient)
      const h = 3e-3
      const loss = async (sign: number): Promise<number> => {
        parameter.tensor.write(weights.map((w, i) => w + (sign * h * (gradient[i] ?? 0)) / norm))
        return lossOf(adapted)
      }
      const slope = ((await loss(1)) - (await loss(-1))) / (2 * h)
      parameter.tensor.write(weights)
      expect(Math.abs(slope - norm), `${name}: slope ${slope}, norm of the gradient ${norm}`).toBeLessThan(
        5e-3 * (norm + 0.05),
      )
    }
    // Another step, another mask; none outside training.
    const before = await lossOf(adapted)
    step.write(Int32Array.of(6))
    expect(await lossOf(adapted)).not.toBe(before)
    adapter.dropoutState = undefined
    adapted.dispose()
    adapter.dispose()
    step.dispose()
    model.dispose()
  })

  it('names a target that no module has', async () => {
    const config = { ...defaultLora, targetModules: ['down_porj'] }
    using model = disposable(createLlama(device, small))
    await expectError(
      () => LoraAdapter.create(model.value, config, 1),
      'ERR_ALMA_OPTION',
      /no module "down_porj"; there are q_proj/,
    )
  })
})

async function lossOf(model: LlamaForCausalLM): Promise<number> {
  return (await model.lossAndGradients(batch)).loss
}

function disposable<T extends { dispose(): void }>(value: T): { value: T } & Disposable {
  return { value, [Symbol.dispose]: () => value.dispose() }
}
