import { mkdir } from 'node:fs/promises'
import type { Command } from 'commander'
import { AlmaError, ioError } from '../../errors.js'
import { type CliIo, writeTo } from '../io.js'
import { addDeviceOptions, addJsonOption, loadModel, type ModelOptions } from '../model.js'

interface TrainCommandOptions extends Omit<ModelOptions, 'model'> {
  readonly resume: boolean
  readonly tensorboard: boolean
  readonly tokenCache?: string
  readonly printRecipe?: string
  readonly json: boolean
}

export function trainCommand(program: Command, io: CliIo): void {
  const command = program
    .command('train')
    .description('fine-tune a model as a recipe says: { "model", "output", "stages" } in JSON or YAML')
    .argument('[recipe]', 'recipe file; its paths are relative to it')
    .option('--print-recipe <name>', 'print a published recipe with all of its values: alma, alma-lora, alma-r, x-alma')
    .option('--tensorboard', 'also write event files for TensorBoard, to tensorboard/ in the output folder', false)
    .option('--token-cache <folder>', 'keep tokenised files there for later passes and runs')
    .option('--resume', 'go on from the newest checkpoint in the output folder', false)
  addJsonOption(addDeviceOptions(command)).action((recipe: string | undefined, options: TrainCommandOptions) =>
    options.printRecipe === undefined ? train(recipe, options, io) : printRecipe(options.printRecipe, io),
  )
}

/** As a recipe that could be trained once its files are there. */
async function printRecipe(name: string, io: CliIo): Promise<void> {
  const { recipePreset } = await import('../../train/index.js')
  const { description, model, adapter, stages } = recipePreset(name)
  io.stderr.write(`${description}\n`)
  const recipe = { model, ...(adapter !== undefined && { adapter }), output: name, stages }
  await writeTo(io.stdout, `${JSON.stringify(recipe, null, 2)}\n`, io.signal)
}

async function train(recipeFile: string | undefined, options: TrainCommandOptions, io: CliIo): Promise<void> {
  const { createProgressReporter, readRecipe } = await import('../../train/index.js')
  if (recipeFile === undefined) throw new AlmaError('ERR_ALMA_OPTION', 'train: which recipe? Give its file')
  const { model, adapter, output, stages } = await readRecipe(recipeFile)
  try {
    await mkdir(output, { recursive: true })
  } catch (error) {
    throw ioError('write', output, error)
  }
  await using alma = await loadModel(io, { ...options, model, ...(adapter !== undefined && { adapter }) })
  const progress = await createProgressReporter({ stream: io.stderr })
  try {
    const report = await alma.finetune(stages, {
      output,
      resume: options.resume,
      tensorboard: options.tensorboard,
      ...(options.tokenCache !== undefined && { tokenCache: options.tokenCache }),
      signal: io.signal,
      onProgress: progress.onProgress,
    })
    const text = options.json
      ? JSON.stringify(report)
      : `The trained model is in ${output}, and a report of its training in report.html there`
    await writeTo(io.stdout, `${text}\n`, io.signal)
  } finally {
    await progress.close()
  }
}
