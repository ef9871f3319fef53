import { basename } from 'node:path'
import { type Command, Option } from 'commander'
import { AlmaError } from '../../errors.js'
import type { Evaluation } from '../../evaluate.js'
import { BleuMetric, ChrfMetric, type Comparison, type SignificanceTest } from '../../metrics/index.js'
import { resolveLanguage } from '../../text/index.js'
import { compareTexts, comparisonTable } from '../compare-texts.js'
import { type CliIo, fileLines, openOutput, StatusLine, writeTo } from '../io.js'
import { addJsonOption, addModelOptions, loadModel, type ModelOptions } from '../model.js'
import { addDecodingOptions, addLanguageOptions, type DecodingFlags, decodingFlags } from './translate.js'

interface EvaluateCommandOptions extends ModelOptions, DecodingFlags {
  readonly from: string
  readonly to: string
  readonly test: string
  readonly output?: string
  readonly compare?: readonly string[]
  readonly significanceTest: SignificanceTest
  readonly json: boolean
}

export function evaluateCommand(program: Command, io: CliIo): void {
  const command = program.command('evaluate').description('translate a test set and compare with its references')
  addJsonOption(addDecodingOptions(addLanguageOptions(addModelOptions(command))))
    .requiredOption('--test <file>', 'sentence pairs: ALMA JSON, JSON Lines or TSV, plain or gzip')
    .option('--output <file>', 'file for the translations, one a line')
    .option('--compare <file...>', "other systems' translations of the same test set, one a line")
    .addOption(
      new Option('--significance-test <name>', 'how systems are compared')
        .choices(['bootstrap', 'randomization'])
        .default('bootstrap'),
    )
    .action((options: EvaluateCommandOptions) => evaluate(options, io))
}

async function evaluate(options: EvaluateCommandOptions, io: CliIo): Promise<void> {
  const { from, to, test, output: outputFile, json } = options
  for (const language of [from, to]) resolveLanguage(language)
  const output = outputFile === undefined ? undefined : await openOutput(io, outputFile)
  const status = new StatusLine(io)
  try {
    await using alma = await loadModel(io, options)
    const result = await alma.evaluate(
      { path: test, from, to },
      {
        ...decodingFlags(options),
        signal: io.signal,
        onProgress: ({ completed, total }) => status.show(`translated ${completed} of ${total}`),
      },
    )
    status.clear()
    for (const { translation } of result.sentences) await output?.write(`${translation}\n`)
    const comparisons = options.compare && (await compare(options.compare, result, options, io))
    await writeTo(io.stdout, json ? jsonOf(result, comparisons) : textOf(result, comparisons), io.signal)
  } finally {
    status.clear()
    await output?.close()
  }
}

/** The model against other systems; it is the first of them. */
async function compare(
  files: readonly string[],
  { sentences, bleu }: Evaluation,
  { significanceTest: test, model }: EvaluateCommandOptions,
  io: CliIo,
): Promise<Comparison[]> {
  const systems = [{ name: basename(model), hypotheses: sentences.map(({ translation }) => translation) }]
  for (const file of files) {
    const hypotheses = await fileLines(io, file)
    if (hypotheses.length !== sentences.length) {
      const expected = `${sentences.length} as in the test set`
      throw new AlmaError('ERR_ALMA_CORPUS', `${file}: has ${hypotheses.length} lines, expected ${expected}`)
    }
    systems.push({ name: basename(file), hypotheses })
  }
  const references = sentences.map(({ reference }) => reference)
  const tokenize = /tok:(13a|zh|char|intl|none)/.exec(bleu.signature)?.[1] as '13a' | undefined
  const bleuMetric = new BleuMetric(tokenize === undefined ? {} : { tokenize })
  return await compareTexts(io, systems, references, { test, metrics: [bleuMetric, new ChrfMetric()] })
}

function jsonOf(
  { bleu, chrf, loss, count, tokens, seconds, sentences }: Evaluation,
  comparisons: readonly Comparison[] | undefined,
): string {
  return `${JSON.stringify({ bleu, chrf, loss, count, tokens, seconds, comparisons, sentences })}\n`
}

function textOf(
  { bleu, chrf, loss, count, tokens, seconds }: Evaluation,
  comparisons: readonly Comparison[] | undefined,
): string {
  const lines = [
    `BLEU  ${bleu.score.toFixed(2)}  ${bleu.signature}`,
    `${chrf.name} ${chrf.score.toFixed(2)}  ${chrf.signature}`,
    ...(loss === undefined ? [] : [`loss  ${loss.toFixed(4)} nats a token of the references`]),
    `${count} sentences, ${tokens} tokens in ${seconds.toFixed(1)} s (${(tokens / seconds).toFixed(1)} tokens/s)`,
    ...(comparisons === undefined ? [] : ['', comparisonTable(comparisons).trimEnd()]),
  ]
  return `${lines.join('\n')}\n`
}
