/** The weights of a model folder in Hugging Face layout: `model.safetensors`, or an index and its shards. In and out. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { AlmaError, ioError } from '../errors.js'
import { describe, isObject, isPlainFileName, readJsonFile } from '../files/json.js'
import { finishInterruptedReplace, type NewFile, replaceFiles } from '../files/replace-files.js'
import { type LlamaConfig, llamaParameterShapes } from './config.js'
import {
  readSafetensorsHeader,
  type SafetensorsDtype,
  type SafetensorsTensor,
  type SafetensorsTensorInfo,
  tensorByteLength,
  writeSafetensorsTo,
} from './safetensors.js'

const singleName = 'model.safetensors'
const indexName = 'model.safetensors.index.json'

/** More than any model has, few enough that a hostile index cannot keep us opening files. */
const maxShards = 4096

export type WeightDtype = Extract<SafetensorsDtype, 'F32' | 'F16' | 'BF16'>

export interface WeightEntry {
  /** Path of the safetensors file. */
  readonly file: string
  readonly dtype: WeightDtype
  readonly shape: readonly number[]
  /** Counted from the beginning of the file. */
  readonly byteOffset: number
  readonly byteLength: number
}

export interface WeightFiles {
  /** Exactly the parameters of `llamaParameterShapes(config)`, in its order. */
  readonly entries: ReadonlyMap<string, WeightEntry>
  readonly layout: 'single' | 'sharded'
  /** Paths of the safetensors files. */
  readonly shards: readonly string[]
  /** Of all entries as they are stored. */
  readonly totalBytes: number
  /** What was ignored, a sentence each. */
  readonly warnings: readonly string[]
}

interface StoredTensor extends SafetensorsTensorInfo {
  readonly file: string
}

function damaged(path: string, problem: string): AlmaError {
  return new AlmaError('ERR_ALMA_CHECKPOINT', `${path}: ${problem}`)
}

/**
 * Finds every parameter of the model in a folder and verifies names, shapes and dtypes; reads headers only.
 *
 * @throws AlmaError ERR_ALMA_CHECKPOINT naming the file and the tensor, with what was found and what was expected;
 *   ERR_ALMA_IO when a file cannot be read.
 */
export async function openWeights(directory: string, config: LlamaConfig): Promise<WeightFiles> {
  await finishInterruptedReplace(directory)
  const names = await listFolder(directory)
  const warnings: string[] = []
  const layout = names.includes(singleName) ? 'single' : 'sharded'
  if (layout === 'sharded' && !names.includes(indexName)) throw damaged(directory, noWeights(names))
  if (layout === 'single' && names.includes(indexName)) {
    warnings.push(`${join(directory, indexName)} was ignored, as ${singleName} is there too`)
  }

  const shards = layout === 'single' ? [join(directory, singleName)] : []
  const stored = new Map<string, StoredTensor>()
  if (layout === 'sharded') await readShards(directory, stored, shards)
  for (const file of layout === 'single' ? shards : []) {
    for (const [name, info] of (await readSafetensorsHeader(file)).tensors) stored.set(name, { ...info, file })
  }

  const place = layout === 'single' ? join(directory, singleName) : join(directory, indexName)
  const entries = selectParameters(stored, config, place, warnings)
  const totalBytes = [...entries.values()].reduce((sum, entry) => sum + entry.byteLength, 0)
  return { entries, layout, shards, totalBytes, warnings }
}

async function listFolder(directory: string): Promise<string[]> {
  try {
    return await readdir(directory)
  } catch (error) {
    throw ioError('read', directory, error)
  }
}

/** What to tell somebody whose folder has no weights that can be read here. */
function noWeights(names: readonly string[]): string {
  const nothing = `neither ${singleName} nor ${indexName}`
  const convert =
    "convert it with Python's transformers: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(OUT)"
  if (names.some((name) => /^pytorch_model.*\.bin(\.index\.json)?$/.test(name))) {
    return `${nothing}, but PyTorch weights (pytorch_model*.bin); ${convert}`
  }
  const gguf = names.find((name) => name.endsWith('.gguf'))
  if (gguf !== undefined) {
    return `${nothing}, but ${gguf}; convert it with transformers: from_pretrained(DIR, gguf_file=…).save_pretrained(OUT)`
  }
  if (names.includes('consolidated.00.pth')) {
    return `${nothing}, but Meta's weights (consolidated.*.pth); convert them with transformers' convert_llama_weights_to_hf.py`
  }
  if (names.includes('adapter_model.safetensors')) {
    return `${nothing}, but a LoRA adapter: load its base model, with this folder as the adapter`
  }
  return `${nothing}; expected the weights of a model in Hugging Face layout`
}

/** Reads the index and the headers of its shards; fills `stored` and `shards`. */
async function readShards(directory: string, stored: Map<string, StoredTensor>, shards: string[]): Promise<void> {
  const indexPath = join(directory, indexName)
  const json = await readJsonFile(indexPath, 'ERR_ALMA_CHECKPOINT', { uniqueKeys: true })
  const weightMap = isObject(json) ? json.weight_map : undefined
  if (!isObject(weightMap)) throw damaged(indexPath, `weight_map is ${describe(weightMap)}, expected an object`)
  const shardNames = new Set<string>()
  for (const [name, shard] of Object.entries(weightMap)) {
    if (!isPlainFileName(shard)) {
      throw damaged(
        indexPath,
        `tensor ${describe(name)} is in ${describe(shard)}, expected the name of a file beside it`,
      )
    }
    shardNames.add(shard)
  }
  if (shardNames.size > maxShards) throw damaged(indexPath, `${shardNames.size} shards, expected at most ${maxShards}`)

  for (const shard of [...shardNames].sort()) {
    const file = join(directory, shard)
    shards.push(file)
    const { tensors } = await readSafetensorsHeader(file)
    for (const [name, info] of tensors) {
      const other = stored.get(name)
      if (other !== undefined) throw damaged(file, `tensor ${describe(name)} is in ${other.file} as well`)
      stored.set(name, { ...info, file })
    }
  }
  for (const [name, shard] of Object.entries(weightMap)) {
    const found = stored.get(name)
    const file = join(directory, String(shard))
    if (found === undefined) throw damaged(file, `has no tensor ${describe(name)}, which ${indexName} places there`)
    if (found.file !== file) throw damaged(file, `has no tensor ${describe(name)}; it is in ${found.file}`)
  }
  for (const [name, { file }] of stored) {
    if (!Object.hasOwn(weightMap, name)) throw damaged(indexPath, `does not name tensor ${describe(name)} of ${file}`)
  }
}

function selectParameters(
  stored: ReadonlyMap<string, StoredTensor>,
  config: LlamaConfig,
  place: string,
  warnings: string[],
): Map<string, WeightEntry> {
  const unused = new Map(stored)
  const entries = new Map<string, WeightEntry>()
  const missing: string[] = []
  for (const [name, shape] of llamaParameterShapes(config)) {
    let from = name
    // Some savers keep the other name of a tied matrix.
    if (config.tieWordEmbeddings && name === 'model.embed_tokens.weight' && !stored.has(name)) from = 'lm_head.weight'
    const found = stored.get(from)
    if (found === undefined) {
      missing.push(name)
      continue
    }
    unused.delete(from)
    entries.set(name, verifyParameter(from, found, shape))
  }
  if (missing.length > 0) {
    const more = missing.length > 3 ? ` and ${missing.length - 3} more` : ''
    const tied = missing.includes('lm_head.weight') ? ' (and config.json does not say tie_word_embeddings)' : ''
    throw damaged(place, `missing ${missing.slice(0, 3).join(', ')}${more}${tied}`)
  }
  noteUnused(unused, config, warnings)
  return entries
}

function verifyParameter(name: string, found: StoredTensor, shape: readonly number[]): WeightEntry {
  const { file, dtype, byteOffset, byteLength } = found
  if (found.shape.length !== shape.length || found.shape.some((size, axis) => size !== shape[axis])) {
    throw damaged(file, `tensor ${name} has shape ${describe(found.shape)}, expected ${describe(shape)} by config.json`)
  }
  if (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16') {
    throw damaged(file, `tensor ${name} has dtype ${dtype}, expected F32, F16 or BF16`)
  }
  return { file, dtype, shape, byteOffset, byteLength }
}

function noteUnused(unused: ReadonlyMap<string, StoredTensor>, config: LlamaConfig, warnings: string[]): void {
  const unknown: string[] = []
  for (const [name, { file }] of unused) {
    // Constants that old versions of transformers stored, and the second name of a tied matrix.
    if (name.endsWith('.rotary_emb.inv_freq') || (config.tieWordEmbeddings && name === 'lm_head.weight')) continue
    // These change what the layers compute: ignoring them would give a model that runs and is wrong.
    if (/\.(bias|qweight|qzeros|scales|weight_scale|weight_scale_inv|absmax|lora_[AB]\.weight)$/.test(name)) {
      throw damaged(file, `tensor ${describe(name)} is not of a plain LLaMA model (a bias, quantization or adapter)`)
    }
    unknown.push(name)
  }
  if (unknown.length === 0) return
  const more = unknown.length > 3 ? ` and ${unknown.length - 3} more` : ''
  warnings.push(`ignored tensors that the model does not have: ${unknown.slice(0, 3).map(describe).join(', ')}${more}`)
}

/** A file to be written and what goes into it, in order. */
export interface Shard<Entry> {
  readonly name: string
  readonly entries: readonly Entry[]
}

/**
 * Distributes tensors over files as Hugging Face does: in order, a new file when the next tensor would exceed
 * `maxShardBytes`; a larger tensor gets a file of its own. One file is called `model.safetensors`.
 */
export function planShards<Entry extends { readonly byteLength: number }>(
  entries: readonly Entry[],
  maxShardBytes: number,
): Shard<Entry>[] {
  if (!(maxShardBytes >= 1)) {
    throw new AlmaError('ERR_ALMA_OPTION', `maxShardBytes is ${describe(maxShardBytes)}, expected a number of bytes`)
  }
  const groups: Entry[][] = []
  let room = 0
  for (const entry of entries) {
    const group = groups.at(-1)
    if (group === undefined || entry.byteLength > room) {
      groups.push([entry])
      room = maxShardBytes - entry.byteLength
    } else {
      group.push(entry)
      room -= entry.byteLength
    }
  }
  if (groups.length <= 1) return [{ name: singleName, entries }]
  const digits = (number: number) => String(number).padStart(5, '0')
  return groups.map((group, i) => ({
    name: `model-${digits(i + 1)}-of-${digits(groups.length)}.safetensors`,
    entries: group,
  }))
}

export interface WriteWeightsOptions {
  /** Largest file, bytes (5 GB, Hugging Face's default); `Infinity` for one file. */
  readonly maxShardBytes?: number
  /** `__metadata__` of every file (`{ format: 'pt' }`). */
  readonly metadata?: Readonly<Record<string, string>>
  /** Content of config.json; without it, the one that is there stays. */
  readonly config?: Readonly<Record<string, unknown>>
  /** Saved together with the weights: tokenizer, generation_config.json. */
  readonly extraFiles?: readonly NewFile[]
}

/**
 * Writes weights, and with them config.json and other files, into a folder which may hold a model: that model is replaced
 * whole or not at all, files of other names stay. One tensor is in memory at a time.
 *
 * @returns names of the weight files.
 * @throws AlmaError ERR_ALMA_IO naming the file that cannot be written; ERR_ALMA_CHECKPOINT when a tensor's data is not as
 *   long as its shape says.
 */
export async function writeWeights(
  directory: string,
  tensors: readonly SafetensorsTensor[],
  options: WriteWeightsOptions = {},
): Promise<string[]> {
  const { maxShardBytes = 5e9, metadata = { format: 'pt' }, config, extraFiles = [] } = options
  const sized = tensors.map((tensor) => ({ tensor, byteLength: tensorByteLength(tensor.shape, tensor.dtype) }))
  const shards = planShards(sized, maxShardBytes)
  const files: NewFile[] = shards.map(({ name, entries }) => ({
    name,
    content: (handle) => {
      const contents = entries.map(({ tensor }) => tensor)
      return writeSafetensorsTo(handle, contents, join(directory, name), metadata)
    },
  }))
  if (shards.length > 1) {
    const place = shards.flatMap(({ name, entries }) => entries.map(({ tensor }) => [tensor.name, name] as const))
    const names = new Set(place.map(([name]) => name))
    if (names.size < place.length) throw damaged(join(directory, indexName), 'a tensor name occurs twice')
    const index = {
      metadata: { total_size: sized.reduce((sum, { byteLength }) => sum + byteLength, 0) },
      weight_map: Object.fromEntries(place.toSorted(([a], [b]) => (a < b ? -1 : 1))),
    }
    files.push({ name: indexName, content: jsonText(index) })
  }
  if (config !== undefined) files.push({ name: 'config.json', content: jsonText(config) })
  await saveModelFiles(directory, [...files, ...extraFiles])
  return shards.map(({ name }) => name)
}

/**
 * Replaces the files of a model in a folder together. If there are weights among them, the weight files of the older model
 * that the new one does not have are removed; files of other names stay.
 *
 * @throws AlmaError ERR_ALMA_IO.
 */
export async function saveModelFiles(directory: string, files: readonly NewFile[]): Promise<void> {
  const isWeights = (name: string) =>
    name === singleName || name === indexName || /^model-\d{5}-of-\d{5}\.safetensors$/.test(name)
  // For readers that do not know of an interrupted save: an index or config.json never speaks of shards yet to come.
  const rank = ({ name }: NewFile) => (name === 'config.json' ? 3 : name === indexName ? 2 : isWeights(name) ? 0 : 1)
  const order = files.toSorted((a, b) => rank(a) - rank(b))
  const replacesWeights = files.some(({ name }) => isWeights(name))
  await replaceFiles(directory, order, (name) => replacesWeights && isWeights(name))
}

function jsonText(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`
}
