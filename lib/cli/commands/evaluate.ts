import type { Command } from 'commander'
import type { Evaluation } from '../../evaluate.js'
import { resolveLanguage } from '../../text/index.js'
import { type CliIo, openOutput, StatusLine, writeTo } from '../io.js'
import { addJsonOption, addModelOptions, loadModel, type ModelOptions } from '../model.js'
import { addDecodingOptions, addLanguageOptions, type DecodingFlags, decodingFlags } from './translate.js'

interface EvaluateCommandOptions extends ModelOptions, DecodingFlags {
  readonly from: string
  readonly to: string
  readonly test: string
  readonly output?: string
  readonly json: boolean
}

export function evaluateCommand(program: Command, io: CliIo): void {
  const command = program.command('evaluate').description('translate a test set and compare with its references')
  addJsonOption(addDecodingOptions(addLanguageOptions(addModelOptions(command))))
    .requiredOption('--test <file>', 'sentence pairs: ALMA JSON, JSON Lines or TSV, plain or gzip')
    .option('--output <file>', 'file for the translations, one a line')
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
    await writeTo(io.stdout, json ? jsonOf(result) : textOf(result), io.signal)
  } finally {
    status.clear()
    await output?.close()
  }
}

function jsonOf({ bleu, chrf, loss, count, tokens, seconds, sentences }: Evaluation): string {
  return `${JSON.stringify({ bleu, chrf, loss, count, tokens, seconds, sentences })}\n`
}

function textOf({ bleu, chrf, loss, count, tokens, seconds }: Evaluation): string {
  const lines = [
    `BLEU  ${bleu.score.toFixed(2)}  ${bleu.signature}`,
    `${chrf.name} ${chrf.score.toFixed(2)}  ${chrf.signature}`,
    ...(loss === undefined ? [] : [`loss  ${loss.toFixed(4)} nats a token of the references`]),
    `${count} sentences, ${tokens} tokens in ${seconds.toFixed(1)} s (${(tokens / seconds).toFixed(1)} tokens/s)`,
  ]
  return `${lines.join('\n')}\n`
}
