/** LoRA adapters of a translator: loaded, chosen per call, merged, saved; and those that belong to another model. */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Alma } from '../../lib/index.js'
import { defaultLora, LoraAdapter, saveAdapter } from '../../lib/model/index.js'
import { expectClose, expectError } from '../support/compare.js'
import { loadTensors } from '../support/safetensors.js'
import { device, tinyAlma } from './tiny-model.js'

const texts = ['Guten Morgen!', 'Das Haus ist grün, der Wald auch.']
const options = { from: 'de', to: 'en', maxNewTokens: 8, stopAtNewline: false } as const

let folder: string
let model: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'alma-adapters-'))
  model = join(folder, 'model')
  await using alma = await tinyAlma()
  await alma.save(model)
  for (const [index, name] of ['group3', 'group6'].entries()) {
    const lora = { ...defaultLora, rank: 4, alpha: 8, targetModules: 'all-linear' } as const
    const adapter = LoraAdapter.create(alma.model, lora, index)
    for (const { b } of adapter.pairs.values()) {
      b.tensor.write(Float32Array.from({ length: b.tensor.count }, (_, i) => Math.sin(i * (index + 1.3))))
    }
    await saveAdapter(adapter, join(folder, name), { base: alma.model, baseModel: model })
    adapter.dispose()
  }
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const path = (name: string): string => join(folder, name)
const load = (adapter?: string | Record<string, string>, directory = model): Promise<Alma> =>
  Alma.load(directory, { device, dtype: 'f32', ...(adapter !== undefined && { adapter }) })

async function tokensOf(alma: Alma, adapter?: string | false): Promise<(readonly number[])[]> {
  const translations = await alma.translate(texts, { ...options, ...(adapter !== undefined && { adapter }) })
  return translations.map(({ tokenIds }) => tokenIds)
}

describe('adapters', () => {
  it('are chosen by name per call, also in calls at the same time, and the first is the default', async () => {
    await using plain = await load()
    await using three = await load(path('group3'))
    await using six = await load(path('group6'))
    const expected = [await tokensOf(plain), await tokensOf(three), await tokensOf(six)]
    expect(new Set(expected.map((ids) => JSON.stringify(ids))).size).toBe(3)
    expect(three.adapters).toEqual(['default'])

    await using both = await load({ group3: path('group3'), group6: path('group6') })
    expect(both.adapters).toEqual(['group3', 'group6'])
    const together = await Promise.all([
      tokensOf(both, false),
      tokensOf(both, 'group3'),
      tokensOf(both, 'group6'),
      tokensOf(both),
    ])
    expect(together).toEqual([...expected, expected[1]])

    const pair = { source: 'Guten Morgen!', target: 'Good morning!', from: 'de', to: 'en' }
    const [own] = await six.score([pair])
    const [chosen] = await both.score([pair], { adapter: 'group6' })
    expect(chosen).toEqual(own)
    const [generated] = await both.generate(['Guten'], { adapter: 'group6', maxNewTokens: 5 })
    expect(generated?.tokenIds).toEqual((await six.generate(['Guten'], { maxNewTokens: 5 }))[0]?.tokenIds)
    let streamed = ''
    for await (const piece of both.translateStream('Guten Morgen!', { ...options, adapter: 'group6' }))
      streamed += piece
    expect(streamed).toBe((await six.translate('Guten Morgen!', options)).text)
  })

  it('names the loaded ones when a call asks for another', async () => {
    await using alma = await load({ group3: path('group3') })
    const wrong = { ...options, adapter: 'group5' }
    await expectError(() => alma.translate(texts, wrong), 'ERR_ALMA_OPTION', /adapter.*loaded are group3.*group5/)
    await alma.loadAdapter('group5', path('group6'))
    expect(await tokensOf(alma, 'group5')).not.toEqual(await tokensOf(alma, 'group3'))
    alma.unloadAdapter('group5')
    await expectError(() => alma.translate(texts, wrong), 'ERR_ALMA_OPTION', /group5/)
  })

  it('merged into the weights give the same, in memory and in a folder', async () => {
    await using alma = await load(path('group3'))
    const expected = await tokensOf(alma)
    const logits = await alma.model.logits([[1, 5, 9]])
    const before = new Map<string, Float32Array>()
    for (const [name, tensor] of alma.model.namedParameters()) before.set(name, await tensor.readFloats())
    await alma.save(path('merged'), { mergeAdapter: true })
    // Saving changes nothing in memory.
    for (const [name, tensor] of alma.model.namedParameters())
      expect(await tensor.readFloats()).toEqual(before.get(name))
    expect(alma.adapters).toEqual(['default'])

    await using merged = await load(undefined, path('merged'))
    expectClose('logits', (await merged.model.logits([[1, 5, 9]]))[0] ?? [], logits[0] ?? [], { relativeL2: 1e-5 })
    expect(await tokensOf(merged)).toEqual(expected)
    alma.mergeAdapter()
    expect(alma.adapters).toEqual([])
    for (const [name, tensor] of merged.model.namedParameters()) {
      const here = [...alma.model.namedParameters()].find(([other]) => other === name)?.[1]
      expect(await here?.readFloats(), name).toEqual(await tensor.readFloats())
    }
    await expectError(async () => alma.mergeAdapter(), 'ERR_ALMA_OPTION', /no adapter is loaded/)
    // The weights are now in no folder: saved without saying more, all of them are.
    await alma.save(path('merged-again'))
    await using again = await load(undefined, path('merged-again'))
    expect(await tokensOf(again)).toEqual(expected)
  })

  it('are saved alone, and their folder opens as the model with them', async () => {
    await using alma = await load(path('group6'))
    await alma.save(path('saved'))
    const [given, again] = ['group6', 'saved'].map((name) => loadTensors(join(path(name), 'adapter_model.safetensors')))
    expect(again).toEqual(given)
    await using opened = await load(undefined, path('saved'))
    expect(opened.adapters).toEqual(['default'])
    expect(await tokensOf(opened)).toEqual(await tokensOf(alma))
  })

  it('without their base model are refused, with what to do', async () => {
    const orphan = path('orphan')
    await cp(path('group3'), orphan, { recursive: true })
    const file = join(orphan, 'adapter_config.json')
    const config = JSON.parse(await readFile(file, 'utf8')) as object
    await writeFile(file, JSON.stringify({ ...config, base_model_name_or_path: 'nobody/nothing' }))
    await expectError(
      () => load(undefined, orphan),
      'ERR_ALMA_ADAPTER',
      /without its base model .*nobody\/nothing.*option adapter/,
    )
    await expectError(() => load(path('nowhere')), 'ERR_ALMA_ADAPTER', /nowhere.*no such file/)
  })

  it('of another base model of the same extents are refused, naming a parameter', async () => {
    await using other = await tinyAlma({ seed: 8 })
    await expectError(
      () => other.loadAdapter('group3', path('group3')),
      'ERR_ALMA_ADAPTER',
      /model\.embed_tokens\.weight.*other values.*another base model/,
    )
    expect(other.adapters).toEqual([])
    // Rounded weights are still those of the same model.
    await using rounded = await Alma.load(model, { device, dtype: 'bf16', adapter: path('group3') })
    expect(rounded.adapters).toEqual(['default'])
  })

  it('of another tool are suspicious when they name another base model', async () => {
    const foreign = path('foreign')
    await using alma = await load(path('group3'))
    const { adapter } = alma.model
    if (adapter === undefined) throw new Error('no adapter')
    const warnings: string[] = []
    const onWarning = (message: string): void => void warnings.push(message)
    await saveAdapter(adapter, foreign, { baseModel: 'haoranxu/model' })
    await using _same = await Alma.load(model, { device, dtype: 'f32', adapter: foreign, onWarning })
    expect(warnings).toEqual([])
    await saveAdapter(adapter, foreign, { baseModel: 'haoranxu/ALMA-7B-Pretrain' })
    await using _other = await Alma.load(model, { device, dtype: 'f32', adapter: foreign, onWarning })
    expect(warnings).toEqual([
      expect.stringMatching(/foreign: was made for haoranxu\/ALMA-7B-Pretrain, and the model here/),
    ])
  })

  it('that lack a layer are refused', async () => {
    await using shallow = await Alma.create(
      { ...(await tinyConfig()), numHiddenLayers: 1 },
      { device, dtype: 'f32', seed: 7 },
    )
    const adapter = LoraAdapter.create(shallow.model, { ...defaultLora, rank: 2 }, 1)
    await saveAdapter(adapter, path('shallow'))
    adapter.dispose()
    await expectError(
      () => load(path('shallow')),
      'ERR_ALMA_ADAPTER',
      /no update of model\.layers\.1\.mlp\.down_proj.*another base model/,
    )
  })
})

async function tinyConfig(): Promise<Alma['config']> {
  await using alma = await tinyAlma()
  return alma.config
}
