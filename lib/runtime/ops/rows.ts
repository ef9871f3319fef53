/** Rows of a table by index: embeddings, and the choice of tokens. */
import { Tensor } from '../tensor.js'
import { rowsAndColumns } from './arguments.js'

/** Rows `rows` (i32) of table [tableRows, cols]: [rows.count, cols]. */
export function gatherRows(table: Tensor, rows: Tensor, out?: Tensor): Tensor {
  const [tableRows, cols] = rowsAndColumns(table)
  const result = out ?? Tensor.empty(table.device, [rows.count, cols], table.dtype)
  table.device.addon.opGatherRows(table.handle, rows.handle, result.handle, tableRows, cols, rows.count)
  return result
}

/** table[rows[i]] = input[i]; no row twice. */
export function scatterRows(input: Tensor, rows: Tensor, table: Tensor): Tensor {
  const cols = rows.count === 0 ? 0 : input.count / rows.count
  const tableRows = cols === 0 ? 0 : table.count / cols
  table.device.addon.opScatterRows(input.handle, rows.handle, table.handle, tableRows, cols, rows.count)
  return table
}

/** The rows of an embedding table [vocabSize, hiddenSize] for token ids. */
export const embedding: typeof gatherRows = gatherRows

/** dtable[ids[i]] += dout[i], in the order of i; dtable f32. */
export function embeddingBackward(dout: Tensor, ids: Tensor, dtable: Tensor): Tensor {
  const [tableRows, cols] = rowsAndColumns(dtable)
  dout.device.addon.opEmbeddingBackward(dout.handle, ids.handle, dtable.handle, tableRows, cols, ids.count)
  return dtable
}
