import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  type LlamaConfigInput,
  llamaConfigToJson,
  llamaParameterShapes,
  normalizeConfig,
  parseLlamaConfig,
  readLlamaConfig,
  ropeInverseFrequencies,
} from '../../lib/model/config.js'
import { fixtureCases, fixtureFolder } from '../support/fixtures.js'
import { loadTensors } from '../support/safetensors.js'

const small = {
  model_type: 'llama',
  vocab_size: 256,
  hidden_size: 64,
  intermediate_size: 172,
  num_hidden_layers: 2,
  num_attention_heads: 4,
}
const llama3 = {
  rope_type: 'llama3',
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 8192,
}
const llama3Parsed = {
  type: 'llama3',
  factor: 8,
  lowFreqFactor: 1,
  highFreqFactor: 4,
  originalMaxPositionEmbeddings: 8192,
}
const parse = (changes: Record<string, unknown> = {}) => parseLlamaConfig({ ...small, ...changes }, 'DIR/config.json')
const refusal = (problem: RegExp) =>
  expect.objectContaining({ name: 'AlmaError', code: 'ERR_ALMA_CONFIG', message: expect.stringMatching(problem) })

describe('parseLlamaConfig', () => {
  it('fills what a short config leaves out as Hugging Face does', () => {
    expect(parse()).toEqual({
      vocabSize: 256,
      hiddenSize: 64,
      intermediateSize: 172,
      numHiddenLayers: 2,
      numAttentionHeads: 4,
      numKeyValueHeads: 4,
      headDim: 16,
      maxPositionEmbeddings: 2048,
      rmsNormEps: 1e-6,
      ropeTheta: 10000,
      ropeScaling: undefined,
      tieWordEmbeddings: false,
      bosTokenId: 1,
      eosTokenIds: [2],
      padTokenId: undefined,
      initializerRange: 0.02,
      torchDtype: undefined,
      extra: {},
    })
  })

  it('reads the first conversions of LLaMA 1', () => {
    const config = parse({
      architectures: ['LLaMAForCausalLM'],
      bos_token_id: 0,
      eos_token_id: 1,
      pad_token_id: -1,
      hidden_act: 'silu',
      max_sequence_length: 1024,
      rms_norm_eps: 1e-6,
      torch_dtype: 'float16',
      transformers_version: '4.27.0.dev0',
      use_cache: true,
    })
    expect(config).toMatchObject({
      bosTokenId: 0,
      eosTokenIds: [1],
      maxPositionEmbeddings: 1024,
      torchDtype: 'float16',
    })
    expect(config.padTokenId).toBeUndefined()
    expect(config.extra).toEqual({ transformers_version: '4.27.0.dev0', use_cache: true })
  })

  it.each<[string, Record<string, unknown>, Record<string, unknown>]>([
    ['transformers 4', { rope_theta: 5e5, rope_scaling: llama3 }, { ropeTheta: 5e5, ropeScaling: llama3Parsed }],
    [
      'transformers 5',
      { rope_parameters: { rope_theta: 5e5, ...llama3 } },
      { ropeTheta: 5e5, ropeScaling: llama3Parsed },
    ],
    ['transformers 5, plain', { rope_parameters: { rope_theta: 3e4, rope_type: 'default' } }, { ropeTheta: 3e4 }],
    ['transformers 5, outer theta', { rope_theta: 2e4, rope_parameters: { rope_type: 'default' } }, { ropeTheta: 2e4 }],
    ['the older key', { rope_scaling: { type: 'linear', factor: 2 } }, { ropeScaling: { type: 'linear', factor: 2 } }],
    ['null', { rope_scaling: null, rope_theta: null }, { ropeTheta: 10000, ropeScaling: undefined }],
  ])('reads rotary embeddings as spelled by %s', (_, changes, expected) => {
    expect(parse(changes)).toMatchObject(expected)
  })

  it.each<[Record<string, unknown>, Record<string, unknown>]>([
    [{ eos_token_id: [7, 8] }, { eosTokenIds: [7, 8] }],
    [
      { eos_token_id: null, bos_token_id: null },
      { eosTokenIds: [], bosTokenId: undefined },
    ],
    [{ pad_token_id: 0 }, { padTokenId: 0 }],
    [{ num_key_value_heads: 1 }, { numKeyValueHeads: 1 }],
    [{ head_dim: 32 }, { headDim: 32 }],
    [
      { hidden_size: 65, head_dim: 8 },
      { hiddenSize: 65, headDim: 8 },
    ],
    [{ dtype: 'bfloat16' }, { torchDtype: 'bfloat16' }],
    [{ tie_word_embeddings: true }, { tieWordEmbeddings: true }],
    [{ attention_bias: false, mlp_bias: false, hidden_act: 'silu' }, { vocabSize: 256 }],
    [{ vocab_size: 2 }, { eosTokenIds: [], bosTokenId: 1 }],
  ])('reads %j', (changes, expected) => {
    expect(parse(changes)).toMatchObject(expected)
  })

  it.each<[Record<string, unknown>, RegExp]>([
    [{ model_type: 'mistral' }, /^DIR\/config.json: model_type is "mistral", expected "llama"$/],
    [{ model_type: undefined }, /model_type is nothing, expected "llama"/],
    [{ hidden_act: 'gelu' }, /hidden_act is "gelu", expected "silu"/],
    [{ attention_bias: true }, /attention_bias is true, expected false/],
    [{ mlp_bias: true }, /mlp_bias is true, expected false/],
    [{ quantization_config: { bits: 4 } }, /quantization_config is an object, expected none/],
    [{ vocab_size: undefined }, /vocab_size is nothing, expected an integer from 1 to 4194304/],
    [{ vocab_size: '256' }, /vocab_size is "256", expected an integer/],
    [{ vocab_size: 2 ** 40 }, /vocab_size is 1099511627776, expected an integer from 1 to 4194304/],
    [{ hidden_size: 0 }, /hidden_size is 0, expected an integer from 1/],
    [{ hidden_size: -64 }, /hidden_size is -64/],
    [{ hidden_size: 64.5 }, /hidden_size is 64.5/],
    [{ hidden_size: 66 }, /hidden_size is 66, expected a multiple of the 4 attention heads/],
    [{ intermediate_size: null }, /intermediate_size is nothing/],
    [{ num_hidden_layers: 1e9 }, /num_hidden_layers is 1000000000, expected an integer from 1 to 2048/],
    [{ num_attention_heads: [4] }, /num_attention_heads is \[4\]/],
    [{ num_key_value_heads: 3 }, /num_key_value_heads is 3, expected a divisor of the 4 attention heads/],
    [{ num_key_value_heads: 8 }, /num_key_value_heads is 8, expected a divisor/],
    [{ head_dim: 15 }, /head_dim is 15, expected an even number/],
    [{ head_dim: 1e6 }, /head_dim is 1000000, expected an integer from 1 to 2048/],
    [{ max_position_embeddings: 2 ** 30 }, /max_position_embeddings is 1073741824/],
    [{ rms_norm_eps: 0 }, /rms_norm_eps is 0, expected a number above 0 and below 1/],
    [{ rms_norm_eps: '1e-5' }, /rms_norm_eps is "1e-5"/],
    [{ rope_theta: -1 }, /rope_theta is -1/],
    [{ initializer_range: Number.NaN }, /initializer_range is NaN/],
    [{ tie_word_embeddings: 1 }, /tie_word_embeddings is 1, expected a boolean/],
    [{ bos_token_id: 256 }, /bos_token_id is 256, expected a token id from 0 to 255/],
    [{ eos_token_id: [2, 256] }, /eos_token_id is 256/],
    [{ eos_token_id: 'x' }, /eos_token_id is "x"/],
    [{ pad_token_id: -2 }, /pad_token_id is -2/],
    [{ torch_dtype: 'int8' }, /torch_dtype is "int8", expected "float32", "float16" or "bfloat16"/],
    [{ rope_scaling: 'linear' }, /rope_scaling is "linear", expected an object/],
    [{ rope_parameters: [] }, /rope_parameters is \[\], expected an object/],
    [
      { rope_scaling: { rope_type: 'yarn', factor: 4 } },
      /rope_type is "yarn", expected "default", "linear" or "llama3"/,
    ],
    [{ rope_scaling: { type: 'linear' } }, /rope_scaling.factor is nothing, expected a number from 1/],
    [{ rope_scaling: { type: 'linear', factor: 0.5 } }, /rope_scaling.factor is 0.5/],
    [{ rope_scaling: { ...llama3, low_freq_factor: 4 } }, /high_freq_factor is 4, expected more than low_freq_factor/],
    [{ rope_scaling: { ...llama3, original_max_position_embeddings: undefined } }, /original_max_position_embeddings/],
    [{ rope_parameters: { rope_theta: 1e4, partial_rotary_factor: 0.5 } }, /partial_rotary_factor is 0.5, expected 1/],
  ])('refuses %j', (changes, problem) => {
    expect(() => parse(changes)).toThrow(refusal(problem))
  })

  it.each([null, [], 'text', 3, undefined])('refuses %j in the place of an object', (json) => {
    expect(() => parseLlamaConfig(json, 'c.json')).toThrow(refusal(/^c.json: the content is .*, expected an object$/))
  })
})

describe('llamaConfigToJson', () => {
  it.each<Record<string, unknown>>([
    {},
    { rope_scaling: llama3, eos_token_id: [3, 4], torch_dtype: 'bfloat16', pad_token_id: 5 },
    { rope_scaling: { type: 'linear', factor: 2 }, eos_token_id: null, bos_token_id: null },
    { use_cache: true, transformers_version: '4.44.0', nested: { a: [1] } },
  ])('is read back the same: %j', (changes) => {
    const config = parse(changes)
    const json = JSON.parse(JSON.stringify(llamaConfigToJson(config)))
    expect(parseLlamaConfig(json, 'again')).toEqual(config)
  })

  it("is in Hugging Face's spelling", () => {
    expect(llamaConfigToJson(parse({ rope_scaling: llama3, use_cache: true }))).toEqual({
      ...small,
      architectures: ['LlamaForCausalLM'],
      attention_bias: false,
      bos_token_id: 1,
      eos_token_id: 2,
      head_dim: 16,
      hidden_act: 'silu',
      initializer_range: 0.02,
      max_position_embeddings: 2048,
      mlp_bias: false,
      num_key_value_heads: 4,
      pad_token_id: null,
      rms_norm_eps: 1e-6,
      rope_scaling: llama3,
      rope_theta: 10000,
      tie_word_embeddings: false,
      use_cache: true,
    })
  })
})

describe('normalizeConfig', () => {
  const input: LlamaConfigInput = { vocabSize: 100, hiddenSize: 64, numHiddenLayers: 2, numAttentionHeads: 4 }

  it('completes a config given in code', () => {
    const config = normalizeConfig(input)
    expect(config).toMatchObject({ intermediateSize: 256, numKeyValueHeads: 4, headDim: 16, rmsNormEps: 1e-6 })
    expect(normalizeConfig(config)).toEqual(config)
    expect(normalizeConfig({ ...input, hiddenSize: 4096, numAttentionHeads: 32 }).intermediateSize).toBe(11008)
    expect(normalizeConfig({ ...input, hiddenSize: 5120, numAttentionHeads: 40 }).intermediateSize).toBe(13824)
  })

  it('takes scaling and end tokens', () => {
    const ropeScaling = {
      type: 'llama3',
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalMaxPositionEmbeddings: 64,
    } as const
    expect(normalizeConfig({ ...input, ropeScaling, eosTokenId: 5 })).toMatchObject({ ropeScaling, eosTokenIds: [5] })
    expect(normalizeConfig({ ...input, eosTokenIds: [5, 6] }).eosTokenIds).toEqual([5, 6])
  })

  it.each<[Record<string, unknown>, RegExp]>([
    [{ hiddenSise: 3 }, /unknown field "hiddenSise"; the fields are vocabSize, /],
    [{ hidden_size: 3 }, /unknown field "hidden_size"; did you mean hiddenSize\?/],
    [{ toString: 3 }, /unknown field "toString"/],
    [{ hiddenSize: undefined }, /^config: hiddenSize is nothing, expected an integer/],
    [{ headDim: 3 }, /^config: headDim is 3/],
    [{ numKeyValueHeads: 3 }, /^config: numKeyValueHeads is 3/],
    [{ ropeScaling: { type: 'linear', factor: 0 } }, /^config: ropeScaling.factor is 0/],
    [{ extra: 3 }, /^config: extra is 3/],
  ])('refuses %j', (changes, problem) => {
    expect(() => normalizeConfig({ ...input, ...changes } as LlamaConfigInput)).toThrow(refusal(problem))
  })
})

describe('readLlamaConfig', () => {
  let folder: string
  const write = (name: string, json: unknown) => {
    writeFileSync(join(folder, name), typeof json === 'string' ? json : JSON.stringify(json))
  }
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'alma-config-'))
  })
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  it('reads config.json alone', async () => {
    write('config.json', { ...small, use_cache: true })
    expect(await readLlamaConfig(folder)).toEqual(parse({ use_cache: true }))
  })

  it('stops at what generation_config.json says', async () => {
    write('config.json', { ...small, bos_token_id: 9, eos_token_id: 9, use_cache: true })
    write('generation_config.json', { bos_token_id: 1, eos_token_id: [3, 4], pad_token_id: 0, temperature: 0.6 })
    const expected = parse({ bos_token_id: 9, eos_token_id: [3, 4], pad_token_id: 0, use_cache: true })
    expect(await readLlamaConfig(folder)).toEqual(expected)
    write('generation_config.json', { eos_token_id: null })
    expect((await readLlamaConfig(folder)).eosTokenIds).toEqual([9])
  })

  it('names the file at fault', async () => {
    await expect(readLlamaConfig(folder)).rejects.toEqual(refusal(/config.json: no such file/))
    await expect(readLlamaConfig(join(folder, 'none'))).rejects.toEqual(refusal(/none\/config.json: no such file/))
    write('config.json', '{"vocab_size": 3')
    await expect(readLlamaConfig(folder)).rejects.toEqual(refusal(/\/config.json: not JSON/))
    write('config.json', small)
    write('generation_config.json', { eos_token_id: 999 })
    await expect(readLlamaConfig(folder)).rejects.toEqual(refusal(/generation_config.json: eos_token_id is 999/))
    write('generation_config.json', '[]')
    await expect(readLlamaConfig(folder)).rejects.toEqual(refusal(/generation_config.json: the content is \[\]/))
  })
})

describe('llamaParameterShapes', () => {
  it('lists every parameter in order', () => {
    const config = parse({ num_hidden_layers: 1, num_key_value_heads: 2, head_dim: 8 })
    expect([...llamaParameterShapes(config)]).toEqual([
      ['model.embed_tokens.weight', [256, 64]],
      ['model.layers.0.input_layernorm.weight', [64]],
      ['model.layers.0.self_attn.q_proj.weight', [32, 64]],
      ['model.layers.0.self_attn.k_proj.weight', [16, 64]],
      ['model.layers.0.self_attn.v_proj.weight', [16, 64]],
      ['model.layers.0.self_attn.o_proj.weight', [64, 32]],
      ['model.layers.0.post_attention_layernorm.weight', [64]],
      ['model.layers.0.mlp.gate_proj.weight', [172, 64]],
      ['model.layers.0.mlp.up_proj.weight', [172, 64]],
      ['model.layers.0.mlp.down_proj.weight', [64, 172]],
      ['model.norm.weight', [64]],
      ['lm_head.weight', [256, 64]],
    ])
    expect(llamaParameterShapes({ ...config, tieWordEmbeddings: true }).has('lm_head.weight')).toBe(false)
  })

  it.each(fixtureCases('model'))('$name: agrees with the stored tensors', async ({ folder }) => {
    const shapes = llamaParameterShapes(await readLlamaConfig(folder))
    const stored = loadTensors(join(folder, 'model.safetensors'))
    expect(Object.fromEntries(shapes)).toEqual(
      Object.fromEntries([...stored].map(([name, { shape }]) => [name, shape])),
    )
  })
})

describe('ropeInverseFrequencies', () => {
  it('is theta^(-2i/d), divided by a linear factor', () => {
    const config = { headDim: 4, ropeTheta: 10000, ropeScaling: undefined }
    expect([...ropeInverseFrequencies(config)]).toEqual([1, 0.01])
    expect([...ropeInverseFrequencies({ ...config, ropeScaling: { type: 'linear', factor: 4 } })]).toEqual([
      0.25, 0.0025,
    ])
  })

  const folder = fixtureFolder('ops/rope')
  const listing = folder === undefined ? '' : join(folder, 'cases.json')
  const cases: { name: string; file: string; params: Record<string, unknown> }[] = existsSync(listing)
    ? JSON.parse(readFileSync(listing, 'utf8')).cases
    : []
  if (cases.length === 0) it.skip('fixtures of the kind ops/rope are absent', () => {})
  it.each(cases)('agrees with the fixture $name', ({ file, params }) => {
    const config = parse({
      head_dim: params.head_dim,
      rope_theta: params.rope_theta,
      rope_scaling: params.rope_scaling,
    })
    const expected = loadTensors(join(String(folder), file)).get('out.inv_freq')?.data ?? []
    const found = ropeInverseFrequencies(config)
    expect(found).toHaveLength(expected.length)
    // The fixture is rounded to float32: half a unit in the last place, 2^-24, and a little for float64.
    for (const [i, value] of expected.entries()) expect(Math.abs((found[i] ?? 0) / value - 1)).toBeLessThan(6.1e-8)
  })
})
