/** The batch with which a run stopped because nothing was finite any more, written out to be looked at. */
import { join } from 'node:path'
import { writeFileAtomic } from '../files/atomic.js'
import type { TrainingBatch } from '../model/index.js'
import type { Tokenizer } from '../text/index.js'
import type { StepRecord } from './events.js'

/** In the output folder of a run. */
export const divergedBatchName = 'diverged-batch.json'

export interface DivergedBatch {
  readonly stage: number
  /** loss and gradNorm as text, because JSON has no NaN. */
  readonly record: StepRecord
  readonly micro: readonly TrainingBatch[]
}

/** Writes every sequence of a step as ids, labels and text. Returns the path. @throws AlmaError ERR_ALMA_IO */
export async function writeDivergedBatch(
  output: string,
  { stage, record, micro }: DivergedBatch,
  tokenizer: Tokenizer,
): Promise<string> {
  const path = join(output, divergedBatchName)
  const sequences = micro.flatMap(({ inputIds, labels }, index) =>
    inputIds.map((ids, i) => ({
      microBatch: index,
      text: tokenizer.decode([...ids]),
      inputIds: ids,
      labels: labels[i],
    })),
  )
  const { step, learningRate, loss, gradNorm } = record
  const head = { stage, step, learningRate, loss: String(loss), gradNorm: String(gradNorm) }
  await writeFileAtomic(path, `${JSON.stringify({ ...head, sequences }, null, 1)}\n`)
  return path
}
