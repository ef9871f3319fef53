/** Fine-tuning in stages: one after the other on the same weights, with checkpoints in between. */

import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { AlmaError } from '../errors.js'
import { writeFileAtomic } from '../files/atomic.js'
import { isObject, readJsonFile } from '../files/json.js'
import type { LlamaForCausalLM, LoraConfig } from '../model/index.js'
import { packageVersion } from '../package-version.js'
import { writeReport } from '../report/report.js'
import type { Tokenizer } from '../text/index.js'
import { type Checkpoint, checkSameStages, readCheckpoint, removeCheckpoints } from './checkpoint.js'
import type { FinetuneReport, RunEvent, StageReport, TrainingEvent } from './events.js'
import { openRunLog, runLogName } from './run-log.js'
import { type ResolvedStage, resolveStage, type Stage } from './stages.js'
import { TensorboardWriter, tensorboardFolder } from './tensorboard.js'
import { trainStage } from './trainer.js'

export interface FinetuneOptions {
  /** Folder for checkpoints while training, and for the trained model at the end. Without it nothing is written. */
  readonly output?: string
  /** Go on from the newest checkpoint in `output`, if there is one; the stages must be the same. Default false. */
  readonly resume?: boolean
  /** Aborting ends the step in progress, writes a checkpoint (with `output`) and rejects with the signal's reason. */
  readonly signal?: AbortSignal
  readonly onProgress?: (event: TrainingEvent) => void
  /** Also write event files for TensorBoard, to the folder `tensorboard` in `output`. Default false. */
  readonly tensorboard?: boolean
  /**
   * Folder in which tokenised files are kept for later passes and runs, which may share it at the same time. Default: text is
   * tokenised in every pass.
   */
  readonly tokenCache?: string
}

/** What is trained: an Alma. */
export interface Trainable {
  /** The weights under the adapters. */
  readonly model: LlamaForCausalLM
  readonly tokenizer: Tokenizer
  /**
   * The weights with a LoRA adapter of this form: the active one, or a new one. `baseTrained`: the weights under it are (or, in a run that
   * goes on, are about to be) no longer those that were loaded.
   */
  adapterModel(lora: LoraConfig, seed: number, baseTrained: boolean): LlamaForCausalLM
  /** All weights, to be trained; the active adapter, if there is one, becomes part of them. */
  baseModel(): LlamaForCausalLM
  save(directory: string): Promise<void>
}

export const reportName = 'training-report.json'

const optionNames = ['output', 'resume', 'signal', 'onProgress', 'tensorboard', 'tokenCache']

/**
 * Runs the stages in their order. With `output`, the trained model is saved there when all are done.
 *
 * @throws AlmaError ERR_ALMA_OPTION (stages and options), ERR_ALMA_CORPUS, ERR_ALMA_CHECKPOINT, ERR_ALMA_RECIPE (resuming with other
 *   stages), ERR_ALMA_DIVERGED, ERR_ALMA_IO, ERR_ALMA_OUT_OF_MEMORY; or the signal's reason.
 */
export async function finetune(
  alma: Trainable,
  stages: Stage | readonly Stage[],
  options: FinetuneOptions = {},
): Promise<FinetuneReport> {
  const { output, resume = false, signal, onProgress } = options
  for (const key of Object.keys(options)) {
    if (!optionNames.includes(key)) {
      throw new AlmaError('ERR_ALMA_OPTION', `finetune: unknown option "${key}"; known: ${optionNames.join(', ')}`)
    }
  }
  if (resume && output === undefined) {
    throw new AlmaError('ERR_ALMA_OPTION', 'finetune: resume needs an output folder, where the checkpoints are')
  }
  if (options.tensorboard === true && output === undefined) {
    throw new AlmaError('ERR_ALMA_OPTION', 'finetune: tensorboard needs an output folder, where its files go')
  }
  const list: readonly Stage[] = Array.isArray(stages) ? stages : [stages as Stage]
  if (list.length === 0) throw new AlmaError('ERR_ALMA_OPTION', 'finetune: no stages given')
  const resolved = list.map((stage, index) => resolveStage(stage, `stages[${index}]`))
  for (const [index, stage] of resolved.entries()) {
    if (stage.keepBest && output === undefined) {
      throw new AlmaError(
        'ERR_ALMA_OPTION',
        `stages[${index}]: "keepBest" needs an output folder, where the best weights are kept`,
      )
    }
  }
  signal?.throwIfAborted()

  let checkpoint: Checkpoint | undefined
  if (resume && output !== undefined) {
    checkpoint = await readCheckpoint(output)
    if (checkpoint !== undefined) checkSameStages(checkpoint, resolved)
    else {
      const done = await readJsonFile(join(output, reportName), 'ERR_ALMA_CHECKPOINT')
      if (isObject(done)) return done as unknown as FinetuneReport
    }
  } else if (output !== undefined) {
    // A fresh run: checkpoints of an earlier one must not be taken for its own later.
    await removeCheckpoints(output)
    await rm(join(output, reportName), { force: true })
  }

  const log = output === undefined ? undefined : await openRunLog(join(output, runLogName))
  const tensorboard =
    output !== undefined && options.tensorboard === true
      ? new TensorboardWriter(join(output, tensorboardFolder))
      : undefined
  const onEvent = (event: TrainingEvent): void => {
    log?.append(event)
    tensorboard?.append(event)
    onProgress?.(event)
  }
  try {
    onEvent(runEvent(alma, resolved, checkpoint))
    const stageReports = await trainStages(alma, resolved, checkpoint, { ...options, onProgress: onEvent })
    const report: FinetuneReport = { stages: stageReports, ...(output !== undefined && { output }) }
    if (output !== undefined) {
      await alma.save(output)
      await writeFileAtomic(join(output, reportName), `${JSON.stringify(report, null, 1)}\n`)
      await removeCheckpoints(output)
    }
    await log?.close()
    await tensorboard?.close()
    if (output !== undefined) await writeReport(output)
    return report
  } catch (error) {
    // What is known of a run that ended early is shown as well; its own error is what counts.
    await log?.close().catch(() => {})
    await tensorboard?.close().catch(() => {})
    if (output !== undefined) await writeReport(output).catch(() => {})
    throw error
  }
}

function runEvent(
  { model }: Trainable,
  stages: readonly ResolvedStage[],
  checkpoint: Checkpoint | undefined,
): RunEvent {
  const { device, config, parameterCount } = model
  const [first] = model.namedParameters()
  return {
    type: 'run',
    version: packageVersion(),
    model: { parameters: parameterCount, dtype: first?.[1].dtype ?? 'f32', config },
    device: { name: device.name, description: device.description },
    stages,
    ...(checkpoint !== undefined && { resumed: { stage: checkpoint.state.stage, step: checkpoint.state.step } }),
  }
}

async function trainStages(
  alma: Trainable,
  stages: readonly ResolvedStage[],
  checkpoint: Checkpoint | undefined,
  { output, signal, onProgress, tokenCache }: FinetuneOptions,
): Promise<StageReport[]> {
  const finished: StageReport[] = [...(checkpoint?.state.finished ?? [])]
  for (const [index, stage] of stages.entries()) {
    if (index < (checkpoint?.state.stage ?? 0)) continue
    const savesBase = stage.lora !== undefined && baseChanges(stages, index + 1)
    const report = await trainStage({
      model: stage.lora === undefined ? alma.baseModel() : alma.adapterModel(stage.lora, stage.seed, savesBase),
      savesBase,
      tokenizer: alma.tokenizer,
      stages,
      index,
      stage,
      finished: [...finished],
      ...(output !== undefined && { output }),
      ...(checkpoint?.state.stage === index && { checkpoint }),
      ...(tokenCache !== undefined && { tokenCache }),
      ...(signal && { signal }),
      ...(onProgress && { onEvent: onProgress }),
    })
    finished.push(report)
    // What a stage's batches needed is of no use to the next one, or to decoding.
    alma.model.device.releaseCachedMemory()
  }
  return finished
}

/** Whether the weights under the adapter are no longer those that the run began with, after so many stages. */
function baseChanges(stages: readonly ResolvedStage[], count: number): boolean {
  // Dropout is not part of an adapter: stages that differ in it alone train the same one.
  const form = ({ lora }: ResolvedStage): string => JSON.stringify({ ...lora, dropout: 0 })
  return stages
    .slice(0, count)
    .some((stage, _, [first = stage]) => stage.lora === undefined || form(stage) !== form(first))
}
