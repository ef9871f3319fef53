import { type Command, Option } from 'commander'
import type { TranslateOptions, Translation } from '../../alma/options.js'
import { AlmaError } from '../../errors.js'
import { promptStyles, readParallel, resolveLanguage, splitModes } from '../../text/index.js'
import { integer, number } from '../arguments.js'
import { type CliIo, inputLines, openOutput, StatusLine } from '../io.js'
import { addJsonOption, addModelOptions, loadModel, type ModelOptions } from '../model.js'
import { keepWholeLines, skipLines } from '../resume.js'

export interface TranslateCommandOptions extends ModelOptions, DecodingFlags {
  readonly from: string
  readonly to: string
  readonly input?: string
  readonly output?: string
  readonly resume: boolean
  readonly examples?: string
  readonly glossary?: string
  readonly json: boolean
}

/** Decoding options of the command line that have the names of the API. */
const flagNames = [
  'maxNewTokens',
  'numBeams',
  'lengthPenalty',
  'earlyStopping',
  'compat',
  'repetitionPenalty',
  'doSample',
  'temperature',
  'topP',
  'topK',
  'seed',
  'numReturnSequences',
  'template',
  'promptStyle',
  'split',
  'maxSourceLength',
  'targetPrefix',
  'stopAtNewline',
  'batchTokens',
] as const satisfies readonly (keyof TranslateOptions)[]

export interface DecodingFlags extends Pick<TranslateOptions, (typeof flagNames)[number]> {
  readonly banRepeatedNgrams?: number
  readonly mbrSamples?: number
  readonly mbrMetric?: 'chrf' | 'bleu'
}

export function addLanguageOptions(command: Command): Command {
  return command
    .requiredOption('--from <language>', 'code or English name: de, German')
    .requiredOption('--to <language>', 'code or English name: en, English')
}

export function addDecodingOptions(command: Command): Command {
  return (
    command
      .option('--max-new-tokens <number>', 'longest translation, tokens (default 256)', integer(1))
      .option('--num-beams <number>', 'beams; 1: greedy (default)', integer(1))
      .option('--length-penalty <number>', 'of beam search: above 0 prefers longer translations (default 1)', number)
      .addOption(
        new Option('--early-stopping [when]', 'of beam search: true, false or never (default false)')
          .argParser((value) => (value === 'never' ? value : value !== 'false'))
          .preset(true),
      )
      .addOption(
        new Option('--compat <version>', 'rules of beam search').choices([
          'transformers',
          'transformers-4.46',
          'transformers-4.35',
        ]),
      )
      .option('--num-return-sequences <number>', 'n-best translations, with --json', integer(1))
      .option('--mbr-samples <number>', 'minimum Bayes risk: choose among so many samples, or beams', integer(1))
      .addOption(
        new Option('--mbr-metric <name>', 'what they are compared by (default chrf)').choices(['chrf', 'bleu']),
      )
      .option('--repetition-penalty <number>', 'above 1: repeat less', number)
      // Not --no-repeat-ngram-size: the parser takes "--no-" for a negation.
      .option('--ban-repeated-ngrams <length>', 'no n-gram of this length occurs twice', integer(0))
      .option('--stop-at-newline', 'end an answer with its first line, as ALMA reads it')
      .option('--do-sample', 'draw tokens at random')
      .option('--temperature <number>', 'with --do-sample (default 1)', number)
      .option('--top-p <number>', 'with --do-sample: the likeliest tokens up to this probability', number)
      .option('--top-k <number>', 'with --do-sample: so many likeliest tokens', integer(0))
      .option('--seed <number>', 'of the random numbers (default 42)', integer(0))
      .option('--template <text>', "prompt with {source}, {from} and {to} instead of ALMA's")
      .addOption(
        new Option('--prompt-style <name>', 'x-alma wraps the prompt as X-ALMA is trained').choices(promptStyles),
      )
      .addOption(
        new Option('--split <how>', 'how texts are cut (default auto: long lines in sentences)').choices(splitModes),
      )
      .option('--max-source-length <number>', 'most tokens of a piece of a long line (default 256)', integer(1))
      .option('--target-prefix <text>', 'with what every translation begins')
      .option('--batch-tokens <number>', 'cache tokens of a batch (default 4096)', integer(1))
  )
}

/** The flags that were given, as options of the API. */
export function decodingFlags(flags: DecodingFlags): Partial<TranslateOptions> {
  const given = flagNames.flatMap((name) => (flags[name] === undefined ? [] : [[name, flags[name]]]))
  const { banRepeatedNgrams: noRepeatNgramSize, mbrSamples: samples, mbrMetric: metric } = flags
  const mbr =
    samples === undefined && metric === undefined
      ? undefined
      : { ...(samples !== undefined && { samples }), ...(metric !== undefined && { metric }) }
  return {
    ...Object.fromEntries(given),
    ...(noRepeatNgramSize !== undefined && { noRepeatNgramSize }),
    ...(mbr !== undefined && { mbr }),
  }
}

export function translateCommand(program: Command, io: CliIo): void {
  const command = program
    .command('translate')
    .description('translate lines: a line of output for every line of input, empty ones stay empty')
  addJsonOption(addDecodingOptions(addLanguageOptions(addModelOptions(command))))
    .option('--input <file>', 'text, plain or gzip (default: stdin)')
    .option('--output <file>', 'file for the translations (default: stdout)')
    .option('--resume', 'go on behind the lines that the output file has already', false)
    .option('--examples <file>', 'examples shown before every line: sentence pairs, ALMA JSON, JSON Lines or TSV')
    .option('--glossary <file>', 'terms shown before the lines that contain them, in the same formats')
    .action((options: TranslateCommandOptions) => translate(options, io))
}

async function translate(options: TranslateCommandOptions, io: CliIo): Promise<void> {
  const { from, to, input, output: outputFile, resume, json } = options
  if (resume && outputFile === undefined) {
    throw new AlmaError('ERR_ALMA_OPTION', '--resume: needs --output, the file that is gone on with')
  }
  // Before the model is loaded, which may take minutes.
  for (const language of [from, to]) resolveLanguage(language)
  const examples = await pairsOf(options.examples, from, to)
  const glossary = await pairsOf(options.glossary, from, to)
  const done = resume && outputFile !== undefined ? await keepWholeLines(outputFile) : 0
  const output = await openOutput(io, outputFile, resume ? 'a' : 'w')
  const status = new StatusLine(io)
  try {
    await using alma = await loadModel(io, options)
    const decoding: TranslateOptions = {
      ...decodingFlags(options),
      from,
      to,
      ...(examples && { examples }),
      ...(glossary && { glossary }),
      signal: io.signal,
    }
    const names = { input: input ?? 'stdin', output: outputFile ?? 'stdout' }
    let lines = 0
    const started = performance.now()
    for await (const translation of alma.translateMany(skipLines(inputLines(io, input), done, names), decoding)) {
      await output.write(`${json ? jsonOf(translation) : translation.text}\n`)
      lines++
      const seconds = (performance.now() - started) / 1000
      // On a terminal that shows the translations themselves it would only be in the way.
      if (outputFile !== undefined) status.show(`${done + lines} lines, ${(lines / seconds).toFixed(1)} lines/s`)
    }
  } catch (error) {
    if (!(error instanceof AlmaError) || error.code !== 'ERR_ALMA_CONTEXT') throw error
    // The library counts prompts from 0; people count lines from 1.
    const message = error.message.replace(/^prompt (\d+)/, (_, index) => `line ${done + Number(index) + 1}: the prompt`)
    throw new AlmaError(error.code, `${input ?? 'stdin'}: ${message}`, { cause: error })
  } finally {
    status.clear()
    await output.close()
  }
}

/** Sentence pairs of a file that is small enough to be held. */
async function pairsOf(
  file: string | undefined,
  from: string,
  to: string,
): Promise<{ source: string; target: string }[] | undefined> {
  if (file === undefined) return undefined
  const pairs: { source: string; target: string }[] = []
  for await (const { source, target } of readParallel(file, { from, to })) pairs.push({ source, target })
  return pairs
}

function jsonOf(translation: Translation): string {
  const { source, text, score, tokenIds, finishReason, utility, candidates } = translation
  return JSON.stringify({
    source,
    text,
    score,
    tokens: tokenIds.length,
    finishReason,
    utility,
    candidates: candidates?.map((candidate) => ({
      text: candidate.text,
      score: candidate.score,
      utility: candidate.utility,
    })),
  })
}
