/** Getting a model: from a folder in the Hugging Face layout, or with random weights. */
import { AlmaError } from '../errors.js'
import { type Device, type DType, ops, type StorageDType, Tensor } from '../runtime/index.js'
import { CheckedWeights } from './checked-weights.js'
import { type LlamaConfig, llamaParameterShapes, readLlamaConfig } from './config.js'
import { LlamaForCausalLM } from './llama.js'
import { openWeights, type WeightDtype, type WeightEntry } from './weight-files.js'

const storageDtype: Readonly<Record<WeightDtype, StorageDType>> = { F32: 'f32', F16: 'f16', BF16: 'bf16' }

export interface LoadProgress {
  readonly bytesLoaded: number
  readonly bytesTotal: number
}

export interface LoadModelOptions {
  /** Dtype of the weights in memory. Default: the device's ('f32' on the CPU, 'bf16' on a GPU). */
  readonly dtype?: 'f32' | 'bf16'
  readonly onProgress?: (progress: LoadProgress) => void
  /** What was ignored in the folder, a sentence each. */
  readonly onWarning?: (message: string) => void
  readonly signal?: AbortSignal
}

/**
 * Loads config.json and the weights of a folder. On the CPU, weights that are stored in the wanted dtype stay in the mapped file, and
 * a file whose weights were all finite before is not read for that again, as long as it is the same ({@link CheckedWeights}).
 *
 * @throws AlmaError ERR_ALMA_CONFIG, ERR_ALMA_CHECKPOINT (also for weights that are NaN or infinite), ERR_ALMA_IO,
 *   ERR_ALMA_OUT_OF_MEMORY.
 */
export async function loadLlama(
  device: Device,
  directory: string,
  options: LoadModelOptions = {},
): Promise<LlamaForCausalLM> {
  const { dtype = device.defaultDtype, onProgress, onWarning, signal } = options
  signal?.throwIfAborted()
  const config = await readLlamaConfig(directory)
  const files = await openWeights(directory, config)
  for (const warning of files.warnings) onWarning?.(warning)
  const checked = await CheckedWeights.of(files)

  const tensors = new Map<string, Tensor>()
  const names = [...files.entries.keys()]
  const nonFinite = Tensor.zeros(device, [names.length], 'i32')
  let bytesLoaded = 0
  // One tensor is read from the disk while the one before is counted.
  let counting = { done: Promise.resolve(), bytes: 0 }
  const counted = async (): Promise<void> => {
    await counting.done
    bytesLoaded += counting.bytes
    if (counting.bytes > 0) onProgress?.({ bytesLoaded, bytesTotal: files.totalBytes })
  }
  try {
    for (const [index, [name, entry]] of [...files.entries].entries()) {
      signal?.throwIfAborted()
      const mapped = staysMapped(device, entry, dtype)
      const tensor = await loadTensor(device, entry, dtype, mapped, signal)
      tensors.set(name, tensor)
      let done = Promise.resolve()
      if (!mapped || !checked.has(entry.file)) {
        using counter = nonFinite.view([1], index)
        ops.countNonFinite(tensor, counter)
        done = device.synchronize()
        done.catch(() => {}) // awaited with the next tensor
      }
      await counted()
      counting = { done, bytes: entry.byteLength }
    }
    await counted()
    signal?.throwIfAborted()
    const counts = await nonFinite.readInts()
    const bad = counts.findIndex((count) => count > 0)
    if (bad >= 0) {
      const name = names[bad] ?? ''
      throw new AlmaError(
        'ERR_ALMA_CHECKPOINT',
        `${files.entries.get(name)?.file}: ${name} has ${counts[bad]} elements that are NaN or infinite, expected none`,
      )
    }
    await checked.remember()
  } catch (error) {
    for (const tensor of tensors.values()) tensor.dispose()
    throw error
  } finally {
    nonFinite.dispose()
  }
  return new LlamaForCausalLM(device, config, tensors, activationDtypeOf(device, dtype))
}

/** Whether the weights are used where they lie, in the file. */
function staysMapped(device: Device, entry: WeightEntry, dtype: 'f32' | 'bf16'): boolean {
  return device.hostAccessible && storageDtype[entry.dtype] === dtype && entry.byteOffset % 4 === 0
}

async function loadTensor(
  device: Device,
  entry: WeightEntry,
  dtype: 'f32' | 'bf16',
  mapped: boolean,
  signal: AbortSignal | undefined,
): Promise<Tensor> {
  const { file, byteOffset, shape } = entry
  const tensor = mapped ? Tensor.mapFile(device, file, byteOffset, shape, dtype) : Tensor.empty(device, shape, dtype)
  try {
    if (mapped) await tensor.fetch(signal)
    else await tensor.loadFile(file, byteOffset, storageDtype[entry.dtype])
    return tensor
  } catch (error) {
    tensor.dispose()
    throw error
  }
}

export interface CreateModelOptions {
  /** Default 42. */
  readonly seed?: number
  /** Default: the device's. */
  readonly dtype?: 'f32' | 'bf16'
}

/**
 * A model with random weights: normal with the config's initializerRange, norms 1, as transformers initialises LLaMA. The numbers
 * depend on the seed alone, not on the device or its threads.
 */
export function createLlama(device: Device, config: LlamaConfig, options: CreateModelOptions = {}): LlamaForCausalLM {
  const { seed = 42, dtype = device.defaultDtype } = options
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new AlmaError('ERR_ALMA_OPTION', `seed: expected an integer from 0 to 2^53 - 1, got ${seed}`)
  }
  const tensors = new Map<string, Tensor>()
  let first = 0
  for (const [name, shape] of llamaParameterShapes(config)) {
    const tensor = Tensor.empty(device, shape, dtype)
    if (name.endsWith('norm.weight')) ops.fill(tensor, 1)
    else ops.fillNormal(tensor, config.initializerRange, seed, first)
    first += tensor.count
    tensors.set(name, tensor)
  }
  return new LlamaForCausalLM(device, config, tensors, activationDtypeOf(device, dtype))
}

/** f32 on the CPU, whatever the weights are stored as (products may round them to bf16 beside such weights); on a GPU the weights' dtype. */
function activationDtypeOf(device: Device, dtype: DType): DType {
  return device.name === 'cpu' ? 'f32' : dtype
}
