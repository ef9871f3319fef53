/** The log of a run: a line of JSON for every event, appended as it happens, so that it can be read while the run goes on. */
import { type FileHandle, mkdir, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { ioError } from '../errors.js'
import type { TrainingEvent } from './events.js'

/** In the output folder of a run. */
export const runLogName = 'training-log.jsonl'

export interface RunLog {
  readonly append: (event: TrainingEvent) => void
  /** @throws AlmaError ERR_ALMA_IO when a line could not be written */
  close(): Promise<void>
}

/** Opens a log to append to. @throws AlmaError ERR_ALMA_IO */
export async function openRunLog(path: string): Promise<RunLog> {
  let file: FileHandle
  try {
    await mkdir(dirname(path), { recursive: true })
    file = await open(path, 'a')
  } catch (error) {
    throw ioError('write', path, error)
  }
  let written: Promise<unknown> = Promise.resolve()
  let failure: unknown
  return {
    append(event) {
      const text = `${JSON.stringify({ time: new Date().toISOString(), ...recorded(event) })}\n`
      written = written
        .then(() => file.appendFile(text))
        .catch((error: unknown) => {
          failure ??= error
        })
    },
    async close() {
      await written
      await file.close()
      if (failure !== undefined) throw ioError('write', path, failure)
    },
  }
}

/** The report that ends a stage repeats every record of it: the log has them already. */
function recorded(event: TrainingEvent): object {
  if (event.type !== 'stageEnd') return event
  const { losses: _, validation: __, ...report } = event.report
  return { ...event, report }
}
