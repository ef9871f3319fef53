import type { Command } from 'commander'
import type { TranslateOptions, Translation } from '../../alma/options.js'
import { AlmaError } from '../../errors.js'
import { resolveLanguage } from '../../text/index.js'
import { integer, number } from '../arguments.js'
import { type CliIo, inputLines, openOutput, StatusLine } from '../io.js'
import { addJsonOption, addModelOptions, loadModel, type ModelOptions } from '../model.js'

export interface TranslateCommandOptions extends ModelOptions, DecodingFlags {
  readonly from: string
  readonly to: string
  readonly input?: string
  readonly output?: string
  readonly json: boolean
}

/** Decoding options of the command line, under the names of the API. */
export interface DecodingFlags {
  readonly maxNewTokens?: number
  readonly numBeams?: number
  readonly batchTokens?: number
  readonly template?: string
  readonly repetitionPenalty?: number
}

export function addLanguageOptions(command: Command): Command {
  return command
    .requiredOption('--from <language>', 'code or English name: de, German')
    .requiredOption('--to <language>', 'code or English name: en, English')
}

export function addDecodingOptions(command: Command): Command {
  return command
    .option('--max-new-tokens <number>', 'longest translation, tokens (default 256)', integer(1))
    .option('--num-beams <number>', 'beams; 1: greedy (default)', integer(1))
    .option('--repetition-penalty <number>', 'above 1: repeat less', number)
    .option('--template <text>', "prompt with {source}, {from} and {to} instead of ALMA's")
    .option('--batch-tokens <number>', 'cache tokens of a batch (default 4096)', integer(1))
}

/** The flags that were given. */
export function decodingFlags(flags: DecodingFlags): DecodingFlags {
  const { maxNewTokens, numBeams, batchTokens, template, repetitionPenalty } = flags
  return {
    ...(maxNewTokens !== undefined && { maxNewTokens }),
    ...(numBeams !== undefined && { numBeams }),
    ...(batchTokens !== undefined && { batchTokens }),
    ...(template !== undefined && { template }),
    ...(repetitionPenalty !== undefined && { repetitionPenalty }),
  }
}

export function translateCommand(program: Command, io: CliIo): void {
  const command = program
    .command('translate')
    .description('translate lines: a line of output for every line of input, empty ones stay empty')
  addJsonOption(addDecodingOptions(addLanguageOptions(addModelOptions(command))))
    .option('--input <file>', 'text, plain or gzip (default: stdin)')
    .option('--output <file>', 'file for the translations (default: stdout)')
    .action((options: TranslateCommandOptions) => translate(options, io))
}

async function translate(options: TranslateCommandOptions, io: CliIo): Promise<void> {
  const { from, to, input, output: outputFile, json } = options
  // Before the model is loaded, which may take minutes.
  for (const language of [from, to]) resolveLanguage(language)
  const output = await openOutput(io, outputFile)
  const status = new StatusLine(io)
  try {
    await using alma = await loadModel(io, options)
    const decoding: TranslateOptions = { ...decodingFlags(options), from, to, signal: io.signal }
    let lines = 0
    const started = performance.now()
    for await (const translation of alma.translateMany(inputLines(io, input), decoding)) {
      await output.write(`${json ? jsonOf(translation) : translation.text}\n`)
      lines++
      const seconds = (performance.now() - started) / 1000
      // On a terminal that shows the translations themselves it would only be in the way.
      if (outputFile !== undefined) status.show(`${lines} lines, ${(lines / seconds).toFixed(1)} lines/s`)
    }
  } catch (error) {
    if (!(error instanceof AlmaError) || error.code !== 'ERR_ALMA_CONTEXT') throw error
    // The library counts prompts from 0; people count lines from 1.
    const message = error.message.replace(/^prompt (\d+)/, (_, index) => `line ${Number(index) + 1}: the prompt`)
    throw new AlmaError(error.code, `${input ?? 'stdin'}: ${message}`, { cause: error })
  } finally {
    status.clear()
    await output.close()
  }
}

function jsonOf({ source, text, score, tokenIds, finishReason }: Translation): string {
  return JSON.stringify({ source, text, score, tokens: tokenIds.length, finishReason })
}
