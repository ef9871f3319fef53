/** Shuffles a stream that does not fit into memory, reproducibly. */
import { AlmaError } from '../errors.js'
import { Random } from './random.js'

export interface ShuffleOptions {
  /** Items held in memory; a buffer that holds the whole source gives a uniform shuffle. */
  readonly bufferSize: number
  readonly seed: number
  /** Outputs to leave out at the beginning, to go on where an earlier run stopped. Default 0. The source is read again. */
  readonly skip?: number
}

/** Yields the items of `source()` in a random order: each time one of the buffer's items, which the next of the source replaces. */
export async function* shuffled<T>(source: () => AsyncIterable<T>, options: ShuffleOptions): AsyncGenerator<T> {
  const { bufferSize, seed, skip = 0 } = options
  if (!Number.isInteger(bufferSize) || bufferSize < 1)
    throw new AlmaError('ERR_ALMA_OPTION', `bufferSize: expected a positive integer, got ${bufferSize}`)
  if (!Number.isInteger(skip) || skip < 0)
    throw new AlmaError('ERR_ALMA_OPTION', `skip: expected a count of outputs, got ${skip}`)
  const random = new Random(seed)
  const buffer: T[] = []
  let produced = 0
  for await (const item of source()) {
    if (buffer.length < bufferSize) {
      buffer.push(item)
      continue
    }
    const at = random.below(bufferSize)
    const chosen = buffer[at] as T
    buffer[at] = item
    if (produced++ >= skip) yield chosen
  }
  while (buffer.length > 0) {
    const at = random.below(buffer.length)
    const chosen = buffer[at] as T
    buffer[at] = buffer[buffer.length - 1] as T
    buffer.pop()
    if (produced++ >= skip) yield chosen
  }
}
