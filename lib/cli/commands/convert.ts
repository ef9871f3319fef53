import { type Command, Option } from 'commander'
import { byteSize } from '../arguments.js'
import { type CliIo, writeTo } from '../io.js'
import { addJsonOption, loadModel } from '../model.js'

interface ConvertOptions {
  readonly model: string
  readonly output: string
  readonly dtype: 'bf16' | 'f32'
  readonly maxShardSize?: number
  readonly json: boolean
}

export function convertCommand(program: Command, io: CliIo): void {
  const command = program
    .command('convert')
    .description('write a model again with another dtype or another size of its files')
    .requiredOption('--model <folder>', 'model in the Hugging Face layout (safetensors)')
    .requiredOption('--output <folder>', 'folder for the new model')
    .addOption(
      new Option('--dtype <type>', 'of the weights in the files').choices(['bf16', 'f32']).makeOptionMandatory(),
    )
    .option('--max-shard-size <size>', 'largest weight file (default 5GB)', byteSize)
  addJsonOption(command).action((options: ConvertOptions) => convert(options, io))
}

async function convert(options: ConvertOptions, io: CliIo): Promise<void> {
  const { model, output, dtype, maxShardSize, json } = options
  await using alma = await loadModel(io, { model, device: 'cpu', dtype })
  await alma.save(output, {
    dtype,
    signal: io.signal,
    ...(maxShardSize !== undefined && { maxShardBytes: maxShardSize }),
  })
  const parameters = alma.model.parameterCount
  const text = json ? JSON.stringify({ output, dtype, parameters }) : `${output}: ${parameters} weights as ${dtype}`
  await writeTo(io.stdout, `${text}\n`, io.signal)
}
