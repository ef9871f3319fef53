/** Writing a model as a Hugging Face folder again. */
import type { NewFile } from '../files/replace-files.js'
import { ops, Tensor } from '../runtime/index.js'
import { llamaConfigToJson } from './config.js'
import type { LlamaForCausalLM } from './llama.js'
import type { SafetensorsTensor } from './safetensors.js'
import { writeWeights } from './weight-files.js'

export interface SaveModelOptions {
  /** Dtype in the files. Default: the dtype of each weight in memory. */
  readonly dtype?: 'f32' | 'bf16'
  /** Largest weight file, bytes. Default 5 GB, as Hugging Face. */
  readonly maxShardBytes?: number
  /** Saved together with the weights, all or nothing. */
  readonly extraFiles?: readonly NewFile[]
  readonly signal?: AbortSignal
}

/**
 * Writes config.json and the weights, with the updates of the model's adapter added if it has one. An older model in the folder stays whole until everything new is on the disk.
 *
 * @throws AlmaError ERR_ALMA_IO.
 */
export async function saveLlama(
  model: LlamaForCausalLM,
  directory: string,
  options: SaveModelOptions = {},
): Promise<void> {
  const { dtype, maxShardBytes, extraFiles = [], signal } = options
  const tensors: SafetensorsTensor[] = []
  let stored: 'f32' | 'bf16' = 'f32'
  for (const [name, tensor] of model.namedParameters()) {
    const target = dtype ?? (tensor.dtype === 'bf16' ? 'bf16' : 'f32')
    stored = target
    tensors.push({
      name,
      dtype: target === 'bf16' ? 'BF16' : 'F32',
      shape: tensor.shape,
      data: async () => {
        signal?.throwIfAborted()
        const update = model.adapter?.pairs.get(name.replace(/\.weight$/, ''))
        if (update === undefined) return await bytesOf(tensor, target)
        using merged = update.mergedWith(tensor)
        return await bytesOf(merged, target)
      },
    })
  }
  const config = { ...llamaConfigToJson(model.config), torch_dtype: stored === 'bf16' ? 'bfloat16' : 'float32' }
  await writeWeights(directory, tensors, { config, extraFiles, ...(maxShardBytes !== undefined && { maxShardBytes }) })
}

/** The elements of a float tensor as bytes of another dtype. */
export async function bytesOf(tensor: Tensor, dtype: 'f32' | 'bf16'): Promise<Uint8Array> {
  if (tensor.dtype === dtype) return tensor.readBytes()
  using converted = ops.cast(tensor, Tensor.empty(tensor.device, tensor.shape, dtype))
  return await converted.readBytes()
}
