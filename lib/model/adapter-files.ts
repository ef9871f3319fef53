/** LoRA adapters as PEFT keeps them: adapter_config.json and adapter_model.safetensors in a folder. */
import { join } from 'node:path'
import { AlmaError } from '../errors.js'
import { describe, isArrayOf, isObject, isString, readJsonFile } from '../files/json.js'
import { finishInterruptedReplace, replaceFiles } from '../files/replace-files.js'
import { type Device, type DType, ops, type StorageDType, Tensor } from '../runtime/index.js'
import { type BaseSample, firstDifference, sampleBase } from './base-sample.js'
import type { LlamaForCausalLM } from './llama.js'
import { LoraAdapter, type LoraConfig, type LoraPair, loraModules, loraTargets, pairOf, peftName } from './lora.js'
import { readSafetensorsHeader, type SafetensorsHeader, writeSafetensorsTo } from './safetensors.js'
import { bytesOf } from './save.js'

export const adapterConfigName = 'adapter_config.json'
const weightsName = 'adapter_model.safetensors'
/** Of the file's metadata, which PEFT does not read: a {@link BaseSample} as JSON. */
const sampleKey = 'base_model_sample'
const storage: Readonly<Record<string, StorageDType>> = { F32: 'f32', F16: 'f16', BF16: 'bf16' }

/** Fields that change what an adapter computes and are not supported, with the values under which they change nothing. */
const mustBe: Readonly<Record<string, readonly unknown[]>> = {
  bias: ['none', null, undefined],
  use_dora: [false, null, undefined],
  fan_in_fan_out: [false, null, undefined],
  lora_bias: [false, null, undefined],
  modules_to_save: [null, undefined],
}

function refuse(path: string, what: string): AlmaError {
  return new AlmaError('ERR_ALMA_ADAPTER', `${path}: ${what}`)
}

export interface AdapterFileConfig extends LoraConfig {
  /** `base_model_name_or_path`. */
  readonly baseModel?: string
}

/** @throws AlmaError ERR_ALMA_ADAPTER naming the file and the field, ERR_ALMA_IO */
export async function readAdapterConfig(directory: string): Promise<AdapterFileConfig> {
  await finishInterruptedReplace(directory).catch(() => false)
  const path = join(directory, adapterConfigName)
  const json = await readJsonFile(path, 'ERR_ALMA_ADAPTER')
  if (json === undefined) throw refuse(path, 'no such file; expected the folder of a LoRA adapter (PEFT)')
  if (!isObject(json)) throw refuse(path, `is ${describe(json)}, expected an object`)
  if (json.peft_type !== 'LORA') throw refuse(path, `peft_type is ${describe(json.peft_type)}, expected "LORA"`)
  for (const [field, allowed] of Object.entries(mustBe)) {
    if (!allowed.includes(json[field])) {
      throw refuse(
        path,
        `${field} is ${describe(json[field])}, which is not supported; expected ${describe(allowed[0])}`,
      )
    }
  }
  for (const field of ['rank_pattern', 'alpha_pattern']) {
    const pattern = json[field]
    if (pattern !== undefined && pattern !== null && !(isObject(pattern) && Object.keys(pattern).length === 0)) {
      throw refuse(path, `${field} is ${describe(pattern)}, which is not supported; expected it to be empty`)
    }
  }
  const {
    r,
    lora_alpha: alpha,
    lora_dropout: dropout = 0,
    use_rslora: useRslora = false,
    target_modules: targets,
  } = json
  if (!Number.isSafeInteger(r) || (r as number) < 1)
    throw refuse(path, `r is ${describe(r)}, expected a positive integer`)
  if (typeof alpha !== 'number' || !Number.isFinite(alpha)) {
    throw refuse(path, `lora_alpha is ${describe(alpha)}, expected a number`)
  }
  if (typeof dropout !== 'number' || !(dropout >= 0 && dropout < 1)) {
    throw refuse(path, `lora_dropout is ${describe(dropout)}, expected a number from 0 to below 1`)
  }
  if (typeof useRslora !== 'boolean') throw refuse(path, `use_rslora is ${describe(useRslora)}, expected true or false`)
  if (targets !== 'all-linear' && !isArrayOf(targets, isString)) {
    throw refuse(path, `target_modules is ${describe(targets)}, expected a list of names or "all-linear"`)
  }
  const { base_model_name_or_path: baseModel } = json
  const lora: LoraConfig = { rank: r as number, alpha, dropout, useRslora, targetModules: targets }
  return isString(baseModel) && baseModel !== '' ? { ...lora, baseModel } : lora
}

/**
 * Loads an adapter for a base model, in the dtype of its activations. Every module that it changes must be in the model, with the same
 * extents, and every layer must have what one has. Where the adapter was saved by this library, a sample of its base model's weights is
 * in the file and must be as this one's.
 *
 * @throws AlmaError ERR_ALMA_ADAPTER naming the file and what differs, ERR_ALMA_CHECKPOINT for a damaged safetensors file,
 *   ERR_ALMA_IO, ERR_ALMA_OUT_OF_MEMORY
 */
export async function loadAdapter(base: LlamaForCausalLM, directory: string): Promise<LoraAdapter> {
  const { baseModel: _, ...config } = await readAdapterConfig(directory)
  const path = join(directory, weightsName)
  const header = await readSafetensorsHeader(path)
  const modules = loraModules(base.config, { targetModules: 'all-linear' })
  requireFit(path, header, modules, config)
  await requireSameBase(header, base)
  const pairs = new Map<string, LoraPair>()
  const part = (name: string): Promise<Tensor> => loadPart(base.device, header, name, base.activationDtype)
  try {
    let index = 0
    for (const module of modules.keys()) {
      if (header.tensors.has(peftName(module, 'A'))) {
        const a = await part(peftName(module, 'A'))
        try {
          pairs.set(module, pairOf(module, config, index, [a, await part(peftName(module, 'B'))]))
        } catch (error) {
          a.dispose()
          throw error
        }
      }
      index++
    }
  } catch (error) {
    new LoraAdapter(config, pairs).dispose()
    throw error
  }
  return new LoraAdapter(config, pairs)
}

/** Whether an adapter's file has a sample of its base model, by which another one is told from it. @throws AlmaError as loadAdapter */
export async function describesBase(directory: string): Promise<boolean> {
  return (await readSafetensorsHeader(join(directory, weightsName))).metadata.has(sampleKey)
}

async function requireSameBase({ path, metadata }: SafetensorsHeader, base: LlamaForCausalLM): Promise<void> {
  const stored = metadata.get(sampleKey)
  if (stored === undefined) return
  const sample = parseSample(stored)
  if (sample === undefined) throw refuse(path, `${sampleKey} is damaged, expected numbers by the names of parameters`)
  const name = firstDifference(sample, await sampleBase(base))
  if (name === undefined) return
  throw refuse(
    path,
    `${describe(name)} of this model has other values than in the model that the adapter was trained on; ` +
      'the adapter is for another base model',
  )
}

function parseSample(text: string): BaseSample | undefined {
  try {
    const value: unknown = JSON.parse(text)
    const isNumber = (x: unknown): x is number => typeof x === 'number'
    return isObject(value) && Object.values(value).every((list) => isArrayOf(list, isNumber))
      ? (value as BaseSample)
      : undefined
  } catch {
    return undefined
  }
}

function requireFit(
  path: string,
  { tensors }: SafetensorsHeader,
  modules: ReadonlyMap<string, readonly [number, number]>,
  { rank }: LoraConfig,
): void {
  const expected = new Map<string, string>()
  for (const [module, [out, inner]] of modules) {
    expected.set(peftName(module, 'A'), `[${rank}, ${inner}]`)
    expected.set(peftName(module, 'B'), `[${out}, ${rank}]`)
  }
  for (const [name, { dtype, shape }] of tensors) {
    const wanted = expected.get(name)
    if (wanted === undefined) {
      throw refuse(path, `${describe(name)} is not a LoRA tensor of this model; the adapter is for another base model`)
    }
    const found = `[${shape.join(', ')}]`
    if (found !== wanted) {
      throw refuse(path, `${name} is ${found}, expected ${wanted}; the adapter is for another base model or rank`)
    }
    if (storage[dtype] === undefined) throw refuse(path, `${name} is ${dtype}, expected F32, F16 or BF16`)
    const other = name.includes('.lora_A.')
      ? name.replace('.lora_A.', '.lora_B.')
      : name.replace('.lora_B.', '.lora_A.')
    if (!tensors.has(other)) throw refuse(path, `has ${name} but not ${other}`)
  }
  if (tensors.size === 0) throw refuse(path, 'has no tensors')
  for (const target of loraTargets) {
    const names = [...modules.keys()].filter((module) => module.endsWith(`.${target}`))
    const missing = names.find((module) => !tensors.has(peftName(module, 'A')))
    if (missing === undefined || names.every((module) => !tensors.has(peftName(module, 'A')))) continue
    throw refuse(path, `has no update of ${missing}, but of other layers; the adapter is for another base model`)
  }
}

async function loadPart(device: Device, header: SafetensorsHeader, name: string, as: DType): Promise<Tensor> {
  const info = header.tensors.get(name)
  const dtype = info === undefined ? undefined : storage[info.dtype]
  if (info === undefined || dtype === undefined) throw refuse(header.path, `no tensor ${name}`)
  const tensor = Tensor.empty(device, info.shape, as)
  try {
    await tensor.loadFile(header.path, info.byteOffset, dtype)
    using counter = Tensor.zeros(device, [1], 'i32')
    const [bad = 0] = await ops.countNonFinite(tensor, counter).readInts()
    if (bad > 0) throw refuse(header.path, `${name} has ${bad} elements that are NaN or infinite, expected none`)
    return tensor
  } catch (error) {
    tensor.dispose()
    throw error
  }
}

export interface SaveAdapterOptions {
  /** What PEFT looks the base model up by: a name on the hub, or a folder. */
  readonly baseModel?: string
  /** The base model itself: a sample of its weights goes into the file, so that the adapter is not taken for another one's. */
  readonly base?: LlamaForCausalLM
}

/** Writes an adapter so that PEFT and {@link loadAdapter} read it; an older adapter stays whole until this one is. @throws AlmaError ERR_ALMA_IO */
export async function saveAdapter(
  adapter: LoraAdapter,
  directory: string,
  options: SaveAdapterOptions = {},
): Promise<void> {
  const { rank, alpha, dropout, useRslora } = adapter.config
  const used = loraTargets.filter((target) => [...adapter.pairs.keys()].some((module) => module.endsWith(`.${target}`)))
  const config = {
    alpha_pattern: {},
    auto_mapping: null,
    base_model_name_or_path: options.baseModel ?? null,
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    layers_pattern: null,
    layers_to_transform: null,
    lora_alpha: alpha,
    lora_dropout: dropout,
    modules_to_save: null,
    peft_type: 'LORA',
    r: rank,
    rank_pattern: {},
    revision: null,
    target_modules: used,
    task_type: 'CAUSAL_LM',
    use_dora: false,
    use_rslora: useRslora,
  }
  const tensors = [...adapter.parameters()].map(({ name, tensor }) => ({
    name,
    dtype: 'F32' as const,
    shape: tensor.shape,
    data: () => bytesOf(tensor, 'f32'),
  }))
  const metadata = {
    format: 'pt',
    ...(options.base !== undefined && { [sampleKey]: JSON.stringify(await sampleBase(options.base)) }),
  }
  const path = join(directory, weightsName)
  await replaceFiles(directory, [
    { name: weightsName, content: (handle) => writeSafetensorsTo(handle, tensors, path, metadata) },
    { name: adapterConfigName, content: `${JSON.stringify(config, null, 2)}\n` },
  ])
}
