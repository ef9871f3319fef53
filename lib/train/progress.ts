/** Showing a training run: one line that renews itself on a terminal, and a line of JSON an event in a log file. */
import { type FileHandle, open } from 'node:fs/promises'
import { ioError } from '../errors.js'
import type { TrainingEvent } from './events.js'

/** A place to write to; process.stderr is one. */
export interface TextSink {
  write(text: string): unknown
  readonly isTTY?: boolean
  readonly columns?: number
}

export interface ProgressOptions {
  /** Default process.stderr. On anything but a terminal a line is written for every validation and every tenth of a stage. */
  readonly stream?: TextSink
  /** File that events are appended to as JSON lines, with the time. */
  readonly logFile?: string
}

export interface ProgressReporter {
  /** Pass it as `onProgress`. */
  readonly onProgress: (event: TrainingEvent) => void
  /** Ends the line on the terminal and closes the log. */
  close(): Promise<void>
}

/** @throws AlmaError ERR_ALMA_IO when the log file cannot be opened or written (the latter from close()). */
export async function createProgressReporter(options: ProgressOptions = {}): Promise<ProgressReporter> {
  const { stream = process.stderr, logFile } = options
  let log: FileHandle | undefined
  if (logFile !== undefined) {
    try {
      log = await open(logFile, 'a')
    } catch (error) {
      throw ioError('write', logFile, error)
    }
  }
  let written: Promise<unknown> = Promise.resolve()
  let failure: unknown
  const tty = stream.isTTY === true
  let lineOpen = false
  const line = (text: string): void => {
    stream.write(`${lineOpen ? '\r\u001b[K' : ''}${text}\n`)
    lineOpen = false
  }
  return {
    onProgress(event) {
      if (log !== undefined) {
        const text = `${JSON.stringify({ time: new Date().toISOString(), ...event })}\n`
        const file = log
        written = written
          .then(() => file.appendFile(text))
          .catch((error: unknown) => {
            failure ??= error
          })
      }
      if (event.type === 'step') {
        const tenth = Math.max(1, Math.ceil(event.steps / 10))
        if (tty) {
          stream.write(`\r\u001b[K${bar(event, stream.columns ?? 80)}`)
          lineOpen = true
        } else if (event.record.step % tenth === 0 || event.record.step === event.steps) line(summary(event))
        return
      }
      const text = describe(event)
      if (text !== undefined) line(text)
    },
    async close() {
      if (lineOpen) stream.write('\n')
      lineOpen = false
      await written
      await log?.close()
      log = undefined
      if (failure !== undefined) throw ioError('write', logFile ?? '', failure)
    },
  }
}

type StepEvent = Extract<TrainingEvent, { type: 'step' }>

function bar(event: StepEvent, columns: number): string {
  const text = summary(event)
  const width = Math.min(30, columns - text.length - 4)
  if (width < 5) return text.slice(0, columns - 1)
  const done = Math.round((event.record.step / event.steps) * width)
  return `[${'#'.repeat(done)}${'.'.repeat(width - done)}] ${text}`
}

function summary({ stage, kind, record, steps, tokensPerSecond, secondsLeft }: StepEvent): string {
  return (
    `stage ${stage + 1} ${kind} ${record.step}/${steps} loss ${record.loss.toFixed(3)} ` +
    `${Math.round(tokensPerSecond)} tokens/s ${duration(secondsLeft)} left`
  )
}

function describe(event: TrainingEvent): string | undefined {
  const stage = `stage ${event.stage + 1}`
  switch (event.type) {
    case 'stage':
      return `${stage} ${event.kind}: ${event.steps} steps${event.resumedAt > 0 ? `, resumed at ${event.resumedAt}` : ''}`
    case 'validation':
      return `${stage} step ${event.record.step}: validation loss ${event.record.loss.toFixed(4)}${event.best ? ' (best)' : ''}`
    case 'checkpoint':
      return `${stage} step ${event.step}: checkpoint ${event.path}`
    case 'stoppedEarly':
      return `${stage} step ${event.step}: stopped early after ${event.reason}`
    case 'skipped':
      return `${stage} step ${event.step}: skipped, ${event.reason}`
    default:
      return undefined
  }
}

/** Seconds as 1:05 or 2:03:09. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60]
  const two = (value: number): string => String(value).padStart(2, '0')
  return hours > 0 ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`
}
