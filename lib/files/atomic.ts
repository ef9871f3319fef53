/**
 * Files and folders that appear whole or not at all, whatever interrupts the writing: a full disk, a thrown error, a killed
 * process, a power cut. The recipe is the usual one: write beside the target, fsync, rename, fsync the folder.
 */
import { type FileHandle, lstat, mkdir, open, readdir, readlink, realpath, rename, rm } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { AlmaError, ioError } from '../errors.js'
import { removeStaleTemporaries, temporaryPath } from './temporary.js'

/** What a new file holds: the bytes, UTF-8 text, or a function that writes them piece by piece through the open handle. */
export type FileContent = Uint8Array | string | ((handle: FileHandle) => Promise<void>)

/**
 * Writes a regular file. Until it is complete and on the disk, a file that was at `path` stays as it is; after a failure it
 * still is, and nothing else is left behind.
 *
 * @throws AlmaError ERR_ALMA_IO naming `path` when the operating system refuses (disk full, permission, missing folder);
 *   whatever `content` throws besides is passed on.
 */
export async function writeFileAtomic(path: string, content: FileContent): Promise<void> {
  const folder = dirname(path)
  const temporary = temporaryPath(path)
  await removeStaleTemporaries(folder)
  try {
    await writeNewFile(temporary, content)
    await rename(temporary, path)
    await syncFolder(folder)
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {})
    throw writeError(path, temporary, error)
  }
}

/**
 * Builds a folder and puts it at `path`, replacing the whole folder that was there. `build` fills the temporary folder that
 * it is given. If it throws, or the process dies, the old folder is still there: at once, or after
 * {@link recoverDirectory}. A `path` that is a symbolic link keeps being one; the folder it points to is replaced.
 *
 * @throws AlmaError ERR_ALMA_IO naming `path`; whatever `build` throws besides is passed on.
 */
export async function writeDirectoryAtomic(
  path: string,
  build: (temporaryDirectory: string) => Promise<void>,
): Promise<void> {
  await recoverDirectory(path)
  const target = await followLinks(path)
  const parent = dirname(target)
  const temporary = temporaryPath(target)
  await removeStaleTemporaries(parent)
  try {
    await mkdir(parent, { recursive: true })
    await mkdir(temporary)
    await build(temporary)
    await syncTree(temporary)
    await swapIn(temporary, target)
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => {})
    throw writeError(path, temporary, error)
  }
}

/**
 * Repairs what a process killed inside {@link writeDirectoryAtomic} may have left: brings the old folder back if the new one
 * was not in place yet, and removes the old one if it was. To be called before such a folder is read.
 *
 * @returns whether the old folder was brought back.
 * @throws AlmaError ERR_ALMA_IO naming `path`.
 */
export async function recoverDirectory(path: string): Promise<boolean> {
  const target = await followLinks(path)
  const previous = previousPath(target)
  try {
    if (!(await exists(previous))) return false
    if (await exists(target)) {
      await rm(previous, { recursive: true, force: true })
      return false
    }
    await rename(previous, target)
    await syncFolder(dirname(target))
    return true
  } catch (error) {
    throw ioError('recover', path, error)
  }
}

async function swapIn(temporary: string, target: string): Promise<void> {
  const parent = dirname(target)
  if (!(await exists(target))) {
    await rename(temporary, target)
    await syncFolder(parent)
    return
  }
  if (!(await lstat(target)).isDirectory()) {
    throw new AlmaError('ERR_ALMA_IO', `cannot write the folder ${target}: a file of that name exists`)
  }
  // A folder cannot be renamed onto a folder that holds files, and Node has no renameat2(RENAME_EXCHANGE): two renames,
  // and recoverDirectory() for a death between them.
  const previous = previousPath(target)
  await rename(target, previous)
  try {
    await rename(temporary, target)
  } catch (error) {
    await rename(previous, target)
    throw error
  }
  await syncFolder(parent)
  // The save has succeeded; if the old folder resists, the next save or recovery tries again.
  await rm(previous, { recursive: true, force: true }).catch(() => {})
}

/** Where `path` leads. Also when a link points to a folder that a killed process had just renamed away. */
async function followLinks(path: string): Promise<string> {
  try {
    return await realpath(path)
  } catch {
    const link = await readlink(path).catch(() => '')
    return resolve(dirname(path), link === '' ? basename(path) : link)
  }
}

function previousPath(target: string): string {
  return join(dirname(target), `.${basename(target)}.alma-previous`)
}

/** Whether something has that name; a link that points nowhere counts. Other failures than absence are thrown. */
export async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT' || code === 'ENOTDIR') return false
    throw error
  }
}

/** Creates `path`, which must not exist, writes and fsyncs it. */
export async function writeNewFile(path: string, content: FileContent): Promise<void> {
  const handle = await open(path, 'wx')
  try {
    if (typeof content === 'function') await content(handle)
    else await handle.writeFile(content)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Makes the names in a folder durable. */
export async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return // folders cannot be opened there
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } catch (error) {
    // Some network and FUSE file systems have no fsync for folders.
    const code = (error as NodeJS.ErrnoException).code
    if (code !== 'EINVAL' && code !== 'ENOTSUP' && code !== 'ENOSYS' && code !== 'EBADF') throw error
  } finally {
    await handle.close()
  }
}

/** Fsyncs every file and folder below and including `folder`. */
export async function syncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) await syncTree(path)
    else if (entry.isFile()) {
      const handle = await open(path, 'r+')
      try {
        await handle.sync()
      } finally {
        await handle.close()
      }
    }
  }
  await syncFolder(folder)
}

/** A refused system call becomes an AlmaError that names the user's path, not the temporary one; the rest stays. */
export function writeError(path: string, temporary: string, error: unknown): unknown {
  if (error instanceof AlmaError || !(error instanceof Error)) return error
  const { code, path: culprit } = error as NodeJS.ErrnoException
  // ENOSPC, EIO …, but not Node's own ERR_… and ABORT_ERR.
  if (typeof code !== 'string' || !/^E[A-Z0-9]+$/.test(code)) return error
  const elsewhere = typeof culprit === 'string' && !culprit.startsWith(temporary) && culprit !== path
  return elsewhere ? ioError('use', culprit, error) : ioError('write', path, error)
}
