/** The loop of one stage: data in, steps, validation, checkpoints. */
import { rm } from 'node:fs/promises'
import { AlmaError } from '../errors.js'
import type { LlamaForCausalLM } from '../model/index.js'
import { Tensor } from '../runtime/index.js'
import type { Tokenizer, TrainingExample } from '../text/index.js'
import { type MicroBatch, microBatches, sequencesOf } from './batches.js'
import { standingOf, stopsEarly } from './best-evaluation.js'
import {
  bestWeightsPath,
  type Checkpoint,
  type NamedTensors,
  restoreTensors,
  type TrainingState,
  tensorsOfCheckpoint,
  writeBestWeights,
  writeCheckpoint,
} from './checkpoint.js'
import { writeDivergedBatch } from './diverged-batch.js'
import { Evaluation } from './evaluation.js'
import type { StageReport, StepRecord, TrainingEvent, ValidationRecord } from './events.js'
import { countExamples, type ExampleState, type ExampleStream, openExamples } from './examples.js'
import type { MemoryPlan } from './memory-plan.js'
import { type Objective, objectiveOf } from './objective.js'
import { Optimizer } from './optimizer.js'
import { learningRateAt, warmupSteps } from './schedule.js'
import { isCounted, StageCorpus } from './stage-corpus.js'
import { earlierMicroBatchTokens, planStage } from './stage-memory.js'
import type { ResolvedStage } from './stages.js'

/** Steps in a row without finite gradients after which going on is pointless. */
const MOST_SKIPPED_IN_A_ROW = 10

/** Room between the numbers of micro-batches of two steps. */
const MICRO_STEPS = 4096

export interface StageRun {
  readonly model: LlamaForCausalLM
  readonly tokenizer: Tokenizer
  readonly stages: readonly ResolvedStage[]
  /** Which of them. */
  readonly index: number
  readonly stage: ResolvedStage
  /** Reports of the stages before. */
  readonly finished: readonly StageReport[]
  /** Folder for checkpoints; none are written without. */
  readonly output?: string
  /** A checkpoint of this very stage, to go on from. */
  readonly checkpoint?: Checkpoint
  /** Whether checkpoints need the frozen weights under an adapter as well: earlier stages of the run changed them. */
  readonly savesBase?: boolean
  /** Folder for token caches. */
  readonly tokenCache?: string
  readonly signal?: AbortSignal
  readonly onEvent?: (event: TrainingEvent) => void
}

type StartedStep = Omit<StepRecord, 'loss' | 'gradNorm' | 'metrics'>

interface StepBatch {
  readonly micro: readonly MicroBatch[]
  readonly tokens: number
  readonly targets: number
  /** Where the stream stands behind this batch. */
  readonly examples: ExampleState
}

/** Trains one stage to its end. The model keeps the last (or best) weights, also when this throws. */
export async function trainStage(run: StageRun): Promise<StageReport> {
  const trainer = new StageTrainer(run)
  try {
    return await trainer.run()
  } finally {
    await trainer.dispose()
  }
}

class StageTrainer {
  readonly #run: StageRun
  readonly #plan: MemoryPlan
  readonly #optimizer: Optimizer
  readonly #objective: Objective
  /** i32 [1]: number of the micro-batch, on which dropout depends. */
  readonly #microStep: Tensor
  #corpus: StageCorpus | undefined
  #stream: ExampleStream | undefined
  #evaluation: Evaluation | undefined

  #step = 0
  #examples: ExampleState | null = null
  #losses: StepRecord[] = []
  #validation: ValidationRecord[] = []
  #tokens = 0
  #seconds = 0
  #skipped = 0
  #skippedInARow = 0

  constructor(run: StageRun) {
    this.#run = run
    const { model, stage, checkpoint } = run
    const keptTokens = checkpoint && (checkpoint.state.microBatchTokens ?? earlierMicroBatchTokens)
    this.#plan = planStage(model, stage, run.index, keptTokens)
    model.activationCheckpointing = this.#plan.activationCheckpointing
    const { betas, epsilon, weightDecay, maxGradNorm, stochasticRounding = false, seed } = stage
    this.#optimizer = new Optimizer(model, { betas, epsilon, weightDecay, maxGradNorm, stochasticRounding, seed })
    this.#objective = objectiveOf(run.model.device, stage)
    this.#microStep = Tensor.zeros(run.model.device, [1], 'i32')
    if (run.model.adapter !== undefined)
      run.model.adapter.dropoutState = { seed: run.stage.seed, step: this.#microStep }
  }

  async run(): Promise<StageReport> {
    const { tokenizer, stage, index, checkpoint, signal } = this.#run
    signal?.throwIfAborted()
    this.#emit({ type: 'memory', plan: this.#plan })
    if (checkpoint !== undefined) await this.#restore(checkpoint)
    const { tokenCache } = this.#run
    const corpus = await StageCorpus.open(tokenizer, stage, {
      ...(tokenCache !== undefined && { tokenCache }),
      ...(signal && { signal }),
    })
    this.#corpus = corpus
    this.#emit({ type: 'data', report: corpus.report })
    const totalSteps = await stageSteps(corpus, stage)
    const evaluation = await Evaluation.open(this.#run.model, tokenizer, stage)
    this.#evaluation = evaluation
    const every = (steps = 0.1): number => (steps < 1 ? Math.max(1, Math.ceil(totalSteps * steps)) : steps)
    const evaluationSteps = evaluation.isEmpty ? Infinity : every(stage.evaluationSteps)
    const saveSteps = this.#run.output === undefined ? Infinity : every(stage.saveSteps)
    const epochs = stage.epochs ?? (isCounted(stage) ? 1 : Infinity)
    this.#stream = openExamples(corpus, stage, epochs, this.#examples ?? undefined)
    this.#emit({ type: 'stage', steps: totalSteps, resumedAt: this.#step })
    // Before the first step, at intervals and after the last. A run that was stopped inside one does it when it goes on.
    const evaluationDue = (): boolean =>
      evaluationSteps !== Infinity &&
      (this.#step % evaluationSteps === 0 || this.#step === totalSteps) &&
      this.#validation.at(-1)?.step !== this.#step
    const isLastStage = index === this.#run.stages.length - 1
    if (evaluationDue()) await this.#evaluate()

    const begin = performance.now() - this.#seconds * 1000
    let next = this.#fetch(totalSteps)
    while (this.#step < totalSteps && !this.#stopsEarly) {
      const stepBegin = performance.now()
      const batch = await next
      if (batch === undefined) break
      const record = this.#enqueueStep(batch, totalSteps)
      // While the device computes, the next batch is read and tokenised.
      next = this.#step < totalSteps ? this.#fetch(totalSteps) : Promise.resolve(undefined)
      next.catch(() => {}) // it is awaited in the next turn; until then an early failure must not count as unhandled
      await this.#finishStep(record, batch)
      this.#seconds = (performance.now() - begin) / 1000
      this.#reportStep(totalSteps, (performance.now() - stepBegin) / 1000)
      if (evaluationDue()) await this.#evaluateUnlessAborted()
      const last = this.#step === totalSteps || this.#stopsEarly
      // After the last step of the last stage the model itself is saved.
      const saveDue = last ? !isLastStage : this.#step % saveSteps === 0
      if (saveDue || signal?.aborted === true) await this.#save()
      if (signal?.aborted === true) {
        await next.catch(() => {})
        signal.throwIfAborted()
      }
    }
    await next.catch(() => {}) // read ahead when the stage ended early
    return await this.#end(index, totalSteps)
  }

  get #best(): ValidationRecord | undefined {
    return standingOf(this.#validation, this.#run.stage).best
  }

  get #stopsEarly(): boolean {
    return stopsEarly(this.#validation, this.#run.stage)
  }

  async dispose(): Promise<void> {
    this.#run.model.activationCheckpointing = 'none'
    this.#optimizer.dispose()
    this.#objective.dispose()
    if (this.#run.model.adapter !== undefined) this.#run.model.adapter.dropoutState = undefined
    this.#microStep.dispose()
    await this.#stream?.close()
    await this.#corpus?.close()
  }

  /** The next step's examples; undefined at the end of the data. */
  async #fetch(totalSteps: number): Promise<StepBatch | undefined> {
    const { stage } = this.#run
    const stream = this.#stream
    if (stream === undefined || this.#step >= totalSteps) return undefined
    const examples: TrainingExample[] = []
    while (examples.length < stage.batchSize) {
      const example = await stream.next()
      if (example === undefined) break
      examples.push(example)
    }
    if (examples.length === 0) return undefined
    this.#run.model.checkTokenIds(sequencesOf(examples))
    const micro = microBatches(examples, stage.microBatchSize, this.#plan.microBatchTokens)
    return {
      micro,
      tokens: micro.reduce((sum, batch) => sum + batch.tokens, 0),
      targets: micro.reduce((sum, batch) => sum + batch.targets, 0),
      examples: stream.state(),
    }
  }

  /** Enqueues forward, backward and update of a step; returns without waiting for them. */
  #enqueueStep(batch: StepBatch, totalSteps: number): StartedStep {
    const { model, stage } = this.#run
    const learningRate = learningRateAt(this.#step, {
      schedule: stage.schedule,
      learningRate: stage.learningRate,
      warmupSteps: warmupSteps(totalSteps, stage.warmupRatio),
      totalSteps,
    })
    this.#optimizer.zeroGradients()
    this.#objective.enqueue(model, batch, (index) =>
      this.#microStep.write(Int32Array.of((this.#step * MICRO_STEPS + index) % 2 ** 31)),
    )
    this.#optimizer.step(learningRate, this.#objective.lossSum)
    this.#step++
    return { step: this.#step, learningRate, tokens: batch.tokens }
  }

  async #finishStep(started: StartedStep, batch: StepBatch): Promise<void> {
    const [stepLoss, [gradNorm = Number.NaN]] = await Promise.all([
      this.#objective.read(batch),
      this.#optimizer.gradNorm.readFloats(),
    ])
    this.#examples = batch.examples
    this.#tokens += batch.tokens
    const record = { ...started, ...stepLoss, gradNorm }
    const { loss } = record
    this.#losses.push(record)
    if (isFiniteStep(record)) {
      this.#skippedInARow = 0
      return
    }
    this.#skipped++
    this.#skippedInARow++
    const reason = `loss ${loss}, gradient norm ${gradNorm}: no weight was changed`
    this.#emit({ type: 'skipped', step: this.#step, reason })
    if (this.#skippedInARow >= MOST_SKIPPED_IN_A_ROW) await this.#stopDiverged(record, batch, reason)
  }

  async #stopDiverged(record: StepRecord, { micro }: StepBatch, reason: string): Promise<never> {
    const { output, index, tokenizer, stage } = this.#run
    const path =
      output === undefined ? undefined : await writeDivergedBatch(output, { stage: index, record, micro }, tokenizer)
    throw new AlmaError(
      'ERR_ALMA_DIVERGED',
      `stage ${index + 1}, step ${this.#step}: ${MOST_SKIPPED_IN_A_ROW} steps in a row without finite gradients ` +
        `(${reason}); try a lower learningRate than ${stage.learningRate} or a longer warm-up` +
        `${path === undefined ? '' : `; the last of their batches is in ${path}`}`,
    )
  }

  async #evaluate(): Promise<void> {
    if (this.#evaluation === undefined) return
    const record = await this.#evaluation.measure(this.#step, this.#run.signal)
    this.#validation.push(record)
    const best = this.#best === record
    const { output, stage, index } = this.#run
    if (best && stage.keepBest && output !== undefined) await writeBestWeights(output, index, this.#weights())
    this.#emit({ type: 'validation', record, best })
  }

  async #evaluateUnlessAborted(): Promise<void> {
    try {
      await this.#evaluate()
    } catch (error) {
      if (this.#run.signal?.aborted !== true) throw error
    }
  }

  async #save(): Promise<void> {
    const { output, index, stages, finished } = this.#run
    if (output === undefined) return
    const state: TrainingState = {
      format: 1,
      stages,
      finished,
      stage: index,
      step: this.#step,
      examples: this.#examples,
      losses: this.#losses,
      validation: this.#validation,
      best: this.#best ?? null,
      tokens: this.#tokens,
      seconds: this.#seconds,
      skippedSteps: this.#skipped,
      microBatchTokens: this.#plan.microBatchTokens,
    }
    const path = await withTensors(this.#state(), (tensors) => writeCheckpoint(output, state, tensors))
    this.#emit({ type: 'checkpoint', step: this.#step, path })
  }

  async #restore(checkpoint: Checkpoint): Promise<void> {
    const { state } = checkpoint
    this.#step = state.step
    this.#examples = state.examples
    this.#losses = state.losses.map(withNumbers)
    this.#skippedInARow = this.#losses.length - 1 - this.#losses.findLastIndex(isFiniteStep)
    this.#validation = [...state.validation]
    this.#tokens = state.tokens
    this.#seconds = state.seconds
    this.#skipped = state.skippedSteps
    this.#optimizer.steps = state.step
    await withTensors(this.#state(), (tensors) => restoreTensors(tensorsOfCheckpoint(checkpoint), tensors))
    this.#optimizer.publishMaster()
  }

  async #end(index: number, totalSteps: number): Promise<StageReport> {
    const { stage, output } = this.#run
    const best = this.#best
    const stoppedEarly = this.#stopsEarly && this.#step < totalSteps
    if (stoppedEarly) {
      const reason = `${stage.earlyStoppingPatience} evaluations without a better ${stage.metricForBestModel ?? 'loss'}`
      this.#emit({ type: 'stoppedEarly', step: this.#step, reason })
    }
    const restoresBest = stage.keepBest && output !== undefined && best !== undefined
    if (restoresBest && best.step !== this.#step) {
      await withTensors(this.#weights(), (tensors) => restoreTensors(bestWeightsPath(output, index), tensors))
      this.#optimizer.publishMaster()
    }
    if (restoresBest) await rm(bestWeightsPath(output, index), { force: true })
    const report: StageReport = {
      kind: stage.kind,
      steps: this.#step,
      tokens: this.#tokens,
      seconds: this.#seconds,
      losses: this.#losses,
      validation: this.#validation,
      skippedSteps: this.#skipped,
      ...(restoresBest && { bestStep: best.step }),
      ...(stoppedEarly && { stoppedEarly }),
    }
    this.#emit({ type: 'stageEnd', report })
    return report
  }

  /** What a checkpoint holds: weights and moments that are trained, and the frozen weights if they are nowhere else. */
  *#state(): IterableIterator<[name: string, part: Tensor]> {
    yield* this.#optimizer.state()
    if (this.#run.savesBase !== true) return
    for (const [name, tensor] of this.#run.model.namedParameters()) yield [`base.${name}`, tensor.view(tensor.shape)]
  }

  *#weights(): IterableIterator<[name: string, part: Tensor]> {
    for (const [name, tensor] of this.#optimizer.state()) {
      if (name.startsWith('param.')) yield [name, tensor]
      else tensor.dispose()
    }
  }

  #reportStep(totalSteps: number, seconds: number): void {
    const record = this.#losses.at(-1)
    if (record === undefined) return
    const { allocated, peak } = this.#run.model.device.memory()
    this.#emit({
      type: 'step',
      steps: totalSteps,
      record,
      tokensPerSecond: this.#tokens / Math.max(1e-9, this.#seconds),
      secondsLeft: (this.#seconds / this.#step) * (totalSteps - this.#step),
      seconds,
      memory: { allocated, peak },
    })
  }

  #emit(event: EventWithoutStage): void {
    const { index, stage, onEvent } = this.#run
    onEvent?.({ ...event, stage: index, kind: stage.kind } as TrainingEvent)
  }
}

type EventWithoutStage = TrainingEvent extends infer Event
  ? Event extends TrainingEvent
    ? Omit<Event, 'stage' | 'kind'>
    : never
  : never

const isFiniteStep = ({ loss, gradNorm }: StepRecord): boolean => Number.isFinite(loss) && Number.isFinite(gradNorm)

/** JSON has no NaN: what was not finite came back as null. */
function withNumbers(record: StepRecord): StepRecord {
  const { loss, gradNorm } = record as { readonly loss: number | null; readonly gradNorm: number | null }
  const metrics = Object.entries(record.metrics ?? {}).map(([name, value]) => [name, value ?? Number.NaN] as const)
  return {
    ...record,
    loss: loss ?? Number.NaN,
    gradNorm: gradNorm ?? Number.NaN,
    ...(record.metrics && { metrics: Object.fromEntries(metrics) }),
  }
}

/** Uses views and disposes them. */
async function withTensors<T>(tensors: NamedTensors, use: (tensors: NamedTensors) => Promise<T>): Promise<T> {
  const all = [...tensors]
  try {
    return await use(all)
  } finally {
    for (const [, tensor] of all) tensor.dispose()
  }
}

async function stageSteps(corpus: StageCorpus, stage: ResolvedStage): Promise<number> {
  const limits: number[] = []
  if (stage.maxSteps !== undefined) limits.push(stage.maxSteps)
  if (stage.kind === 'monolingual' && stage.maxTokens !== undefined) {
    limits.push(Math.ceil(stage.maxTokens / (stage.batchSize * stage.blockSize)))
  }
  if (isCounted(stage)) {
    const count = await countExamples(corpus, stage, stage.epochs ?? 1)
    limits.push(Math.ceil(count / stage.batchSize))
  }
  return Math.min(...limits)
}
