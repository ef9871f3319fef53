import { basename, resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { saveModelAsGguf } from '../../alma/save-gguf.js'
import { AlmaError } from '../../errors.js'
import { byteSize } from '../arguments.js'
import { type CliIo, writeTo } from '../io.js'
import { adapterHelp, addJsonOption, loadModel } from '../model.js'

interface ConvertOptions {
  readonly model: string
  readonly adapter?: string
  readonly output: string
  readonly dtype: 'bf16' | 'f16' | 'f32'
  readonly to: 'safetensors' | 'gguf'
  readonly maxShardSize?: number
  readonly json: boolean
}

export function convertCommand(program: Command, io: CliIo): void {
  const command = program
    .command('convert')
    .description('write a model again: an adapter merged, another dtype or size of its files, or as GGUF for llama.cpp')
    .requiredOption('--model <folder>', 'model in the Hugging Face layout (safetensors)')
    .option('--adapter <folder>', `${adapterHelp}, to be merged into the weights`)
    .requiredOption('--output <path>', 'folder for the new model, or the GGUF file')
    .addOption(new Option('--to <format>', 'what is written').choices(['safetensors', 'gguf']).default('safetensors'))
    .addOption(
      new Option('--dtype <type>', 'of the weights in the files').choices(['bf16', 'f16', 'f32']).makeOptionMandatory(),
    )
    .option('--max-shard-size <size>', 'largest weight file (default 5GB)', byteSize)
  addJsonOption(command).action((options: ConvertOptions) => convert(options, io))
}

async function convert(options: ConvertOptions, io: CliIo): Promise<void> {
  const { model, output, dtype, to, maxShardSize, adapter, json } = options
  if (to === 'gguf') return await convertToGguf(options, io)
  if (dtype === 'f16') {
    throw new AlmaError('ERR_ALMA_OPTION', '--dtype f16: GGUF files only; safetensors are written as bf16 or f32')
  }
  await using alma = await loadModel(io, { model, device: 'cpu', dtype, ...(adapter !== undefined && { adapter }) })
  await alma.save(output, {
    dtype,
    mergeAdapter: true,
    signal: io.signal,
    ...(maxShardSize !== undefined && { maxShardBytes: maxShardSize }),
  })
  const parameters = alma.model.parameterCount
  const text = json ? JSON.stringify({ output, dtype, parameters }) : `${output}: ${parameters} weights as ${dtype}`
  await writeTo(io.stdout, `${text}\n`, io.signal)
}

async function convertToGguf({ model, output, dtype, adapter, json }: ConvertOptions, io: CliIo): Promise<void> {
  // Weights that are rounded on the way would be rounded twice.
  const loaded = dtype === 'bf16' ? 'bf16' : 'f32'
  await using alma = await loadModel(io, {
    model,
    device: 'cpu',
    dtype: loaded,
    ...(adapter !== undefined && { adapter }),
  })
  if (alma.adapters.length > 0) alma.mergeAdapter()
  const name = basename(resolve(model))
  await saveModelAsGguf(alma.model, alma.tokenizer, output, { dtype, name, signal: io.signal })
  const parameters = alma.model.parameterCount
  const text = json ? JSON.stringify({ output, dtype, parameters }) : `${output}: ${parameters} weights as ${dtype}`
  await writeTo(io.stdout, `${text}\n`, io.signal)
}
