/** A decoding step takes five ops a layer, and on the CPU gives the bits that the layer's single ops give. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  createLlama,
  defaultLora,
  KeyValueCache,
  type LlamaForCausalLM,
  LoraAdapter,
  normalizeConfig,
} from '../../lib/model/index.js'
import { type Device, type ops, Tensor } from '../../lib/runtime/index.js'
import { expectClose } from '../support/compare.js'
import { deviceName, emulated, openDevice } from '../support/devices.js'

const config = normalizeConfig({
  vocabSize: 50,
  hiddenSize: 64,
  intermediateSize: 72,
  numHiddenLayers: 3,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
  initializerRange: 0.2,
  maxPositionEmbeddings: 64,
})

let device: Device
beforeAll(() => {
  device = openDevice()
})
afterAll(() => device.dispose())

/** Logits of two sequences, one token after the other. */
async function decode(model: LlamaForCausalLM, steps: number, invariance: ops.Invariance): Promise<Float32Array[]> {
  using cache = new KeyValueCache(device, config, 2, 16, model.activationDtype)
  const logits: Float32Array[] = []
  for (let step = 0; step < steps; step++) {
    const pair = (first: number, second: number): Tensor => Tensor.from(device, Int32Array.of(first, second))
    using ids = pair((7 * step + 3) % 50, (5 * step + 11) % 50)
    using positions = pair(step, step)
    using cuSeqlensQ = Tensor.from(device, Int32Array.of(0, 1, 2))
    using kBegin = pair(cache.row(0, 0), cache.row(1, 0))
    using kEnd = pair(cache.row(0, step + 1), cache.row(1, step + 1))
    using rows = pair(cache.row(0, step), cache.row(1, step))
    const bounds = { cuSeqlensQ, kBegin, kEnd }
    using result = model.forward({ ids, positions, bounds, longest: 16 }, { cache: { store: cache, rows }, invariance })
    logits.push(await result.readFloats())
  }
  return logits
}

/** Names of the ops that `body` calls. */
async function opsOf(body: () => Promise<unknown>): Promise<string[]> {
  const { addon } = device
  const called: string[] = []
  const names = (Object.keys(addon) as (keyof typeof addon)[]).filter((name) => name.startsWith('op'))
  const originals = names.map((name) => [name, addon[name]] as const)
  for (const [name, original] of originals) {
    const recorded = (...args: never[]): unknown => {
      called.push(name)
      return (original as (...args: never[]) => unknown)(...args)
    }
    Object.assign(addon, { [name]: recorded })
  }
  try {
    await body()
  } finally {
    Object.assign(addon, Object.fromEntries(originals))
  }
  return called
}

describe.each(['f32', 'bf16'] as const)('a decoding step, %s', (dtype) => {
  let model: LlamaForCausalLM
  beforeAll(() => {
    model = createLlama(device, config, { seed: 8, dtype })
  })
  afterAll(() => model.dispose())

  it('takes five ops a layer', async () => {
    const called = await opsOf(() => decode(model, 1, 'fewRows'))
    const layer = ['opNormQkv', 'opAttention', 'opLinearAdd', 'opNormGateUp', 'opLinearAdd']
    const layers = [...layer, ...layer, ...layer]
    expect(called).toEqual(['opGatherRows', ...layers, 'opRmsNorm', 'opMatmul'])
  })

  it('is what the single ops of a layer give', async () => {
    const steps = emulated ? 2 : 5
    const fused = await decode(model, steps, 'fewRows')
    // Low-rank updates that are still zero change nothing but the ops that are called.
    const adapter = LoraAdapter.create(model, { ...defaultLora, targetModules: ['q_proj'] }, 1)
    const apart = await decode(model.withAdapter(adapter), steps, 'fewRows')
    adapter.dispose()
    fused.forEach((logits, step) => {
      if (deviceName === 'cpu') expect(logits, `step ${step}`).toEqual(apart[step])
      expectClose(`step ${step}`, logits, apart[step] ?? [], { relativeL2: dtype === 'f32' ? 1e-5 : 0.05 })
    })
  })
})
