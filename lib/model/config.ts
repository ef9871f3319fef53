/** The hyper-parameters of a LLaMA model: `config.json` in and out, and what follows from them (shapes, frequencies). */
import { join } from 'node:path'
import { AlmaError } from '../errors.js'
import { describe, isObject, readJsonFile } from '../files/json.js'
import { finishInterruptedReplace } from '../files/replace-files.js'

export type RopeScaling =
  | {
      readonly type: 'llama3'
      readonly factor: number
      readonly lowFreqFactor: number
      readonly highFreqFactor: number
      /** Tokens. */
      readonly originalMaxPositionEmbeddings: number
    }
  | { readonly type: 'linear'; readonly factor: number }

export type TorchDtype = 'float32' | 'float16' | 'bfloat16'

/** Names are those of Hugging Face's `LlamaConfig`, in camelCase. */
export interface LlamaConfig {
  /** Tokens. */
  readonly vocabSize: number
  readonly hiddenSize: number
  /** Width of the feed-forward layers. */
  readonly intermediateSize: number
  readonly numHiddenLayers: number
  readonly numAttentionHeads: number
  /** Divides `numAttentionHeads`: fewer is grouped-query attention, 1 is multi-query attention. */
  readonly numKeyValueHeads: number
  /** Width of one head; `numAttentionHeads × headDim` need not be `hiddenSize`. */
  readonly headDim: number
  /** Longest context, tokens. */
  readonly maxPositionEmbeddings: number
  readonly rmsNormEps: number
  readonly ropeTheta: number
  readonly ropeScaling: RopeScaling | undefined
  /** Whether the output layer is the embedding matrix. */
  readonly tieWordEmbeddings: boolean
  readonly bosTokenId: number | undefined
  /** Any of them ends a text. */
  readonly eosTokenIds: readonly number[]
  readonly padTokenId: number | undefined
  /** Standard deviation of random weights. */
  readonly initializerRange: number
  /** What the weights were saved as; says nothing about how they are computed with. */
  readonly torchDtype: TorchDtype | undefined
  /** The other keys of the config.json that was read, for saving them again. */
  readonly extra: Readonly<Record<string, unknown>>
}

/** A config given in code: the rest has defaults. `eosTokenId` may stand for `eosTokenIds`. */
export type LlamaConfigInput = Pick<
  LlamaConfig,
  'vocabSize' | 'hiddenSize' | 'numHiddenLayers' | 'numAttentionHeads'
> & { readonly [Field in keyof LlamaConfig]?: LlamaConfig[Field] | undefined } & {
  readonly eosTokenId?: number | readonly number[] | undefined
}

/** Field of {@link LlamaConfig} to key of config.json; `ropeScaling` and `extra` have their own code. */
const keys = {
  vocabSize: 'vocab_size',
  hiddenSize: 'hidden_size',
  intermediateSize: 'intermediate_size',
  numHiddenLayers: 'num_hidden_layers',
  numAttentionHeads: 'num_attention_heads',
  numKeyValueHeads: 'num_key_value_heads',
  headDim: 'head_dim',
  maxPositionEmbeddings: 'max_position_embeddings',
  rmsNormEps: 'rms_norm_eps',
  ropeTheta: 'rope_theta',
  tieWordEmbeddings: 'tie_word_embeddings',
  bosTokenId: 'bos_token_id',
  eosTokenIds: 'eos_token_id',
  padTokenId: 'pad_token_id',
  initializerRange: 'initializer_range',
  torchDtype: 'torch_dtype',
} as const

type Field = keyof typeof keys

const ropeKeys = {
  factor: 'factor',
  lowFreqFactor: 'low_freq_factor',
  highFreqFactor: 'high_freq_factor',
  originalMaxPositionEmbeddings: 'original_max_position_embeddings',
} as const

/** Keys of config.json that are read or written here, beyond `keys`. */
const otherKeys = new Set([
  'architectures',
  'model_type',
  'hidden_act',
  'attention_bias',
  'mlp_bias',
  'rope_scaling',
  'rope_parameters',
  'dtype',
  'max_sequence_length',
  'quantization_config',
])

/** Generous bounds, an order of magnitude above the largest LLaMA: a hostile file must not make us allocate the world. */
const largest = {
  vocabSize: 2 ** 22,
  hiddenSize: 2 ** 17,
  intermediateSize: 2 ** 20,
  numHiddenLayers: 2048,
  numAttentionHeads: 4096,
  headDim: 2048,
  maxPositionEmbeddings: 2 ** 24,
} as const

/** Unvalidated values by field, and how messages call file and field. */
interface Source {
  readonly where: string
  readonly spelling: 'json' | 'code'
  readonly values: ReadonlyMap<string, unknown>
  readonly rope: unknown
  readonly extra: Readonly<Record<string, unknown>>
}

function fail(source: Pick<Source, 'where'>, field: string, found: unknown, expected: string): never {
  throw new AlmaError('ERR_ALMA_CONFIG', `${source.where}: ${field} is ${describe(found)}, expected ${expected}`)
}

/**
 * Validates the content of a Hugging Face `config.json`: of LLaMA 1, 2 or 3, of transformers 4 (`rope_theta`, `rope_scaling`)
 * or 5 (`rope_parameters`).
 *
 * @param file begins the error messages.
 * @throws AlmaError ERR_ALMA_CONFIG naming file, field, what was found and what was expected.
 */
export function parseLlamaConfig(json: unknown, file: string): LlamaConfig {
  const at = { where: file }
  if (!isObject(json)) fail(at, 'the content', json, 'an object')
  const expect = (key: string, accepted: readonly unknown[]) => {
    const value = json[key]
    if (value !== undefined && !accepted.includes(value)) fail(at, key, value, accepted.map(describe).join(' or '))
  }
  if (json.model_type === undefined) fail(at, 'model_type', undefined, '"llama"')
  expect('model_type', ['llama'])
  expect('hidden_act', ['silu'])
  expect('attention_bias', [false, null])
  expect('mlp_bias', [false, null])
  if (json.quantization_config != null) {
    fail(at, 'quantization_config', json.quantization_config, 'none: quantized weights are not supported')
  }

  const newRope = json.rope_parameters
  if (newRope != null && !isObject(newRope)) fail(at, 'rope_parameters', newRope, 'an object')
  const partial = (isObject(newRope) ? newRope.partial_rotary_factor : undefined) ?? json.partial_rotary_factor
  if (partial != null && partial !== 1) fail(at, 'partial_rotary_factor', partial, '1')

  const values = new Map<string, unknown>()
  for (const [field, key] of Object.entries(keys)) values.set(field, json[key])
  values.set('ropeTheta', (isObject(newRope) ? newRope.rope_theta : undefined) ?? json.rope_theta)
  values.set('torchDtype', json.torch_dtype ?? json.dtype)
  // The name in the first conversions of LLaMA 1.
  values.set('maxPositionEmbeddings', json.max_position_embeddings ?? json.max_sequence_length)
  // -1 in those conversions means none.
  if (json.pad_token_id === -1) values.set('padTokenId', null)
  if (json.bos_token_id === -1) values.set('bosTokenId', null)

  const known = new Set<string>(Object.values(keys))
  const extra = Object.entries(json).filter(([key]) => !known.has(key) && !otherKeys.has(key))
  return validate({
    where: file,
    spelling: 'json',
    values,
    rope: newRope ?? json.rope_scaling,
    extra: Object.fromEntries(extra),
  })
}

/**
 * Completes a config given in code: `intermediateSize` by Meta's rule (8/3 of hiddenSize, rounded up to 256), the rest as
 * Hugging Face's `LlamaConfig` defaults.
 *
 * @throws AlmaError ERR_ALMA_CONFIG naming the field, what was found and what was expected.
 */
export function normalizeConfig(input: LlamaConfigInput): LlamaConfig {
  const at = { where: 'config' }
  if (!isObject(input)) fail(at, 'it', input, 'an object')
  for (const key of Object.keys(input)) {
    if (Object.hasOwn(keys, key) || key === 'ropeScaling' || key === 'extra' || key === 'eosTokenId') continue
    const match = Object.entries(keys).find(([, spelled]) => spelled === key)
    const hint = match === undefined ? `the fields are ${Object.keys(keys).join(', ')}` : `did you mean ${match[0]}?`
    throw new AlmaError('ERR_ALMA_CONFIG', `config: unknown field ${describe(key)}; ${hint}`)
  }
  const { eosTokenId, eosTokenIds = eosTokenId, hiddenSize, extra = {} } = input
  if (!isObject(extra)) fail(at, 'extra', extra, 'an object')
  const values = new Map<string, unknown>(Object.entries(input))
  values.set('eosTokenIds', eosTokenIds)
  values.set('intermediateSize', input.intermediateSize ?? 256 * Math.ceil((8 * hiddenSize) / 3 / 256))
  return validate({ where: 'config', spelling: 'code', values, rope: input.ropeScaling, extra })
}

function validate(source: Source): LlamaConfig {
  const name = (field: Field) => (source.spelling === 'json' ? keys[field] : field)
  // In JSON, null is how Python writes "not set".
  const value = (field: Field, byDefault?: unknown) => source.values.get(field) ?? byDefault

  const integer = (field: Field, most: number, byDefault?: number): number => {
    const found = value(field, byDefault)
    if (isIntegerWithin(found, 1, most)) return found
    return fail(source, name(field), found, `an integer from 1 to ${most}`)
  }
  const positive = (field: Field, below: number, byDefault: number): number => {
    const found = value(field, byDefault)
    if (typeof found === 'number' && found > 0 && found < below) return found
    return fail(source, name(field), found, `a number above 0 and below ${below}`)
  }

  const vocabSize = integer('vocabSize', largest.vocabSize)
  const hiddenSize = integer('hiddenSize', largest.hiddenSize)
  const intermediateSize = integer('intermediateSize', largest.intermediateSize)
  const numHiddenLayers = integer('numHiddenLayers', largest.numHiddenLayers)
  const numAttentionHeads = integer('numAttentionHeads', largest.numAttentionHeads)
  const numKeyValueHeads = integer('numKeyValueHeads', largest.numAttentionHeads, numAttentionHeads)
  if (numAttentionHeads % numKeyValueHeads !== 0) {
    fail(source, name('numKeyValueHeads'), numKeyValueHeads, `a divisor of the ${numAttentionHeads} attention heads`)
  }
  if (value('headDim') === undefined && hiddenSize % numAttentionHeads !== 0) {
    fail(source, name('hiddenSize'), hiddenSize, `a multiple of the ${numAttentionHeads} attention heads`)
  }
  const headDim = integer('headDim', largest.headDim, hiddenSize / numAttentionHeads)
  if (headDim % 2 !== 0) fail(source, name('headDim'), headDim, 'an even number: rotary embeddings turn pairs')

  const tokenId = (field: Field, found: unknown): number => {
    if (isIntegerWithin(found, 0, vocabSize - 1)) return found
    return fail(source, name(field), found, `a token id from 0 to ${vocabSize - 1}`)
  }
  const optionalTokenId = (field: 'bosTokenId' | 'padTokenId', byDefault?: number) => {
    const found = source.values.get(field)
    if (found === null) return undefined
    // A default that a small vocabulary does not have is none.
    if (found === undefined) return byDefault !== undefined && byDefault < vocabSize ? byDefault : undefined
    return tokenId(field, found)
  }
  const eos = source.values.get('eosTokenIds')
  const eosTokenIds = (eos === undefined ? [2].filter((id) => id < vocabSize) : eos === null ? [] : [eos].flat()).map(
    (id) => tokenId('eosTokenIds', id),
  )

  const tieWordEmbeddings = value('tieWordEmbeddings', false)
  if (typeof tieWordEmbeddings !== 'boolean') fail(source, name('tieWordEmbeddings'), tieWordEmbeddings, 'a boolean')
  const torchDtype = value('torchDtype')
  if (torchDtype !== undefined && !isTorchDtype(torchDtype)) {
    fail(source, name('torchDtype'), torchDtype, '"float32", "float16" or "bfloat16"')
  }
  return {
    vocabSize,
    hiddenSize,
    intermediateSize,
    numHiddenLayers,
    numAttentionHeads,
    numKeyValueHeads,
    headDim,
    maxPositionEmbeddings: integer('maxPositionEmbeddings', largest.maxPositionEmbeddings, 2048),
    rmsNormEps: positive('rmsNormEps', 1, 1e-6),
    ropeTheta: positive('ropeTheta', 1e15, 10_000),
    ropeScaling: validateRopeScaling(source),
    tieWordEmbeddings,
    bosTokenId: optionalTokenId('bosTokenId', 1),
    eosTokenIds,
    padTokenId: optionalTokenId('padTokenId'),
    initializerRange: positive('initializerRange', 100, 0.02),
    torchDtype,
    extra: source.extra,
  }
}

function validateRopeScaling(source: Source): RopeScaling | undefined {
  const { rope, spelling } = source
  if (rope === undefined || rope === null) return undefined
  const prefix = spelling === 'json' ? 'rope_scaling' : 'ropeScaling'
  if (!isObject(rope)) fail(source, prefix, rope, 'an object')
  const type = rope[spelling === 'json' ? 'rope_type' : 'ropeType'] ?? rope.type ?? 'default'
  const read = (field: keyof typeof ropeKeys, least: number, most: number): number => {
    const key = spelling === 'json' ? ropeKeys[field] : field
    const found = rope[key]
    if (typeof found === 'number' && found >= least && found <= most) return found
    return fail(source, `${prefix}.${key}`, found, `a number from ${least} to ${most}`)
  }
  if (type === 'default') return undefined
  if (type === 'linear') return { type, factor: read('factor', 1, 1e6) }
  if (type !== 'llama3') fail(source, `${prefix}.rope_type`, type, '"default", "linear" or "llama3"')
  const lowFreqFactor = read('lowFreqFactor', 1e-6, 1e6)
  const highFreqFactor = read('highFreqFactor', 1e-6, 1e6)
  if (highFreqFactor <= lowFreqFactor) {
    fail(source, `${prefix}.high_freq_factor`, highFreqFactor, `more than low_freq_factor, which is ${lowFreqFactor}`)
  }
  const factor = read('factor', 1, 1e6)
  const originalMaxPositionEmbeddings = read('originalMaxPositionEmbeddings', 1, largest.maxPositionEmbeddings)
  return { type, factor, lowFreqFactor, highFreqFactor, originalMaxPositionEmbeddings }
}

function isIntegerWithin(value: unknown, least: number, most: number): value is number {
  return Number.isInteger(value) && (value as number) >= least && (value as number) <= most
}

function isTorchDtype(value: unknown): value is TorchDtype {
  return value === 'float32' || value === 'float16' || value === 'bfloat16'
}

/**
 * Reads `config.json` of a model folder, and `generation_config.json` if it is there: its `eos_token_id` is what generation
 * stops at in Hugging Face, so it replaces the one of config.json; other ids are taken from it where config.json has none.
 *
 * @throws AlmaError ERR_ALMA_CONFIG naming file and field.
 */
export async function readLlamaConfig(directory: string): Promise<LlamaConfig> {
  await finishInterruptedReplace(directory)
  const file = join(directory, 'config.json')
  const json = await readJsonFile(file, 'ERR_ALMA_CONFIG')
  if (json === undefined) {
    throw new AlmaError(
      'ERR_ALMA_CONFIG',
      `${file}: no such file; expected a folder with a model in Hugging Face layout`,
    )
  }
  const config = parseLlamaConfig(json, file)
  const generationFile = join(directory, 'generation_config.json')
  const generation = await readJsonFile(generationFile, 'ERR_ALMA_CONFIG')
  if (generation === undefined) return config
  if (!isObject(generation)) fail({ where: generationFile }, 'the content', generation, 'an object')
  const { bos_token_id: bos, pad_token_id: pad, eos_token_id: eos } = generation
  const ids: Record<string, unknown> = {}
  if (eos != null) ids.eos_token_id = eos
  if (bos != null && config.bosTokenId === undefined) ids.bos_token_id = bos
  if (pad != null && config.padTokenId === undefined) ids.pad_token_id = pad
  return { ...parseLlamaConfig({ ...llamaConfigToJson(config), ...ids }, generationFile), extra: config.extra }
}

/** The config in Hugging Face's spelling (that of transformers 4, which 5 reads too), with the keys of `extra`. */
export function llamaConfigToJson(config: LlamaConfig): Record<string, unknown> {
  const { eosTokenIds, ropeScaling } = config
  const json: Record<string, unknown> = {
    ...config.extra,
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_act: 'silu',
    attention_bias: false,
    mlp_bias: false,
  }
  for (const [field, key] of Object.entries(keys) as [Field, string][]) json[key] = config[field] ?? null
  json.eos_token_id = eosTokenIds.length > 1 ? eosTokenIds : (eosTokenIds[0] ?? null)
  if (config.torchDtype === undefined) delete json.torch_dtype
  json.rope_scaling = ropeScaling === undefined ? null : ropeScalingToJson(ropeScaling)
  return json
}

function ropeScalingToJson(scaling: RopeScaling): Record<string, unknown> {
  const { type, ...numbers } = scaling
  const entries = Object.entries(numbers) as [keyof typeof ropeKeys, number][]
  return { rope_type: type, ...Object.fromEntries(entries.map(([field, value]) => [ropeKeys[field], value])) }
}

/**
 * Rotary frequencies, radians a position, `[headDim / 2]`: element i turns the pair (i, i + headDim / 2) of a head.
 * Source: `ROPE_INIT_FUNCTIONS` of transformers (`_compute_default_rope_parameters`, `_compute_linear_scaling_…`,
 * `_compute_llama3_parameters`), in float64.
 */
export function ropeInverseFrequencies(
  config: Pick<LlamaConfig, 'headDim' | 'ropeTheta' | 'ropeScaling'>,
): Float64Array {
  const { headDim, ropeTheta, ropeScaling } = config
  const frequencies = Float64Array.from({ length: headDim / 2 }, (_, i) => ropeTheta ** ((-2 * i) / headDim))
  if (ropeScaling === undefined) return frequencies
  if (ropeScaling.type === 'linear') return frequencies.map((frequency) => frequency / ropeScaling.factor)
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositionEmbeddings: context } = ropeScaling
  return frequencies.map((frequency) => {
    // Turns within the context that the model was pretrained with.
    const turns = (context * frequency) / (2 * Math.PI)
    if (turns > highFreqFactor) return frequency
    if (turns < lowFreqFactor) return frequency / factor
    const smooth = (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor)
    return (1 - smooth) * (frequency / factor) + smooth * frequency
  })
}

/** Every parameter of the model by its name in the safetensors files, in the order of Hugging Face's modules. */
export function llamaParameterShapes(config: LlamaConfig): Map<string, readonly number[]> {
  const { vocabSize, hiddenSize, intermediateSize, headDim } = config
  const queries = config.numAttentionHeads * headDim
  const keysOrValues = config.numKeyValueHeads * headDim
  const shapes = new Map<string, readonly number[]>([['model.embed_tokens.weight', [vocabSize, hiddenSize]]])
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const prefix = `model.layers.${layer}`
    shapes.set(`${prefix}.input_layernorm.weight`, [hiddenSize])
    shapes.set(`${prefix}.self_attn.q_proj.weight`, [queries, hiddenSize])
    shapes.set(`${prefix}.self_attn.k_proj.weight`, [keysOrValues, hiddenSize])
    shapes.set(`${prefix}.self_attn.v_proj.weight`, [keysOrValues, hiddenSize])
    shapes.set(`${prefix}.self_attn.o_proj.weight`, [hiddenSize, queries])
    shapes.set(`${prefix}.post_attention_layernorm.weight`, [hiddenSize])
    shapes.set(`${prefix}.mlp.gate_proj.weight`, [intermediateSize, hiddenSize])
    shapes.set(`${prefix}.mlp.up_proj.weight`, [intermediateSize, hiddenSize])
    shapes.set(`${prefix}.mlp.down_proj.weight`, [hiddenSize, intermediateSize])
  }
  shapes.set('model.norm.weight', [hiddenSize])
  if (!config.tieWordEmbeddings) shapes.set('lm_head.weight', [vocabSize, hiddenSize])
  return shapes
}
