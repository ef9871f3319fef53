#!/usr/bin/env node
import { ioError } from '../errors.js'
import { exitCodes, runCli } from './run.js'

const controller = new AbortController()
let exitCodeOfSignal: number | undefined

// The first Ctrl-C ends the work in order (a training run writes a checkpoint), the second one ends it at once.
for (const [signal, code] of [
  ['SIGINT', exitCodes.interrupted],
  ['SIGTERM', exitCodes.terminated],
] as const) {
  process.on(signal, () => {
    if (exitCodeOfSignal !== undefined) process.exit(code)
    exitCodeOfSignal = code
    controller.abort(new Error(signal))
  })
}

// `alma translate … | head`: nobody reads on, which is no failure of ours.
let lostOutput: NodeJS.ErrnoException | undefined
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  lostOutput ??= error
  controller.abort(error)
})

const { stdin, stdout, stderr } = process
const exitCode = await runCli(process.argv.slice(2), { stdin, stdout, stderr, signal: controller.signal })
if (lostOutput === undefined) process.exitCode = exitCodeOfSignal ?? exitCode
else if (lostOutput.code !== 'EPIPE') {
  stderr.write(`alma: ERR_ALMA_IO: ${ioError('write', 'stdout', lostOutput).message}\n`)
  process.exitCode = exitCodes.failure
}
// It may still be waiting for a line, as at a terminal, and would keep the process alive.
stdin.destroy()
