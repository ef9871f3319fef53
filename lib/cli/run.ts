/** The command line as a function: arguments and streams in, exit code out. */
import { Command, CommanderError } from 'commander'
import { AlmaError, messageOf } from '../errors.js'
import { packageVersion } from '../package-version.js'
import { benchCommand } from './commands/bench.js'
import { convertCommand } from './commands/convert.js'
import { evaluateCommand } from './commands/evaluate.js'
import { infoCommand } from './commands/info.js'
import { reportCommand } from './commands/report.js'
import { scoreTextCommand } from './commands/score-text.js'
import { trainCommand } from './commands/train.js'
import { translateCommand } from './commands/translate.js'
import type { CliIo } from './io.js'

export const exitCodes = { success: 0, failure: 1, usage: 2, interrupted: 130, terminated: 143 } as const

/**
 * Runs one command.
 *
 * @param args what stands behind the program's name.
 * @returns the exit code: 0, 1 for a failure, 2 for wrong usage, 130 when `io.signal` was aborted.
 */
export async function runCli(args: readonly string[], io: CliIo): Promise<number> {
  try {
    await programFor(io).parseAsync([...args], { from: 'user' })
    return exitCodes.success
  } catch (error) {
    if (io.signal.aborted) return exitCodes.interrupted
    // commander has written its message already; --help and --version come here with exit code 0.
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.success : exitCodes.usage
    const message = error instanceof AlmaError ? `${error.code}: ${error.message}` : messageOf(error)
    io.stderr.write(`alma: ${message}\n`)
    return exitCodes.failure
  }
}

function programFor(io: CliIo): Command {
  const version = packageVersion()
  const program = new Command('alma')
    .description('Turn LLaMA models into translators by the ALMA recipe, and translate with them.')
    .version(version)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void io.stdout.write(text),
      writeErr: (text) => void io.stderr.write(text),
      outputError: (text, write) => write(`alma: ${text}`),
    })
    .showHelpAfterError('(alma --help lists commands and options)')
  translateCommand(program, io)
  trainCommand(program, io)
  reportCommand(program, io)
  evaluateCommand(program, io)
  scoreTextCommand(program, io)
  infoCommand(program, io, version)
  convertCommand(program, io)
  benchCommand(program)
  return program
}
