/** Showing a training run: one line that renews itself on a terminal, and a line of JSON an event in a log file. */
import { droppedText } from './data-check.js'
import { type DataReport, findingNames } from './data-report.js'
import type { TrainingEvent, ValidationRecord } from './events.js'
import { describePlan } from './memory-plan.js'
import { openRunLog } from './run-log.js'

/** A place to write to; process.stderr is one. */
export interface TextSink {
  write(text: string): unknown
  readonly isTTY?: boolean
  readonly columns?: number
}

export interface ProgressOptions {
  /** Default process.stderr. On anything but a terminal a line is written for every validation and every tenth of a stage. */
  readonly stream?: TextSink
  /** File that events are appended to as JSON lines, with the time. A run with an output folder has such a log in there already. */
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
  const log = logFile === undefined ? undefined : await openRunLog(logFile)
  const tty = stream.isTTY === true
  let lineOpen = false
  const line = (text: string): void => {
    stream.write(`${lineOpen ? '\r\u001b[K' : ''}${text}\n`)
    lineOpen = false
  }
  return {
    onProgress(event) {
      log?.append(event)
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
      await log?.close()
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
  const { step, loss, gradNorm, learningRate } = record
  return (
    `stage ${stage + 1} ${kind} ${step}/${steps} loss ${loss.toFixed(3)} grad ${shortNumber(gradNorm)} ` +
    `lr ${learningRate.toExponential(1)} ${Math.round(tokensPerSecond)} tokens/s ${duration(secondsLeft)} left`
  )
}

const shortNumber = (value: number): string => (value < 1000 ? value.toPrecision(3) : value.toExponential(1))

function evaluated({ step, loss, bleu, chrf }: ValidationRecord): string {
  const scores = bleu === undefined || chrf === undefined ? '' : `, BLEU ${bleu.toFixed(1)}, chrF ${chrf.toFixed(1)}`
  return `step ${step}: validation loss ${loss.toFixed(4)}${scores}`
}

function describe(event: TrainingEvent): string | undefined {
  if (event.type === 'run') {
    const { model, device } = event
    return `${model.parameters.toLocaleString('en')} weights (${model.dtype}) on ${device.description}`
  }
  const stage = `stage ${event.stage + 1}`
  switch (event.type) {
    case 'stage':
      return `${stage} ${event.kind}: ${event.steps} steps${event.resumedAt > 0 ? `, resumed at ${event.resumedAt}` : ''}`
    case 'validation':
      return `${stage} ${evaluated(event.record)}${event.best ? ' (best)' : ''}`
    case 'checkpoint':
      return `${stage} step ${event.step}: checkpoint ${event.path}`
    case 'memory':
      return `${stage} memory: ${describePlan(event.plan)}`
    case 'data':
      return dataLines(stage, event.report).join('\n')
    case 'stoppedEarly':
      return `${stage} step ${event.step}: stopped early after ${event.reason}`
    case 'skipped':
      return `${stage} step ${event.step}: skipped, ${event.reason}`
    default:
      return undefined
  }
}

function dataLines(stage: string, { files }: DataReport): string[] {
  return files.flatMap(({ path, read, complete, kept, findings, warnings }) => {
    const dropped = findings.some((finding) => finding.dropped) ? `; ${droppedText(findings, findingNames)}` : ''
    const part = complete ? '' : 'the first '
    return [
      `${stage} data: ${path}: ${part}${read} read, ${kept} to train on${dropped}`,
      ...warnings.map((text) => `${stage} data: ${path}: warning: ${text}`),
    ]
  })
}

/** Seconds as 1:05 or 2:03:09. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60]
  const two = (value: number): string => String(value).padStart(2, '0')
  return hours > 0 ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`
}
