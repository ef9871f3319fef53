import { AlmaError } from '../errors.js'
import { IGNORE_INDEX } from '../ignore-index.js'
import { type Device, Tensor } from '../runtime/index.js'

/** Sequences and their labels, of equal lengths and not shifted: labels[i][t] belongs to inputIds[i][t]. */
export interface TrainingBatch {
  readonly inputIds: readonly (readonly number[])[]
  readonly labels: readonly (readonly number[])[]
}

/** The number of labels that count: the first token of a sequence has no prediction. */
export function countTargets(batch: TrainingBatch): number {
  return batch.labels.reduce((sum, labels) => sum + countLabels(labels), 0)
}

/** The same of one sequence. */
export function countLabels(labels: readonly number[]): number {
  let count = 0
  for (let t = 1; t < labels.length; t++) if (labels[t] !== IGNORE_INDEX) count++
  return count
}

/** Which packed rows predict something, and what. */
export interface NextTokenTargets extends Disposable {
  /** i32 [count]. */
  readonly ids: Tensor
  /** i32 [count]: rows of the packed tokens; undefined when every row counts. */
  readonly rows: Tensor | undefined
  readonly count: number
}

/** Shifts the labels: row t of a sequence predicts label t + 1; the last row of each sequence predicts nothing. */
export function nextTokenTargets(device: Device, batch: TrainingBatch): NextTokenTargets {
  const rows: number[] = []
  const ids: number[] = []
  let row = 0
  batch.inputIds.forEach((sequence, index) => {
    const labels = batch.labels[index] ?? []
    if (labels.length !== sequence.length) {
      throw new AlmaError(
        'ERR_ALMA_OPTION',
        `sequence ${index} has ${sequence.length} tokens and ${labels.length} labels, expected as many`,
      )
    }
    for (let t = 0; t + 1 < sequence.length; t++) {
      const label = labels[t + 1]
      if (label === undefined || label === IGNORE_INDEX) continue
      rows.push(row + t)
      ids.push(label)
    }
    row += sequence.length
  })
  const idTensor = Tensor.from(device, Int32Array.from(ids))
  const rowTensor = rows.length === row ? undefined : Tensor.from(device, Int32Array.from(rows))
  return {
    ids: idTensor,
    rows: rowTensor,
    count: ids.length,
    [Symbol.dispose]() {
      idTensor.dispose()
      rowTensor?.dispose()
    },
  }
}
