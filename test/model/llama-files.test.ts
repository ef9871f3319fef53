/** Models in and out of folders: the same bits again, in one file or many; and what is said about damaged weights. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createLlama, type LlamaForCausalLM, loadLlama, normalizeConfig, saveLlama } from '../../lib/model/index.js'
import { type Device, ops } from '../../lib/runtime/index.js'
import { roundAllToBf16 } from '../support/bf16.js'
import { expectError } from '../support/compare.js'
import { deviceName, openDevice } from '../support/devices.js'
import { loadTensors } from '../support/safetensors.js'

const config = normalizeConfig({
  vocabSize: 30,
  hiddenSize: 16,
  intermediateSize: 24,
  numHiddenLayers: 2,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
  // An odd number of elements in bf16 leaves tensors at addresses that are multiples of 2 only.
  headDim: 2,
})

let device: Device
let folder: string
beforeAll(() => {
  device = openDevice()
  folder = mkdtempSync(join(tmpdir(), 'alma-llama-'))
})
afterAll(async () => {
  await device.dispose()
  rmSync(folder, { recursive: true })
})

async function weights(model: LlamaForCausalLM): Promise<Map<string, Float32Array>> {
  const all = new Map<string, Float32Array>()
  for (const [name, tensor] of model.namedParameters()) all.set(name, await tensor.readFloats())
  return all
}

describe('saveLlama and loadLlama', () => {
  it.each([
    ['one file', 'f32', undefined],
    ['one file', 'bf16', undefined],
    ['many files', 'f32', 3000],
    ['many files', 'bf16', 1000],
  ] as const)('%s of %s: the same bits again', async (_name, dtype, maxShardBytes) => {
    const directory = join(folder, `${dtype}-${maxShardBytes}`)
    const model = createLlama(device, config, { seed: 5, dtype })
    await saveLlama(model, directory, maxShardBytes === undefined ? {} : { maxShardBytes })
    const files = readdirSync(directory).filter((name) => name.endsWith('.safetensors'))
    expect(files.length > 1).toBe(maxShardBytes !== undefined)
    // As another program reads them.
    const stored = new Map(files.flatMap((file) => [...loadTensors(join(directory, file))]))
    const original = await weights(model)
    expect(new Set(stored.keys())).toEqual(new Set(original.keys()))
    for (const [name, values] of original) expect(stored.get(name)?.data, name).toEqual(values)

    const loaded = await loadLlama(device, directory, { dtype })
    expect(await weights(loaded)).toEqual(original)
    expect({ ...loaded.config, extra: {}, torchDtype: undefined }).toEqual({
      ...config,
      extra: {},
      torchDtype: undefined,
    })
    const prompts = [[1, 2, 3, 4]]
    expect(await loaded.logits(prompts)).toEqual(await model.logits(prompts))
    model.dispose()
    loaded.dispose()
  })

  it('converts: f32 saved as bf16, bf16 loaded as f32', async () => {
    const directory = join(folder, 'converted')
    const model = createLlama(device, config, { seed: 6, dtype: 'f32' })
    await saveLlama(model, directory, { dtype: 'bf16' })
    const loaded = await loadLlama(device, directory, { dtype: 'f32' })
    for (const [name, values] of await weights(model)) {
      expect((await weights(loaded)).get(name), name).toEqual(roundAllToBf16(values))
    }
    model.dispose()
    loaded.dispose()
  })

  it('saves over the model that it was loaded from', async () => {
    const directory = join(folder, 'over')
    const model = createLlama(device, config, { seed: 7, dtype: 'f32' })
    await saveLlama(model, directory)
    const loaded = await loadLlama(device, directory, { dtype: 'f32' })
    const before = await weights(loaded)
    await saveLlama(loaded, directory, { maxShardBytes: 2000 })
    expect(await weights(loaded)).toEqual(before)
    const again = await loadLlama(device, directory, { dtype: 'f32' })
    expect(await weights(again)).toEqual(before)
    for (const each of [model, loaded, again]) each.dispose()
  })

  it('reports progress up to the whole', async () => {
    const directory = join(folder, 'progress')
    const model = createLlama(device, config, { dtype: 'f32' })
    await saveLlama(model, directory)
    const seen: number[] = []
    let total = 0
    const onProgress = ({ bytesLoaded, bytesTotal }: { bytesLoaded: number; bytesTotal: number }): void => {
      seen.push(bytesLoaded)
      total = bytesTotal
    }
    const loaded = await loadLlama(device, directory, { onProgress })
    expect(seen.length).toBeGreaterThan(0)
    expect(seen).toEqual([...seen].sort((a, b) => a - b))
    expect(seen.at(-1)).toBe(total)
    expect(total).toBe(4 * model.parameterCount)
    model.dispose()
    loaded.dispose()
  })

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('refuses weights with %s, and names the tensor', async (value) => {
    const directory = join(folder, `bad-${value}`)
    const model = createLlama(device, config, { dtype: 'f32' })
    const name = 'model.layers.1.mlp.up_proj.weight'
    for (const [each, tensor] of model.namedParameters()) {
      if (each === name) ops.fill(tensor.view([2], 10), value)
    }
    await saveLlama(model, directory)
    const message = /model\.safetensors: model\.layers\.1\.mlp\.up_proj\.weight has 2 elements that are NaN or infinite/
    await expectError(() => loadLlama(device, directory), 'ERR_ALMA_CHECKPOINT', message)
    model.dispose()
  })

  it('stops when it is told to, with the reason given', async () => {
    const directory = join(folder, 'aborted')
    const model = createLlama(device, config, { dtype: 'f32' })
    await saveLlama(model, directory)
    const controller = new AbortController()
    const reason = new Error('enough')
    const loading = loadLlama(device, directory, {
      signal: controller.signal,
      onProgress: () => controller.abort(reason),
    })
    await expect(loading).rejects.toBe(reason)
    await expect(loadLlama(device, directory, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    model.dispose()
  })

  it.skipIf(deviceName !== 'cpu')(
    'leaves weights of the wanted dtype in the file: no memory is taken for them',
    async () => {
      const directory = join(folder, 'mapped')
      const large = createLlama(device, { ...config, vocabSize: 5000 })
      await saveLlama(large, directory)
      large.dispose()
      const before = device.memory().allocated
      const loaded = await loadLlama(device, directory, { dtype: 'f32' })
      expect(device.memory().allocated - before).toBeLessThan(4096)
      loaded.dispose()
    },
  )
})

describe('createLlama', () => {
  it('gives the same weights for the same seed, norms of one, and the spread of the config', async () => {
    const model = createLlama(device, { ...config, vocabSize: 2000, initializerRange: 0.05 }, { seed: 9 })
    const again = createLlama(device, { ...config, vocabSize: 2000, initializerRange: 0.05 }, { seed: 9 })
    const other = createLlama(device, { ...config, vocabSize: 2000, initializerRange: 0.05 }, { seed: 10 })
    const values = await weights(model)
    expect(await weights(again)).toEqual(values)
    const name = 'model.embed_tokens.weight'
    expect((await weights(other)).get(name)).not.toEqual(values.get(name))
    expect(new Set(values.get('model.norm.weight'))).toEqual(new Set([1]))
    const embedding = values.get(name) ?? new Float32Array()
    const deviation = Math.sqrt(embedding.reduce((sum, x) => sum + x * x, 0) / embedding.length)
    expect(deviation).toBeCloseTo(0.05, 3)
    // No tensor repeats the numbers of another one.
    expect(values.get('lm_head.weight')?.slice(0, 100)).not.toEqual(embedding.slice(0, 100))
    for (const each of [model, again, other]) each.dispose()
  })

  it('refuses a seed that is none', async () => {
    await expectError(() => createLlama(device, config, { seed: -1 }), 'ERR_ALMA_OPTION', /seed: .* got -1/)
  })
})
