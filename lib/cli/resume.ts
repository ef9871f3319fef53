/** Going on where an interrupted command stopped: its output file says how far it came. */
import { createReadStream } from 'node:fs'
import { truncate } from 'node:fs/promises'
import { AlmaError, ioError } from '../errors.js'

/**
 * Cuts a half-written last line off and gives the number of lines that are left; 0 when there is no such file.
 *
 * @throws AlmaError ERR_ALMA_IO
 */
export async function keepWholeLines(file: string): Promise<number> {
  let lines = 0
  let bytes = 0
  let whole = 0
  try {
    for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
      for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, at + 1)) {
        lines++
        whole = bytes + at + 1
      }
      bytes += chunk.length
    }
    if (whole < bytes) await truncate(file, whole)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0
    throw ioError('resume', file, error)
  }
  return lines
}

/** What comes after the first `count` items. @throws AlmaError ERR_ALMA_CORPUS when there are fewer: it is another input. */
export async function* skipLines(
  lines: AsyncIterable<string>,
  count: number,
  names: { readonly input: string; readonly output: string },
): AsyncGenerator<string, void, undefined> {
  let seen = 0
  for await (const line of lines) if (++seen > count) yield line
  if (seen < count) {
    throw new AlmaError(
      'ERR_ALMA_CORPUS',
      `${names.output}: has ${count} lines already, but ${names.input} has ${seen}; it is not the output of this input`,
    )
  }
}
