/** Names of temporary files and folders, and the removal of those that a killed process left behind. */
import { createHash, randomBytes } from 'node:crypto'
import { readdir, rm, stat } from 'node:fs/promises'
import { hostname } from 'node:os'
import { basename, dirname, join } from 'node:path'

/** In the name because a folder can be shared between machines, whose process ids say nothing here. */
const host = createHash('sha256').update(hostname()).digest('hex').slice(0, 8)

const pattern = /^\..+\.alma-([0-9a-f]{8})-(\d+)-[0-9a-f]{12}$/s

/** A fresh hidden name in the folder of `target`, so that a rename to `target` stays within one file system. */
export function temporaryPath(target: string): string {
  // 64 characters of the name keep the whole below the 255 bytes that file systems allow.
  const name = basename(target).slice(0, 64)
  const random = randomBytes(6).toString('hex')
  return join(dirname(target), `.${name}.alma-${host}-${process.pid}-${random}`)
}

/** Removes the temporaries in `folder` whose process is gone. Best effort: what cannot be removed never stops a save. */
export async function removeStaleTemporaries(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => [])
  for (const name of names) {
    const match = pattern.exec(name)
    if (match === null || match[1] !== host) continue
    const path = join(folder, name)
    if (await isStale(Number(match[2]), path)) await rm(path, { recursive: true, force: true }).catch(() => {})
  }
}

async function isStale(pid: number, path: string): Promise<boolean> {
  if (pid === process.pid) {
    // In a restarted container the dead process had our id, often 1: its files are older than we are. Two seconds for
    // file systems that round times.
    const started = Date.now() - process.uptime() * 1000
    const modified = await stat(path).then(
      (found) => found.mtimeMs,
      () => Number.POSITIVE_INFINITY,
    )
    return modified < started - 2000
  }
  try {
    process.kill(pid, 0)
    return false
  } catch (error) {
    // EPERM: the process exists and belongs to somebody else.
    return (error as NodeJS.ErrnoException).code === 'ESRCH'
  }
}
