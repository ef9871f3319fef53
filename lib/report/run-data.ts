/** What is known of a training run, read from its log; the log may be of a run in progress, or damaged. */
import { open } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { AlmaError, ioError } from '../errors.js'
import { isObject, isString } from '../files/json.js'
import { type DataFinding, type DataReport, findingNames } from '../train/data-report.js'
import { EventLoopBudget } from '../train/event-loop.js'
import type { StepRecord, TranslationSample, ValidationRecord } from '../train/events.js'
import { runLogName } from '../train/run-log.js'

export interface RunData {
  /** Name of the folder. */
  readonly name: string
  readonly version: string
  readonly parameters: number | undefined
  readonly dtype: string | undefined
  readonly config: Readonly<Record<string, unknown>>
  readonly device: string | undefined
  /** Times of the first and the last event, ms since 1970. */
  readonly begun: number
  readonly updated: number
  readonly stages: readonly StageData[]
  /** Lines of the log that could not be understood: the end of a killed run, or damage. */
  readonly damagedLines: number
}

/** What a step's line has besides its record. */
export interface StepData extends StepRecord {
  readonly seconds: number
  /** Device memory in use, bytes. */
  readonly memory: number
  readonly peakMemory: number
}

export interface StageData {
  readonly kind: string
  readonly recipe: Readonly<Record<string, unknown>>
  /** Steps that are planned; undefined before the stage begins. */
  readonly plannedSteps: number | undefined
  /** Bytes at the peak. */
  readonly plannedMemory: number | undefined
  readonly steps: readonly StepData[]
  readonly validation: readonly ValidationRecord[]
  readonly data: DataReport | undefined
  readonly notes: readonly { readonly step: number; readonly text: string }[]
  readonly ended: boolean
  readonly bestStep: number | undefined
}

interface MutableStage {
  kind: string
  recipe: Readonly<Record<string, unknown>>
  plannedSteps: number | undefined
  plannedMemory: number | undefined
  steps: StepData[]
  validation: ValidationRecord[]
  data: DataReport | undefined
  notes: { step: number; text: string }[]
  ended: boolean
  bestStep: number | undefined
}

/** @throws AlmaError ERR_ALMA_IO when `folder` has no log, ERR_ALMA_CORPUS when it is not the log of a run */
export async function readRun(folder: string): Promise<RunData> {
  const path = join(folder, runLogName)
  const reader = new LogReader()
  const budget = new EventLoopBudget()
  try {
    const file = await open(path)
    for await (const line of file.readLines({ encoding: 'utf8' })) {
      if (line.trim() !== '') reader.read(line)
      await budget.breathe()
    }
  } catch (error) {
    throw ioError('read', path, error)
  }
  if (reader.stages.length === 0) {
    throw new AlmaError('ERR_ALMA_CORPUS', `${path}: not the log of a training run: it has no line of type "run"`)
  }
  return { name: basename(resolve(folder)), ...reader.result() }
}

type Json = Readonly<Record<string, unknown>>

class LogReader {
  stages: MutableStage[] = []
  #version = 'unknown'
  #model: Json = {}
  #device: Json = {}
  #begun = Number.NaN
  #updated = Number.NaN
  #damaged = 0

  read(line: string): void {
    let event: unknown
    try {
      event = JSON.parse(line)
    } catch {
      this.#damaged++
      return
    }
    if (!isObject(event) || typeof event.type !== 'string') {
      this.#damaged++
      return
    }
    if (event.type === 'run') this.#run(event)
    const time = typeof event.time === 'string' ? Date.parse(event.time) : Number.NaN
    if (Number.isFinite(time)) {
      if (Number.isNaN(this.#begun)) this.#begun = time
      this.#updated = time
    }
    const stage = typeof event.stage === 'number' ? this.stages[event.stage] : undefined
    if (stage !== undefined) readStageEvent(stage, event)
  }

  #run(event: Json): void {
    this.#version = textOf(event.version) ?? 'unknown'
    this.#model = objectOf(event.model)
    this.#device = objectOf(event.device)
    const { resumed } = event
    if (isObject(resumed) && this.stages.length > 0) {
      const [stage, step] = [numberOf(resumed.stage) ?? 0, numberOf(resumed.step) ?? 0]
      // What came behind the checkpoint is done again.
      for (const [index, data] of this.stages.entries()) {
        if (index > stage) reset(data)
        else if (index === stage) cutAt(data, step)
      }
      return
    }
    // Another run in the same folder replaces the one before.
    this.#begun = Number.NaN
    const stages = Array.isArray(event.stages) ? event.stages : []
    this.stages = stages.filter(isObject).map((recipe) => emptyStage(textOf(recipe.kind) ?? 'unknown', recipe))
  }

  result(): Omit<RunData, 'name'> {
    return {
      version: this.#version,
      parameters: numberOf(this.#model.parameters),
      dtype: textOf(this.#model.dtype),
      config: objectOf(this.#model.config),
      device: textOf(this.#device.description),
      begun: this.#begun,
      updated: this.#updated,
      stages: this.stages,
      damagedLines: this.#damaged,
    }
  }
}

function emptyStage(kind: string, recipe: Json): MutableStage {
  return {
    kind,
    recipe,
    plannedSteps: undefined,
    plannedMemory: undefined,
    steps: [],
    validation: [],
    data: undefined,
    notes: [],
    ended: false,
    bestStep: undefined,
  }
}

function reset(stage: MutableStage): void {
  Object.assign(stage, emptyStage(stage.kind, stage.recipe))
}

function cutAt(stage: MutableStage, step: number): void {
  stage.steps = stage.steps.filter((record) => record.step <= step)
  stage.validation = stage.validation.filter((record) => record.step <= step)
  stage.notes = [...stage.notes.filter((note) => note.step <= step), { step, text: 'resumed' }]
  stage.ended = false
}

function readStageEvent(stage: MutableStage, event: Json): void {
  const record = objectOf(event.record)
  const note = (text: string | undefined): void => {
    if (text !== undefined) stage.notes.push({ step: numberOf(event.step) ?? 0, text })
  }
  switch (event.type) {
    case 'stage':
      stage.plannedSteps = numberOf(event.steps)
      return
    case 'memory':
      stage.plannedMemory = numberOf(objectOf(objectOf(event.plan).need).total)
      return
    case 'data':
      stage.data = dataReportOf(objectOf(event.report))
      return
    case 'step': {
      const memory = objectOf(event.memory)
      stage.steps.push({
        step: numberOf(record.step) ?? stage.steps.length + 1,
        loss: numberOf(record.loss) ?? Number.NaN,
        learningRate: numberOf(record.learningRate) ?? Number.NaN,
        gradNorm: numberOf(record.gradNorm) ?? Number.NaN,
        tokens: numberOf(record.tokens) ?? 0,
        ...(isObject(record.metrics) && { metrics: metricsOf(record.metrics) }),
        seconds: numberOf(event.seconds) ?? Number.NaN,
        memory: numberOf(memory.allocated) ?? Number.NaN,
        peakMemory: numberOf(memory.peak) ?? Number.NaN,
      })
      return
    }
    case 'validation':
      stage.validation.push(validationOf(record))
      return
    case 'skipped':
      note(`skipped: ${textOf(event.reason) ?? ''}`)
      return
    case 'stoppedEarly':
      note(`stopped early after ${textOf(event.reason) ?? ''}`)
      return
    case 'stageEnd':
      stage.ended = true
      stage.bestStep = numberOf(objectOf(event.report).bestStep)
  }
}

function validationOf(record: Json): ValidationRecord {
  const [bleu, chrf] = [numberOf(record.bleu), numberOf(record.chrf)]
  const losses = Object.entries(objectOf(record.losses)).map(([name, loss]) => [name, numberOf(loss) ?? Number.NaN])
  const scores = Object.entries(objectOf(record.scores)).map(([name, value]) => {
    const score = objectOf(value)
    return [name, { bleu: numberOf(score.bleu) ?? Number.NaN, chrf: numberOf(score.chrf) ?? Number.NaN }]
  })
  const samples = listOf(record.samples).map(sampleOf)
  return {
    step: numberOf(record.step) ?? 0,
    loss: numberOf(record.loss) ?? Number.NaN,
    losses: Object.fromEntries(losses) as Record<string, number>,
    ...(isObject(record.metrics) && { metrics: metricsOf(record.metrics) }),
    ...(bleu !== undefined && { bleu }),
    ...(chrf !== undefined && { chrf }),
    scores: Object.fromEntries(scores) as Record<string, { bleu: number; chrf: number }>,
    samples,
  }
}

const metricsOf = (metrics: Json): Record<string, number> =>
  Object.fromEntries(Object.entries(metrics).map(([name, value]) => [name, numberOf(value) ?? Number.NaN]))

function sampleOf(sample: Json): TranslationSample {
  const field = (name: string): string => textOf(sample[name]) ?? ''
  return {
    direction: field('direction'),
    source: field('source'),
    reference: field('reference'),
    translation: field('translation'),
  }
}

function dataReportOf(report: Json): DataReport {
  return {
    files: listOf(report.files).map((file) => {
      const tokens = numberOf(file.tokens)
      return {
        path: textOf(file.path) ?? '',
        languages: textOf(file.languages) ?? '',
        read: numberOf(file.read) ?? 0,
        complete: file.complete === true,
        kept: numberOf(file.kept) ?? 0,
        ...(tokens !== undefined && { tokens }),
        findings: listOf(file.findings)
          .filter(({ finding }) => Object.hasOwn(findingNames, String(finding)))
          .map(({ finding, dropped, count, lines }) => ({
            finding: finding as DataFinding,
            dropped: dropped === true,
            count: numberOf(count) ?? 0,
            lines: Array.isArray(lines) ? lines.filter((line) => typeof line === 'number') : [],
          })),
        warnings: Array.isArray(file.warnings) ? file.warnings.filter(isString) : [],
      }
    }),
  }
}

const listOf = (value: unknown): Json[] => (Array.isArray(value) ? value.filter(isObject) : [])
const objectOf = (value: unknown): Json => (isObject(value) ? value : {})
const numberOf = (value: unknown): number | undefined =>
  typeof value === 'number' && Number.isFinite(value) ? value : undefined
const textOf = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)
