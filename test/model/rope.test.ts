/** Rotary angles at real positions: the model's frequencies and tables, also for contexts of 100,000 tokens. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type RopeScaling, ropeInverseFrequencies } from '../../lib/model/config.js'
import { normalizeConfig } from '../../lib/model/index.js'
import { RopeCache } from '../../lib/model/rope-table.js'
import { type Device, ops, Tensor } from '../../lib/runtime/index.js'
import { expectClose } from '../support/compare.js'
import { openDevice } from '../support/devices.js'
import { describeOpCases, numberOf, type OpCase } from '../support/op-fixtures.js'

let device: Device
beforeAll(() => {
  device = openDevice()
})
afterAll(() => device.dispose())

function configOf(params: OpCase['params']) {
  const scaling = params.rope_scaling as Readonly<Record<string, number>> | null
  const number = (key: string): number => scaling?.[key] ?? Number.NaN
  const ropeScaling: RopeScaling | undefined =
    scaling === null || scaling === undefined
      ? undefined
      : {
          type: 'llama3',
          factor: number('factor'),
          lowFreqFactor: number('low_freq_factor'),
          highFreqFactor: number('high_freq_factor'),
          originalMaxPositionEmbeddings: number('original_max_position_embeddings'),
        }
  const headDim = numberOf(params, 'head_dim')
  const ropeTheta = numberOf(params, 'rope_theta')
  const model = { vocabSize: 8, hiddenSize: headDim, numHiddenLayers: 1, numAttentionHeads: 1 }
  return { ...normalizeConfig({ ...model, headDim, ropeTheta }), ropeScaling }
}

describeOpCases('rope', (opCase) => {
  it('has the frequencies of the reference', () => {
    const expected = opCase.load().floats('out.inv_freq')
    expectClose('frequencies', ropeInverseFrequencies(configOf(opCase.params)), expected, { relativeL2: 1e-7 })
  })

  it('rotates at the real positions', async () => {
    const fixture = opCase.load()
    const positions = fixture.ints('in.positions')
    const cache = new RopeCache(device, configOf(opCase.params))
    const table = cache.table(numberOf(opCase.params, 'max_position') + 1)
    const load = (name: string): Tensor => Tensor.from(device, fixture.floats(name), fixture.shape(name))
    const ids = Tensor.from(device, positions)
    const y = ops.rope(load('in.x'), ids, table)
    expectClose('y', await y.read(), fixture.floats('out.y'), { maxAbs: 2e-6 })
    const dx = ops.rope(load('in.dy'), ids, table, { inverse: true })
    expectClose('dx', await dx.read(), fixture.floats('out.dx'), { maxAbs: 2e-6 })
    const rows = ops.gatherRows(table.cosine, ids)
    expectClose('cos', await rows.read(), fixture.floats('out.cos'), { maxAbs: 1e-6 })
    cache.dispose()
  })
})

describe('RopeCache', () => {
  const config = { ...configOf({ head_dim: 8, rope_theta: 10_000 }), ropeScaling: undefined }

  it('keeps its table while it is long enough, and grows it when it is not', async () => {
    const cache = new RopeCache(device, config)
    const first = cache.table(10)
    expect(cache.table(512)).toBe(first)
    const longer = cache.table(513)
    expect(longer).not.toBe(first)
    expect(longer.cosine.shape[0]).toBeGreaterThanOrEqual(513)
    expect(cache.table(10)).toBe(longer)
    cache.dispose()
  })

  it('divides the frequencies for linear scaling', () => {
    const plain = ropeInverseFrequencies(config)
    const scaled = ropeInverseFrequencies({ ...config, ropeScaling: { type: 'linear', factor: 4 } })
    expectClose(
      'frequencies',
      scaled,
      plain.map((frequency) => frequency / 4),
      { relativeL2: 1e-12 },
    )
  })
})
