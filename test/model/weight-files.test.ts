import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { llamaConfigToJson, llamaParameterShapes, normalizeConfig, readLlamaConfig } from '../../lib/model/config.js'
import { type SafetensorsTensor, writeSafetensors } from '../../lib/model/safetensors.js'
import { openWeights, planShards, saveModelFiles, writeWeights } from '../../lib/model/weight-files.js'
import { fixtureCases } from '../support/fixtures.js'
import { loadTensors } from '../support/safetensors.js'

const config = normalizeConfig({
  vocabSize: 16,
  hiddenSize: 8,
  intermediateSize: 12,
  numHiddenLayers: 2,
  numAttentionHeads: 2,
})
const tied = { ...config, tieWordEmbeddings: true }
const index = 'model.safetensors.index.json'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'alma-weights-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const zeros = (
  name: string,
  shape: readonly number[],
  dtype: SafetensorsTensor['dtype'] = 'F32',
): SafetensorsTensor => {
  const bytes = { F32: 4, BF16: 2, F16: 2, I32: 4 }[dtype as 'F32'] ?? 1
  return { name, dtype, shape, data: new Uint8Array(shape.reduce((product, size) => product * size, bytes)) }
}
const model = (of = config, value = 0): SafetensorsTensor[] =>
  [...llamaParameterShapes(of)].map(([name, shape]) => {
    const count = shape.reduce((product, size) => product * size, 1)
    return { name, dtype: 'F32', shape, data: new Uint8Array(new Float32Array(count).fill(value).buffer) }
  })
const without = (name: string) => model().filter((tensor) => tensor.name !== name)
const writeSingle = (tensors: SafetensorsTensor[]) => writeSafetensors(join(folder, 'model.safetensors'), tensors)
const writeIndex = (map: unknown) => writeFileSync(join(folder, index), JSON.stringify({ weight_map: map }))
const readIndex = () => JSON.parse(readFileSync(join(folder, index), 'utf8'))
const refusal = (...parts: string[]) => {
  const words = parts.map((part) => part.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&'))
  return expect.objectContaining({
    name: 'AlmaError',
    code: 'ERR_ALMA_CHECKPOINT',
    message: expect.stringMatching(words.join('.*')),
  })
}
/** The one value that fills every tensor of the folder's model. */
async function modelValue(): Promise<number> {
  const { entries } = await openWeights(folder, config)
  const values = new Set<number>()
  for (const file of new Set([...entries.values()].map((entry) => entry.file))) {
    for (const { data } of loadTensors(file).values()) for (const value of data) values.add(value)
  }
  expect(values.size).toBe(1)
  return values.values().next().value ?? Number.NaN
}

describe('openWeights of one file', () => {
  it('gives every parameter its place', async () => {
    await writeSingle(model())
    const found = await openWeights(folder, config)
    const path = join(folder, 'model.safetensors')
    expect(found).toMatchObject({ layout: 'single', shards: [path], warnings: [] })
    expect([...found.entries.keys()]).toEqual([...llamaParameterShapes(config).keys()])
    const first = found.entries.get('model.embed_tokens.weight')
    expect(first).toMatchObject({ file: path, dtype: 'F32', shape: [16, 8], byteLength: 512 })
    expect(found.totalBytes).toBe(model().reduce((sum, { data }) => sum + (data as Uint8Array).length, 0))
  })

  it('takes mixed dtypes', async () => {
    const tensors = model().map(({ name, shape }, i) => zeros(name, shape, i % 2 === 0 ? 'BF16' : 'F16'))
    await writeSingle(tensors)
    const { entries } = await openWeights(folder, config)
    expect(new Set([...entries.values()].map(({ dtype }) => dtype))).toEqual(new Set(['BF16', 'F16']))
  })

  it('prefers it to an index, and says so', async () => {
    await writeSingle(model())
    writeIndex({})
    const { layout, warnings } = await openWeights(folder, config)
    expect(layout).toBe('single')
    expect(warnings).toEqual([expect.stringContaining(index)])
  })

  it('knows both names of a tied matrix', async () => {
    await writeSingle(model())
    expect((await openWeights(folder, tied)).entries.has('lm_head.weight')).toBe(false)
    await writeSingle(without('model.embed_tokens.weight'))
    const { entries, warnings } = await openWeights(folder, tied)
    expect(entries.get('model.embed_tokens.weight')).toMatchObject({ shape: [16, 8] })
    expect(warnings).toEqual([])
    await writeSingle(without('lm_head.weight'))
    await expect(openWeights(folder, config)).rejects.toEqual(refusal('missing lm_head.weight', 'tie_word_embeddings'))
    await writeSingle(without('lm_head.weight').slice(1))
    await expect(openWeights(folder, tied)).rejects.toEqual(refusal('missing model.embed_tokens.weight'))
  })

  it('ignores stored constants, warns of unknown tensors', async () => {
    await writeSingle([
      ...model(),
      zeros('model.layers.0.self_attn.rotary_emb.inv_freq', [2]),
      zeros('model.layers.7.mlp.up_proj.weight', [3]),
    ])
    const { warnings } = await openWeights(folder, config)
    expect(warnings).toEqual(['ignored tensors that the model does not have: "model.layers.7.mlp.up_proj.weight"'])
  })

  it.each(['self_attn.q_proj.bias', 'mlp.up_proj.qweight', 'mlp.up_proj.lora_A.weight'])(
    'refuses %s, which would change the result',
    async (name) => {
      await writeSingle([...model(), zeros(`model.layers.0.${name}`, [3])])
      await expect(openWeights(folder, config)).rejects.toEqual(refusal('model.safetensors', name, 'plain LLaMA'))
    },
  )

  it('names what is missing', async () => {
    await writeSingle(without('model.layers.1.mlp.down_proj.weight'))
    await expect(openWeights(folder, config)).rejects.toEqual(
      refusal(join(folder, 'model.safetensors'), 'missing model.layers.1.mlp.down_proj.weight'),
    )
    await writeSingle([])
    await expect(openWeights(folder, config)).rejects.toEqual(
      refusal('missing model.embed_tokens.weight', 'and 18 more'),
    )
  })

  it('names a shape or dtype that does not fit', async () => {
    const name = 'model.layers.0.self_attn.k_proj.weight'
    for (const shape of [[8, 7], [64], [8, 8, 1]]) {
      await writeSingle([...without(name), zeros(name, shape)])
      await expect(openWeights(folder, config)).rejects.toEqual(
        refusal('model.safetensors', name, `shape [${shape.join(', ')}]`, 'expected [8, 8]'),
      )
    }
    await writeSingle([...without(name), zeros(name, [8, 8], 'I32')])
    await expect(openWeights(folder, config)).rejects.toEqual(refusal(name, 'dtype I32', 'expected F32, F16 or BF16'))
  })

  it.each([
    ['pytorch_model.bin', 'save_pretrained'],
    ['pytorch_model.bin.index.json', 'save_pretrained'],
    ['llama-2-7b.Q4_K_M.gguf', 'gguf_file='],
    ['consolidated.00.pth', 'convert_llama_weights_to_hf.py'],
    ['adapter_model.safetensors', 'as the adapter'],
    ['notes.txt', 'expected the weights of a model'],
  ])('says what to do about a folder with only %s', async (name, advice) => {
    writeFileSync(join(folder, name), '')
    await expect(openWeights(folder, config)).rejects.toEqual(refusal(folder, 'neither model.safetensors', advice))
  })

  it('names a folder that is missing', async () => {
    await expect(openWeights(join(folder, 'none'), config)).rejects.toMatchObject({
      code: 'ERR_ALMA_IO',
      message: expect.stringContaining(join(folder, 'none')),
    })
  })
})

describe('openWeights of shards', () => {
  const [one, two] = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'] as const
  const map = (): Record<string, string> => Object.fromEntries(model().map(({ name }, i) => [name, i < 10 ? one : two]))
  beforeEach(async () => {
    await writeSafetensors(join(folder, one), model().slice(0, 10))
    await writeSafetensors(join(folder, two), model().slice(10))
    writeIndex(map())
  })

  it('gives every parameter its place', async () => {
    const { entries, layout, shards } = await openWeights(folder, config)
    expect(layout).toBe('sharded')
    expect(shards).toEqual([join(folder, one), join(folder, two)])
    expect(entries.get('model.embed_tokens.weight')?.file).toBe(join(folder, one))
    expect(entries.get('lm_head.weight')?.file).toBe(join(folder, two))
  })

  it('names a missing or damaged shard', async () => {
    writeFileSync(join(folder, two), readFileSync(join(folder, two)).subarray(0, -1))
    await expect(openWeights(folder, config)).rejects.toEqual(refusal(two, 'truncated'))
    rmSync(join(folder, two))
    await expect(openWeights(folder, config)).rejects.toEqual(refusal(two, 'no such file'))
  })

  it.each<[unknown]>([['../x.safetensors'], ['/etc/passwd'], ['..'], ['a\\b'], [''], [7], [null]])(
    'refuses the shard name %j',
    async (shard) => {
      writeIndex({ ...map(), 'lm_head.weight': shard })
      await expect(openWeights(folder, config)).rejects.toEqual(refusal(index, '"lm_head.weight"', 'beside it'))
    },
  )

  it('refuses a tensor in two shards, in the wrong one, in none, or not in the index', async () => {
    const name = 'lm_head.weight'
    writeIndex({ ...map(), [name]: one })
    await expect(openWeights(folder, config)).rejects.toEqual(refusal(one, name, two))
    writeIndex({ ...map(), surplus: one })
    await expect(openWeights(folder, config)).rejects.toEqual(refusal(one, 'has no tensor "surplus"'))
    const { [name]: _, ...rest } = map()
    writeIndex(rest)
    await expect(openWeights(folder, config)).rejects.toEqual(refusal(index, `does not name tensor "${name}"`))
    writeIndex(map())
    const again = model().filter((tensor) => tensor.name === name)
    await writeSafetensors(join(folder, one), [...model().slice(0, 10), ...again])
    await expect(openWeights(folder, config)).rejects.toEqual(refusal(two, `"${name}" is in`, one))
  })

  it('refuses an index that is not one', async () => {
    writeIndex([])
    await expect(openWeights(folder, config)).rejects.toEqual(refusal(index, 'weight_map is []'))
    writeIndex({})
    await expect(openWeights(folder, config)).rejects.toEqual(refusal(index, 'missing model.embed_tokens.weight'))
    writeIndex(Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`t${i}`, `s${i}`])))
    await expect(openWeights(folder, config)).rejects.toEqual(refusal(index, '5000 shards'))
    writeFileSync(join(folder, index), 'null')
    await expect(openWeights(folder, config)).rejects.toEqual(refusal(index, 'weight_map is nothing'))
    writeFileSync(join(folder, index), `{"weight_map":{"a":"${one}","a":"${two}"}}`)
    await expect(openWeights(folder, config)).rejects.toEqual(refusal(index, '"a" occurs twice'))
    writeFileSync(join(folder, index), '{')
    await expect(openWeights(folder, config)).rejects.toEqual(refusal(index, 'not JSON'))
  })
})

describe('planShards', () => {
  const plan = (sizes: number[], most: number) =>
    planShards(
      sizes.map((byteLength) => ({ byteLength })),
      most,
    ).map(({ name, entries }) => [name, entries.map(({ byteLength }) => byteLength)])

  it('fills files in order', () => {
    expect(plan([4, 4, 2], 10)).toEqual([['model.safetensors', [4, 4, 2]]])
    expect(plan([4, 9], Number.POSITIVE_INFINITY)).toEqual([['model.safetensors', [4, 9]]])
    expect(plan([], 10)).toEqual([['model.safetensors', []]])
    expect(plan([4, 4, 3, 20, 1, 9], 10)).toEqual([
      ['model-00001-of-00004.safetensors', [4, 4]],
      ['model-00002-of-00004.safetensors', [3]],
      ['model-00003-of-00004.safetensors', [20]],
      ['model-00004-of-00004.safetensors', [1, 9]],
    ])
  })

  it.each([0, -1, Number.NaN])('refuses files of %d bytes', (most) => {
    expect(() => plan([1], most)).toThrow(expect.objectContaining({ code: 'ERR_ALMA_OPTION' }))
  })
})

describe('writeWeights', () => {
  it('writes one file with its config', async () => {
    const extraFiles = [{ name: 'tokenizer.json', content: '{}' }]
    const names = await writeWeights(folder, model(), { config: llamaConfigToJson(config), extraFiles })
    expect(names).toEqual(['model.safetensors'])
    expect(readdirSync(folder).sort()).toEqual(['config.json', 'model.safetensors', 'tokenizer.json'])
    expect(await readLlamaConfig(folder)).toEqual(config)
    expect((await openWeights(folder, config)).warnings).toEqual([])
  })

  it('writes shards and their index as Hugging Face does', async () => {
    const names = await writeWeights(folder, model(config, 3), { maxShardBytes: 2000 })
    expect(names.length).toBeGreaterThan(2)
    expect(readdirSync(folder).sort()).toEqual([...names, index])
    const { metadata, weight_map: map } = readIndex()
    const { entries, totalBytes, shards } = await openWeights(folder, config)
    expect(metadata).toEqual({ total_size: totalBytes })
    expect(Object.keys(map)).toEqual([...entries.keys()].sort())
    expect(shards).toEqual(names.map((name) => join(folder, name)))
    for (const [name, { file }] of entries) expect(join(folder, map[name])).toBe(file)
    expect(await modelValue()).toBe(3)
  })

  it('replaces the older model whatever its layout, and nothing else', async () => {
    mkdirSync(join(folder, 'runs'))
    for (const name of ['notes.txt', 'model-card.md', 'adapter_model.safetensors', 'pytorch_model.bin']) {
      writeFileSync(join(folder, name), 'mine')
    }
    const others = readdirSync(folder)
    for (const [value, maxShardBytes] of [1e9, 1000, 2000, 1e9, 3000].entries()) {
      const names = await writeWeights(folder, model(config, value), { maxShardBytes })
      const expected = [...others, ...names, ...(names.length > 1 ? [index] : [])]
      expect(readdirSync(folder).sort()).toEqual(expected.sort())
      expect(await modelValue()).toBe(value)
    }
  })

  it('leaves the older model when a tensor cannot be written', async () => {
    await writeWeights(folder, model(config, 1), { maxShardBytes: 2000 })
    const before = readdirSync(folder)
    for (const [data, code] of [
      [() => Promise.reject(Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' })), 'ERR_ALMA_IO'],
      [new Uint8Array(1), 'ERR_ALMA_CHECKPOINT'],
    ] as const) {
      const tensors = model(config, 2)
      tensors.push({ name: 'last', dtype: 'F32', shape: [1], data })
      await expect(writeWeights(folder, tensors)).rejects.toMatchObject({
        code,
        message: expect.stringContaining(join(folder, 'model.safetensors')),
      })
      expect(readdirSync(folder)).toEqual(before)
      expect(await modelValue()).toBe(1)
    }
  })

  it('refuses a name twice', async () => {
    const twice = [...model(), ...model().slice(0, 1)]
    await expect(writeWeights(folder, twice)).rejects.toEqual(refusal('cannot be written'))
    await expect(writeWeights(folder, twice, { maxShardBytes: 1000 })).rejects.toEqual(refusal('occurs twice'))
    expect(existsSync(join(folder, index))).toBe(false)
  })

  it('opens the new model after a crash among the renames', async () => {
    await writeWeights(folder, model(config, 1), { maxShardBytes: 2000, config: llamaConfigToJson(config) })
    const old = readdirSync(folder)
    const next = join(folder, 'next')
    const nextConfig = { ...config, ropeTheta: 5e5 }
    const files = await writeWeights(next, model(config, 2), {
      maxShardBytes: 4000,
      config: llamaConfigToJson(nextConfig),
    })
    const moves = [...files, index, 'config.json']
    writeFileSync(
      join(next, '.manifest.json'),
      JSON.stringify({ files: moves, remove: old.filter((name) => /^model-/.test(name)) }),
    )
    renameSync(next, join(folder, '.alma-save'))
    renameSync(join(folder, '.alma-save', `${files[0]}`), join(folder, `${files[0]}`))
    expect(await readLlamaConfig(folder)).toEqual(nextConfig)
    expect(await modelValue()).toBe(2)
    expect(readdirSync(folder).sort()).toEqual(moves.sort())
  })
})

describe('saveModelFiles', () => {
  it('keeps the weights when it saves none', async () => {
    await writeWeights(folder, model(config, 1), { maxShardBytes: 2000 })
    const before = readdirSync(folder)
    await saveModelFiles(folder, [{ name: 'config.json', content: '{}' }])
    expect(readdirSync(folder).sort()).toEqual([...before, 'config.json'].sort())
  })
})

const cases = fixtureCases('model')
if (cases.length === 0) it.skip('fixtures of the kind model are absent', () => {})
describe.each(cases)('fixture $name', ({ folder: source }) => {
  it('is read, and written again in shards with the same values', async () => {
    const fixtureConfig = await readLlamaConfig(source)
    const { entries, warnings } = await openWeights(source, fixtureConfig)
    expect(warnings).toEqual([])
    const tensors = [...entries].map(([name, { file, dtype, shape, byteOffset, byteLength }]): SafetensorsTensor => {
      const data = async () => readFileSync(file).subarray(byteOffset, byteOffset + byteLength)
      return { name, dtype, shape, data }
    })
    await writeWeights(folder, tensors, { maxShardBytes: 300_000, config: llamaConfigToJson(fixtureConfig) })
    expect(await readLlamaConfig(folder)).toEqual(fixtureConfig)
    const again = await openWeights(folder, fixtureConfig)
    expect(again.layout).toBe('sharded')
    for (const [name, { file, byteOffset, byteLength }] of again.entries) {
      const original = entries.get(name)
      if (original === undefined) throw new Error(name)
      const bytes = readFileSync(file).subarray(byteOffset, byteOffset + byteLength)
      const expected = readFileSync(original.file).subarray(original.byteOffset, original.byteOffset + byteLength)
      expect(bytes.equals(expected)).toBe(true)
    }
  })
})
