import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { saveModelAsGguf } from '../../lib/alma/save-gguf.js'
import { createLlama, normalizeConfig, saveGguf } from '../../lib/model/index.js'
import { f16Of } from '../../lib/model/save-gguf.js'
import type { Device } from '../../lib/runtime/index.js'
import { ggufTokenizer } from '../../lib/text/index.js'
import { tinyAlma } from '../alma/tiny-model.js'
import { openDevice } from '../support/devices.js'

/** A reader of its own, by the format's description. */
function readGguf(file: Buffer) {
  let at = 0
  /** Where the next `bytes` bytes begin. */
  const take = (bytes: number): number => {
    at += bytes
    return at - bytes
  }
  const u32 = (): number => file.readUInt32LE(take(4))
  const u64 = (): number => Number(file.readBigUInt64LE(take(8)))
  const string = (): string => {
    const start = take(u64())
    return file.toString('utf8', start, at)
  }
  const value = (type: number): unknown => {
    if (type === 4) return u32()
    if (type === 5) return file.readInt32LE(take(4))
    if (type === 6) return file.readFloatLE(take(4))
    if (type === 7) return file[take(1)] === 1
    if (type === 8) return string()
    if (type !== 9) throw new Error(`type ${type}`)
    const element = u32()
    return Array.from({ length: u64() }, () => value(element))
  }
  expect(file.toString('latin1', 0, 4)).toBe('GGUF')
  at = 4
  expect(u32()).toBe(3)
  const [tensorCount, valueCount] = [u64(), u64()]
  const metadata = new Map<string, unknown>()
  for (let i = 0; i < valueCount; i++) metadata.set(string(), value(u32()))
  const described = Array.from({ length: tensorCount }, () => {
    const name = string()
    const shape = Array.from({ length: u32() }, u64).toReversed()
    return { name, shape, type: u32(), offset: u64() }
  })
  const data = Math.ceil(at / 32) * 32
  const tensors = new Map(described.map(({ name, ...tensor }) => [name, { ...tensor, offset: data + tensor.offset }]))
  return { metadata, tensors }
}

let device: Device
let folder: string
beforeAll(async () => {
  device = openDevice()
  folder = await mkdtemp(join(tmpdir(), 'alma-gguf-'))
})
afterAll(async () => {
  await device.dispose()
  await rm(folder, { recursive: true, force: true })
})

const config = normalizeConfig({
  vocabSize: 96,
  hiddenSize: 24,
  intermediateSize: 40,
  numHiddenLayers: 2,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
  headDim: 8,
  ropeTheta: 50_000,
})

describe('saveGguf', () => {
  it('writes config and weights under the names of llama.cpp, aligned, and nothing else', async () => {
    const model = createLlama(device, config, { dtype: 'f32' })
    const path = join(folder, 'a.gguf')
    await saveGguf(model, path, { name: 'small' })
    const file = await readFile(path)
    const { metadata, tensors } = readGguf(file)
    expect(Object.fromEntries(metadata)).toMatchObject({
      'general.architecture': 'llama',
      'general.name': 'small',
      'general.file_type': 0,
      'llama.block_count': 2,
      'llama.attention.head_count': 4,
      'llama.attention.head_count_kv': 2,
      'llama.rope.dimension_count': 8,
      'llama.rope.freq_base': 50_000,
      'llama.embedding_length': 24,
      'llama.feed_forward_length': 40,
    })
    const names = [
      'attn_norm',
      'attn_q',
      'attn_k',
      'attn_v',
      'attn_output',
      'ffn_norm',
      'ffn_gate',
      'ffn_up',
      'ffn_down',
    ]
    const expected = [0, 1].flatMap((layer) => names.map((name) => `blk.${layer}.${name}.weight`))
    expect([...tensors.keys()].sort()).toEqual(
      [...expected, 'token_embd.weight', 'output_norm.weight', 'output.weight'].sort(),
    )
    for (const [name, tensor] of model.namedParameters()) {
      const found = tensors.get(
        name === 'model.embed_tokens.weight'
          ? 'token_embd.weight'
          : name.includes('down_proj')
            ? `blk.${name.split('.')[2]}.ffn_down.weight`
            : '',
      )
      if (found === undefined) continue
      expect(found.shape).toEqual(tensor.shape)
      expect(found.offset % 32).toBe(0)
      expect(file.subarray(found.offset, found.offset + tensor.byteLength)).toEqual(
        Buffer.from(await tensor.readBytes()),
      )
    }
    model.dispose()
  })

  it('has the rows of queries and keys in pairs, and norms in F32 whatever the rest is', async () => {
    const model = createLlama(device, config, { dtype: 'bf16' })
    const path = join(folder, 'b.gguf')
    await saveGguf(model, path)
    const file = await readFile(path)
    const { metadata, tensors } = readGguf(file)
    expect(metadata.get('general.file_type')).toBe(32)
    expect(tensors.get('blk.0.attn_norm.weight')?.type).toBe(0)
    const weights = new Map(model.namedParameters())
    for (const [ours, theirs] of [
      ['q_proj', 'attn_q'],
      ['k_proj', 'attn_k'],
    ]) {
      const source = Buffer.from((await weights.get(`model.layers.1.self_attn.${ours}.weight`)?.readBytes()) ?? [])
      const written = tensors.get(`blk.1.${theirs}.weight`)
      expect(written?.type).toBe(30)
      const rowBytes = 24 * 2
      for (let row = 0; row < source.length / rowBytes; row++) {
        // Row 2i of a head is its row i, row 2i + 1 is i + headDim / 2.
        const [head, inHead] = [Math.floor(row / 8), row % 8]
        const from = head * 8 + (inHead % 2 === 0 ? inHead / 2 : (inHead - 1) / 2 + 4)
        const offset = (written?.offset ?? 0) + row * rowBytes
        expect(file.subarray(offset, offset + rowBytes)).toEqual(
          source.subarray(from * rowBytes, (from + 1) * rowBytes),
        )
      }
    }
    model.dispose()
  })

  it('has the tokenizer: pieces, scores by rank of merging, kinds', async () => {
    await using alma = await tinyAlma()
    const path = join(folder, 'c.gguf')
    await saveModelAsGguf(alma.model, alma.tokenizer, path, { dtype: 'f16' })
    const { metadata } = readGguf(await readFile(path))
    const made = await ggufTokenizer(alma.tokenizer, alma.config.vocabSize)
    expect(metadata.get('tokenizer.ggml.tokens')).toEqual(made.tokens)
    expect(made.tokens).toHaveLength(alma.config.vocabSize)
    expect(metadata.get('tokenizer.ggml.model')).toBe('llama')
    expect(metadata.get('tokenizer.ggml.bos_token_id')).toBe(1)
    expect(metadata.get('tokenizer.ggml.eos_token_id')).toBe(2)
    expect(made.tokens.slice(0, 4)).toEqual(['<unk>', '<s>', '</s>', '<0x00>'])
    expect(made.types.slice(0, 4)).toEqual([2, 3, 3, 6])
    // Merging by the highest score, as llama.cpp does, gives the ids of our own encoder.
    const ids = new Map(made.tokens.map((token, id) => [token, id]))
    const encode = (text: string): number[] => {
      let symbols = [...`\u2581${text.replaceAll(' ', '\u2581')}`]
      for (;;) {
        let best = -1
        let score = Number.NEGATIVE_INFINITY
        for (let i = 0; i + 1 < symbols.length; i++) {
          const id = ids.get(`${symbols[i]}${symbols[i + 1]}`)
          if (id !== undefined && (made.scores[id] ?? 0) > score) [best, score] = [i, made.scores[id] ?? 0]
        }
        if (best < 0) break
        symbols = [...symbols.slice(0, best), `${symbols[best]}${symbols[best + 1]}`, ...symbols.slice(best + 2)]
      }
      return symbols.map((symbol) => ids.get(symbol) ?? -1)
    }
    for (const text of ['Guten Morgen! Wie geht es dir', 'The house is green, and so is the forest.'])
      expect(encode(text)).toEqual(alma.tokenizer.encode(text))
  })
})

describe('f16Of', () => {
  it.each([
    [0, 0],
    [-0, 0x8000],
    [1, 0x3c00],
    [-2, 0xc000],
    [65504, 0x7bff],
    [65519.99, 0x7bff],
    [65520, 0x7c00],
    [1e9, 0x7c00],
    [Number.NEGATIVE_INFINITY, 0xfc00],
    [2 ** -14, 0x0400],
    [2 ** -24, 1],
    [2 ** -25, 0],
    [1.5 * 2 ** -24, 2],
    [1 + 2 ** -11, 0x3c00],
    [1 + 3 * 2 ** -11, 0x3c02],
    [0.1, 0x2e66],
  ])('%f', (value, bits) => {
    expect(f16Of(value)).toBe(bits)
  })
})
