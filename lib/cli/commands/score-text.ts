import { basename } from 'node:path'
import { type Command, Option } from 'commander'
import { AlmaError } from '../../errors.js'
import {
  BleuMetric,
  type BleuSmoothing,
  type BleuTokenizer,
  ChrfMetric,
  confidence,
  metrics,
  type PieceTokenizer,
  type SegmentMetric,
  type SignificanceTest,
  sentenceBleu,
  sentenceChrf,
  sentencePieceTokenizer,
  sentenceTer,
  TerMetric,
} from '../../metrics/index.js'
import { integer } from '../arguments.js'
import { compareTexts, comparisonTable } from '../compare-texts.js'
import { type CliIo, fileLines, writeTo } from '../io.js'
import { addJsonOption } from '../model.js'

interface ScoreTextOptions {
  readonly hyp?: string
  readonly ref: readonly string[]
  readonly compare?: readonly string[]
  readonly test: SignificanceTest
  readonly samples?: number
  readonly seed?: number
  readonly confidence: boolean
  readonly sentenceLevel: boolean
  readonly tokenize: string
  readonly spmModel?: string
  readonly smoothMethod: BleuSmoothing
  readonly lowercase: boolean
  readonly chrfWordOrder: number
  readonly ter: boolean
  readonly json: boolean
}

export function scoreTextCommand(program: Command, io: CliIo): void {
  const command = program
    .command('score-text')
    .description('BLEU, chrF and TER of translations in files, with the numbers of sacreBLEU')
    .option('--hyp <file>', 'translations, one a line')
    .requiredOption('--ref <file...>', 'references, one a line; several files are several references')
    .option(
      '--compare <file...>',
      'systems to compare with the first of them (or with --hyp): is the difference chance?',
    )
    .addOption(
      new Option('--test <name>', 'how systems are compared')
        .choices(['bootstrap', 'randomization'])
        .default('bootstrap'),
    )
    .option('--samples <number>', 'resamples of a comparison (default 1000, randomization 10000)', integer(1))
    .option('--seed <number>', 'of the resamples (default 12345, as sacreBLEU)', integer(0))
    .option('--confidence', 'with 95 % confidence intervals', false)
    .option('--sentence-level', 'a line of scores for every line of --hyp', false)
    .addOption(
      new Option('--tokenize <name>', 'of BLEU; zh for Chinese')
        .choices(['13a', 'intl', 'zh', 'char', 'none', 'spm', 'flores101', 'flores200'])
        .default('13a'),
    )
    .option('--spm-model <file>', 'the SentencePiece model of spm, flores101 or flores200')
    .addOption(
      new Option('--smooth-method <name>', 'of BLEU').choices(['exp', 'floor', 'add-k', 'none']).default('exp'),
    )
    .option('--lowercase', 'ignore case in BLEU and chrF', false)
    .option('--chrf-word-order <number>', '2 makes chrF++ (default 0)', integer(0), 0)
    .option('--ter', 'also TER, which takes longer', false)
  addJsonOption(command).action((options: ScoreTextOptions) => scoreText(options, io))
}

async function scoreText(options: ScoreTextOptions, io: CliIo): Promise<void> {
  const { hyp, compare } = options
  if (compare !== undefined) return await compareFiles(options, io)
  if (hyp === undefined) throw new AlmaError('ERR_ALMA_OPTION', '--hyp or --compare: the files to score are needed')
  const hypotheses = await fileLines(io, hyp)
  const references = await referencesOf(io, options.ref, hypotheses.length, hyp)
  const tokenize = await tokenizerOf(options)
  const chosen = metricsOf(options, tokenize)
  if (options.sentenceLevel) return await sentences(options, tokenize, hypotheses, references, io)
  if (options.confidence) {
    const results = await confidence(hypotheses, references, {
      metrics: chosen,
      ...samplingOf(options),
      signal: io.signal,
    })
    const text = results
      .map(({ metric, score, interval: { mean, margin }, signature }) => {
        return `${metric.padEnd(5)} ${score.toFixed(2)} (${mean.toFixed(2)} ± ${margin.toFixed(2)})  ${signature}\n`
      })
      .join('')
    return await writeTo(io.stdout, options.json ? `${JSON.stringify(results)}\n` : text, io.signal)
  }
  const { smoothMethod, lowercase, chrfWordOrder: wordOrder } = options
  const bleu = metrics.bleu(hypotheses, references, { tokenize, smoothMethod, lowercase })
  const chrf = metrics.chrf(hypotheses, references, { lowercase, wordOrder })
  const ter = options.ter ? metrics.ter(hypotheses, references) : undefined
  const scores = [bleu, chrf, ...(ter === undefined ? [] : [ter])]
  const text = scores
    .map(({ name, score, signature }) => `${name.padEnd(5)} ${score.toFixed(2)}  ${signature}`)
    .join('\n')
  const result = options.json ? JSON.stringify({ bleu, chrf, ter, count: hypotheses.length }) : text
  await writeTo(io.stdout, `${result}\n`, io.signal)
}

async function compareFiles(options: ScoreTextOptions, io: CliIo): Promise<void> {
  const { hyp, compare = [], json, test } = options
  const files = [...(hyp === undefined ? [] : [hyp]), ...compare]
  const systems = []
  for (const file of files) systems.push({ name: nameOf(file, files), hypotheses: await fileLines(io, file) })
  const [first] = systems
  const references = await referencesOf(io, options.ref, first?.hypotheses.length ?? 0, files[0] ?? '')
  const comparisons = await compareTexts(io, systems, references, {
    test,
    metrics: metricsOf(options, await tokenizerOf(options)),
    ...samplingOf(options),
  })
  await writeTo(io.stdout, json ? `${JSON.stringify(comparisons)}\n` : comparisonTable(comparisons), io.signal)
}

async function sentences(
  { smoothMethod, lowercase, chrfWordOrder: wordOrder, ter, json }: ScoreTextOptions,
  tokenize: BleuTokenizer | PieceTokenizer,
  hypotheses: readonly string[],
  references: readonly (readonly string[])[],
  io: CliIo,
): Promise<void> {
  for (const [line, hypothesis] of hypotheses.entries()) {
    const own = references.map((stream) => stream[line] ?? '')
    const scores = [
      sentenceBleu(hypothesis, own, { tokenize, smoothMethod, lowercase }),
      sentenceChrf(hypothesis, own, { lowercase, wordOrder }),
      ...(ter ? [sentenceTer(hypothesis, own)] : []),
    ]
    const text = json
      ? JSON.stringify(Object.fromEntries(scores.map(({ name, score }) => [name, score])))
      : scores.map(({ name, score }) => `${name} ${score.toFixed(2)}`).join('\t')
    await writeTo(io.stdout, `${text}\n`, io.signal)
  }
}

async function referencesOf(io: CliIo, files: readonly string[], count: number, hyp: string): Promise<string[][]> {
  const references: string[][] = []
  for (const file of files) {
    const lines = await fileLines(io, file)
    if (lines.length !== count) {
      throw new AlmaError('ERR_ALMA_CORPUS', `${file}: has ${lines.length} lines, expected ${count} as in ${hyp}`)
    }
    references.push(lines)
  }
  return references
}

async function tokenizerOf({ tokenize, spmModel }: ScoreTextOptions): Promise<BleuTokenizer | PieceTokenizer> {
  const needsModel = ['spm', 'flores101', 'flores200'].includes(tokenize)
  if (!needsModel && spmModel === undefined) return tokenize as BleuTokenizer
  if (spmModel === undefined) {
    throw new AlmaError(
      'ERR_ALMA_OPTION',
      `--tokenize ${tokenize}: needs --spm-model, which is not part of this package`,
    )
  }
  // sacreBLEU's `spm` is the tokenizer of FLORES-101, and its signature says so.
  return await sentencePieceTokenizer(spmModel, !needsModel ? 'spm' : tokenize === 'spm' ? 'flores101' : tokenize)
}

function metricsOf(
  { smoothMethod, lowercase, chrfWordOrder, ter }: ScoreTextOptions,
  tokenize: BleuTokenizer | PieceTokenizer,
): SegmentMetric[] {
  return [
    new BleuMetric({ tokenize, smoothMethod, lowercase }),
    new ChrfMetric({ lowercase, wordOrder: chrfWordOrder }),
    ...(ter ? [new TerMetric()] : []),
  ]
}

function samplingOf({ samples, seed }: ScoreTextOptions): { samples?: number; seed?: number } {
  return { ...(samples !== undefined && { samples }), ...(seed !== undefined && { seed }) }
}

/** The file's own name, or its path where that is not enough to tell the files apart. */
function nameOf(file: string, files: readonly string[]): string {
  const name = basename(file)
  return files.filter((other) => basename(other) === name).length > 1 ? file : name
}
