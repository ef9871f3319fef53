/** The options by which every command with a model finds and loads it. */
import { type Command, Option } from 'commander'
import { Alma } from '../alma.js'
import { integer } from './arguments.js'
import { type CliIo, StatusLine } from './io.js'

export interface ModelOptions {
  readonly model: string
  readonly device: string
  readonly dtype?: 'bf16' | 'f32'
  readonly threads?: number
  readonly adapter?: string
}

export function addModelOptions(command: Command): Command {
  const withModel = command
    .requiredOption('--model <folder>', 'model in the Hugging Face layout (safetensors)')
    .option('--adapter <folder>', adapterHelp)
  return addDeviceOptions(withModel)
}

export const adapterHelp = 'LoRA adapter in the layout of PEFT'

export function addDeviceOptions(command: Command): Command {
  return command
    .option('--device <name>', 'auto, cpu, cuda or cuda:N', 'auto')
    .addOption(new Option('--dtype <type>', 'of the weights in memory').choices(['bf16', 'f32']))
    .option('--threads <number>', 'worker threads of the CPU device', integer(1))
}

/** Loads the model; warnings go to stderr, and so does the progress on a terminal. */
export async function loadModel(io: CliIo, options: ModelOptions): Promise<Alma> {
  const { model, device, dtype, threads, adapter } = options
  const status = new StatusLine(io)
  try {
    return await Alma.load(model, {
      device,
      signal: io.signal,
      ...(dtype !== undefined && { dtype }),
      ...(threads !== undefined && { threads }),
      ...(adapter !== undefined && { adapter }),
      onProgress: ({ bytesLoaded, bytesTotal }) =>
        status.show(`loading ${model}: ${Math.floor((100 * bytesLoaded) / bytesTotal)} %`),
      onWarning: (message) => {
        status.clear()
        io.stderr.write(`alma: warning: ${message}\n`)
      },
    })
  } finally {
    status.clear()
  }
}

/** `--json` is on most commands. */
export function addJsonOption(command: Command): Command {
  return command.option('--json', 'machine-readable results', false)
}
