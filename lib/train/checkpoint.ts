/** Training checkpoints: written whole or not at all, and read back to go on bit for bit. */
import { mkdir, readdir, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { AlmaError, ioError } from '../errors.js'
import { writeDirectoryAtomic, writeFileAtomic } from '../files/atomic.js'
import { isObject, readJsonFile } from '../files/json.js'
import { readSafetensorsHeader, type SafetensorsTensor, writeSafetensors } from '../model/safetensors.js'
import { bytesOf } from '../model/save.js'
import type { Tensor } from '../runtime/index.js'
import type { StageReport, StepRecord, ValidationRecord } from './events.js'
import type { ExampleState } from './examples.js'
import type { ResolvedStage } from './stages.js'

const FORMAT = 1
const stateFile = 'training-state.json'
const tensorFile = 'training-state.safetensors'
const folderName = 'checkpoints'

/** Everything of a run that is not a tensor. */
export interface TrainingState {
  readonly format: typeof FORMAT
  /** The resolved stages: a run can only be resumed with the same ones. */
  readonly stages: readonly ResolvedStage[]
  readonly finished: readonly StageReport[]
  /** The stage in progress. */
  readonly stage: number
  readonly step: number
  readonly examples: ExampleState | null
  readonly losses: readonly StepRecord[]
  readonly validation: readonly ValidationRecord[]
  readonly best: ValidationRecord | null
  readonly tokens: number
  readonly seconds: number
  readonly skippedSteps: number
  /** Tokens of a micro-batch, where the stage does not say its size: the sums depend on it. */
  readonly microBatchTokens?: number
}

export type NamedTensors = Iterable<readonly [name: string, tensor: Tensor]>

function savable(tensors: NamedTensors): SafetensorsTensor[] {
  return [...tensors].map(([name, tensor]) => ({
    name,
    dtype: 'F32' as const,
    shape: tensor.shape,
    data: () => bytesOf(tensor, 'f32'),
  }))
}

const checkpointName = (stage: number, step: number): string =>
  `stage-${stage + 1}-step-${String(step).padStart(8, '0')}`

/** Writes a checkpoint below `output` and removes the older ones. Returns its folder. */
export async function writeCheckpoint(output: string, state: TrainingState, tensors: NamedTensors): Promise<string> {
  const root = join(output, folderName)
  const folder = join(root, checkpointName(state.stage, state.step))
  await writeDirectoryAtomic(folder, async (temporary) => {
    await writeSafetensors(join(temporary, tensorFile), savable(tensors))
    await writeFileAtomic(join(temporary, stateFile), `${JSON.stringify(state)}\n`)
  })
  for (const name of await checkpointNames(root)) {
    if (join(root, name) !== folder) await rm(join(root, name), { recursive: true, force: true })
  }
  return folder
}

async function checkpointNames(root: string): Promise<string[]> {
  try {
    const names = await readdir(root)
    return names.filter((name) => /^stage-\d+-step-\d{8,}$/.test(name)).sort(byPosition)
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return []
    throw ioError('read', root, error)
  }
}

function byPosition(a: string, b: string): number {
  const [, stageA = '0', stepA = '0'] = a.match(/^stage-(\d+)-step-(\d+)$/) ?? []
  const [, stageB = '0', stepB = '0'] = b.match(/^stage-(\d+)-step-(\d+)$/) ?? []
  return Number(stageA) - Number(stageB) || Number(stepA) - Number(stepB)
}

export interface Checkpoint {
  readonly folder: string
  readonly state: TrainingState
}

/** The newest checkpoint below `output`, or undefined when there is none. */
export async function readCheckpoint(output: string): Promise<Checkpoint | undefined> {
  const root = join(output, folderName)
  const newest = (await checkpointNames(root)).at(-1)
  if (newest === undefined) return undefined
  const folder = join(root, newest)
  const path = join(folder, stateFile)
  const state = await readJsonFile(path, 'ERR_ALMA_CHECKPOINT')
  if (isObject(state) && typeof state.format === 'number' && state.format > FORMAT) {
    throw new AlmaError(
      'ERR_ALMA_CHECKPOINT',
      `${path}: written by a newer version of alma-native: format ${state.format}, this version reads ${FORMAT}`,
    )
  }
  if (!isObject(state) || state.format !== FORMAT || !Array.isArray(state.stages)) {
    throw new AlmaError(
      'ERR_ALMA_CHECKPOINT',
      `${path}: expected a training state of format ${FORMAT}, got format ${isObject(state) ? state.format : 'none'}`,
    )
  }
  return { folder, state: state as unknown as TrainingState }
}

/** Fills tensors from a checkpoint's (or a best-weights) file. */
export async function restoreTensors(path: string, tensors: NamedTensors): Promise<void> {
  const header = await readSafetensorsHeader(path)
  for (const [name, tensor] of tensors) {
    const stored = header.tensors.get(name)
    const expected = `expected F32 [${tensor.shape.join(', ')}]`
    if (stored === undefined) throw new AlmaError('ERR_ALMA_CHECKPOINT', `${path}: no tensor ${name}, ${expected}`)
    if (stored.dtype !== 'F32' || stored.shape.join() !== tensor.shape.join()) {
      throw new AlmaError(
        'ERR_ALMA_CHECKPOINT',
        `${path}: ${name} is ${stored.dtype} [${stored.shape.join(', ')}], ${expected}`,
      )
    }
    await tensor.loadFile(path, stored.byteOffset, 'f32')
  }
}

export function tensorsOfCheckpoint(checkpoint: Checkpoint): string {
  return join(checkpoint.folder, tensorFile)
}

/** Where the best weights of a stage are kept while it runs. */
export function bestWeightsPath(output: string, stage: number): string {
  return join(output, folderName, `best-of-stage-${stage + 1}.safetensors`)
}

export async function writeBestWeights(output: string, stage: number, tensors: NamedTensors): Promise<void> {
  const path = bestWeightsPath(output, stage)
  try {
    await mkdir(dirname(path), { recursive: true })
  } catch (error) {
    throw ioError('create', dirname(path), error)
  }
  await writeSafetensors(path, savable(tensors))
}

/** When a run is complete, its checkpoints have served. */
export async function removeCheckpoints(output: string): Promise<void> {
  await rm(join(output, folderName), { recursive: true, force: true })
}

/** @throws AlmaError ERR_ALMA_RECIPE naming the first field in which the stages differ from those of the checkpoint. */
export function checkSameStages(checkpoint: Checkpoint, stages: readonly ResolvedStage[]): void {
  const changed = firstDifference(checkpoint.state.stages, JSON.parse(JSON.stringify(stages)), 'stages')
  if (changed === undefined) return
  throw new AlmaError(
    'ERR_ALMA_RECIPE',
    `${checkpoint.folder}: cannot resume with a changed recipe: ${changed.at} was ${JSON.stringify(changed.before)} ` +
      `and is ${JSON.stringify(changed.now)}`,
  )
}

function firstDifference(
  before: unknown,
  now: unknown,
  at: string,
): { at: string; before: unknown; now: unknown } | undefined {
  if (typeof before !== 'object' || typeof now !== 'object' || before === null || now === null) {
    return before === now ? undefined : { at, before, now }
  }
  const keys = new Set([...Object.keys(before), ...Object.keys(now)])
  for (const key of keys) {
    const name = Array.isArray(before) ? `${at}[${key}]` : `${at}.${key}`
    const found = firstDifference((before as Record<string, unknown>)[key], (now as Record<string, unknown>)[key], name)
    if (found !== undefined) return found
  }
  return undefined
}
