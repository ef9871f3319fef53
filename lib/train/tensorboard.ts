/** A run as TensorBoard shows it: a folder for every stage, with the scalars of its steps and evaluations. */
import { type FileHandle, mkdir, open } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { ioError } from '../errors.js'
import type { TrainingEvent, ValidationRecord } from './events.js'
import { fileVersion, type Scalar, scalars, sessionStart } from './tensorboard-events.js'

/** In the output folder of a run. */
export const tensorboardFolder = 'tensorboard'

type StageBegin = Extract<TrainingEvent, { type: 'stage' }>

/** Writes event files below `folder`; a resumed stage gets a further file, whose steps take the place of those done twice. */
export class TensorboardWriter {
  readonly #folder: string
  #file: FileHandle | undefined
  #path = ''
  #written: Promise<void> = Promise.resolve()
  #failure: unknown

  constructor(folder: string) {
    this.#folder = folder
  }

  append(event: TrainingEvent): void {
    const wallTime = Date.now() / 1000
    if (event.type === 'stage') this.#enqueue(() => this.#begin(event, wallTime))
    const bytes = bytesOf(event, wallTime)
    if (bytes !== undefined) this.#enqueue(async () => void (await this.#file?.appendFile(bytes)))
  }

  /** @throws AlmaError ERR_ALMA_IO when something could not be written */
  async close(): Promise<void> {
    await this.#written
    await this.#file?.close()
    this.#file = undefined
    if (this.#failure !== undefined) throw ioError('write', this.#path, this.#failure)
  }

  #enqueue(work: () => Promise<void>): void {
    this.#written = this.#written
      .then(() => (this.#failure === undefined ? work() : undefined))
      .catch((error: unknown) => {
        this.#failure = error
      })
  }

  async #begin({ stage, kind, resumedAt }: StageBegin, wallTime: number): Promise<void> {
    await this.#file?.close()
    this.#file = undefined
    const folder = join(this.#folder, `stage-${stage + 1}-${kind}`)
    // Milliseconds make the name new for a run that resumes within the second; TensorBoard reads files in the order of names.
    const name = `events.out.tfevents.${wallTime.toFixed(3)}.${hostname()}.${process.pid}`
    this.#path = join(folder, name)
    await mkdir(folder, { recursive: true })
    this.#file = await open(this.#path, 'a')
    await this.#file.appendFile(Buffer.concat([fileVersion(wallTime), sessionStart(wallTime, resumedAt + 1)]))
  }
}

function bytesOf(event: TrainingEvent, wallTime: number): Buffer | undefined {
  if (event.type === 'step') {
    const { step, loss, learningRate, gradNorm, tokens, metrics = {} } = event.record
    return scalars(wallTime, step, [
      { tag: 'train/loss', value: loss },
      { tag: 'train/grad_norm', value: gradNorm },
      { tag: 'train/learning_rate', value: learningRate },
      { tag: 'speed/tokens_per_second', value: tokens / Math.max(1e-9, event.seconds) },
      { tag: 'memory/allocated_bytes', value: event.memory.allocated },
      { tag: 'memory/peak_bytes', value: event.memory.peak },
      ...Object.entries(metrics).map(([name, value]) => ({ tag: `train/${name}`, value })),
    ])
  }
  if (event.type === 'validation') return scalars(wallTime, event.record.step, evaluationScalars(event.record))
  return undefined
}

function evaluationScalars({ loss, losses = {}, metrics = {}, bleu, chrf, scores = {} }: ValidationRecord): Scalar[] {
  const all: [string, number | undefined][] = [
    ['eval/loss', loss],
    ...Object.entries(losses).map(([name, value]): [string, number] => [`eval/loss_${name}`, value]),
    ...Object.entries(metrics).map(([name, value]): [string, number] => [`eval/${name}`, value]),
    ['eval/bleu', bleu],
    ['eval/chrf', chrf],
    ...Object.entries(scores).flatMap(([name, score]): [string, number][] => [
      [`eval/bleu_${name}`, score.bleu],
      [`eval/chrf_${name}`, score.chrf],
    ]),
  ]
  return all.flatMap(([tag, value]) => (value === undefined ? [] : [{ tag, value }]))
}
