/** Reads a file of a stage once, before training: a damaged line is found now instead of hours later, and everything is counted. */
import type { TokenSequence } from '../text/token-store.js'
import { DataCheck } from './data-check.js'
import type { FileReport } from './data-report.js'
import { EventLoopBudget } from './event-loop.js'
import type { TextFile } from './sequence-files.js'

export interface InspectOptions {
  /** After so many sequences or tokens it is enough. Default: all; the lengths of all are then known to the file. */
  readonly limit?: { readonly sequences: number; readonly tokens: number }
  /** Gets every sequence, undefined for those that are left out. */
  readonly onSequence?: (sequence: TokenSequence | undefined) => Promise<void>
  readonly signal?: AbortSignal
}

/** @throws AlmaError ERR_ALMA_CORPUS, ERR_ALMA_IO; the signal's reason */
export async function inspect(file: TextFile, options: InspectOptions = {}): Promise<FileReport> {
  const { limit, onSequence, signal } = options
  const check = new DataCheck()
  const budget = new EventLoopBudget()
  const lengths: number[] = []
  let complete = true
  for await (const pending of file.sequences(check)) {
    signal?.throwIfAborted()
    const sequence = await pending()
    if (sequence !== undefined) {
      check.kept++
      check.tokens += sequence.ids.length + (sequence.rejected?.ids.length ?? 0)
    }
    lengths.push(sequence?.ids.length ?? 0)
    await onSequence?.(sequence)
    await budget.breathe()
    if (limit !== undefined && (lengths.length >= limit.sequences || check.tokens >= limit.tokens)) {
      complete = false
      break
    }
  }
  if (complete) file.lengths = Uint32Array.from(lengths)
  return check.report(file.path, file.languages, complete)
}
