import { type Command, Option } from 'commander'
import { AlmaError } from '../../errors.js'
import { type BleuTokenizer, metrics } from '../../metrics/index.js'
import { type CliIo, fileLines, writeTo } from '../io.js'
import { addJsonOption } from '../model.js'

interface ScoreTextOptions {
  readonly hyp: string
  readonly ref: readonly string[]
  readonly tokenize: BleuTokenizer
  readonly ter: boolean
  readonly json: boolean
}

export function scoreTextCommand(program: Command, io: CliIo): void {
  const command = program
    .command('score-text')
    .description('BLEU, chrF and TER of translations in a file, with the numbers of sacreBLEU')
    .requiredOption('--hyp <file>', 'translations, one a line')
    .requiredOption('--ref <file...>', 'references, one a line; several files are several references')
    .addOption(
      new Option('--tokenize <name>', 'of BLEU; zh for Chinese')
        .choices(['13a', 'intl', 'zh', 'char', 'none'])
        .default('13a'),
    )
    .option('--ter', 'also TER, which takes longer', false)
  addJsonOption(command).action((options: ScoreTextOptions) => scoreText(options, io))
}

async function scoreText(options: ScoreTextOptions, io: CliIo): Promise<void> {
  const { hyp, ref, tokenize, json } = options
  const hypotheses = await fileLines(io, hyp)
  const references: string[][] = []
  for (const file of ref) {
    const lines = await fileLines(io, file)
    if (lines.length !== hypotheses.length) {
      throw new AlmaError(
        'ERR_ALMA_CORPUS',
        `${file}: has ${lines.length} lines, expected ${hypotheses.length} as in ${hyp}`,
      )
    }
    references.push(lines)
  }
  const bleu = metrics.bleu(hypotheses, references, { tokenize })
  const chrf = metrics.chrf(hypotheses, references)
  const ter = options.ter ? metrics.ter(hypotheses, references) : undefined
  const scores = [bleu, chrf, ...(ter === undefined ? [] : [ter])]
  const text = scores
    .map(({ name, score, signature }) => `${name.padEnd(5)} ${score.toFixed(2)}  ${signature}`)
    .join('\n')
  const result = json ? JSON.stringify({ bleu, chrf, ter, count: hypotheses.length }) : text
  await writeTo(io.stdout, `${result}\n`, io.signal)
}
