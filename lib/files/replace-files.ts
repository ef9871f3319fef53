/**
 * Replaces several files of a folder together, leaving the folder's other files alone: after an interruption the folder
 * holds either all the old ones or, once {@link finishInterruptedReplace} has run, all the new ones.
 *
 * The new files are completed in a hidden folder inside. Renaming that folder to `.alma-save` is the point of no return;
 * then its files are moved out one by one, which can be repeated from wherever it stopped.
 */
import { lstat, mkdir, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { AlmaError } from '../errors.js'
import { type FileContent, syncFolder, syncTree, writeError, writeNewFile } from './atomic.js'
import { isArrayOf, isObject, isPlainFileName, readJsonFile } from './json.js'
import { removeStaleTemporaries, temporaryPath } from './temporary.js'

export interface NewFile {
  /** A plain name: files go into the folder itself. */
  readonly name: string
  readonly content: FileContent
}

const committedName = '.alma-save'
const manifestName = '.manifest.json'

/** What `.alma-save/.manifest.json` says: the moves in their order, then the names that must go. */
interface Manifest {
  readonly files: readonly string[]
  readonly remove: readonly string[]
}

/**
 * Writes `files`, in their order, over those of the same names in `directory` (created if missing) and removes the files for
 * which `isStale` is true, new ones excepted. Needs space for the old and the new files at once.
 *
 * @throws AlmaError ERR_ALMA_IO naming the folder; whatever a content function throws besides is passed on. The old files
 *   are then untouched.
 */
export async function replaceFiles(
  directory: string,
  files: readonly NewFile[],
  isStale: (name: string) => boolean = () => false,
): Promise<void> {
  const names = files.map((file) => file.name)
  for (const [index, name] of names.entries()) {
    if (!isPlainFileName(name) || name === manifestName || name === committedName || names.indexOf(name) !== index) {
      throw new AlmaError('ERR_ALMA_OPTION', `cannot save a file named ${JSON.stringify(name)} in ${directory}`)
    }
  }
  const committed = join(directory, committedName)
  const staging = temporaryPath(committed)
  let path = directory
  try {
    await mkdir(directory, { recursive: true })
    await finishInterruptedReplace(directory)
    await removeStaleTemporaries(directory)
    await mkdir(staging)
    for (const file of files) {
      path = join(directory, file.name)
      await writeNewFile(join(staging, file.name), file.content)
    }
    path = directory
    const remove = (await readdir(directory)).filter((name) => isStale(name) && !names.includes(name))
    const manifest: Manifest = { files: names, remove }
    await writeNewFile(join(staging, manifestName), JSON.stringify(manifest))
    await syncTree(staging)
    await rename(staging, committed)
    await syncFolder(directory)
  } catch (error) {
    await rm(staging, { recursive: true, force: true }).catch(() => {})
    throw writeError(path, staging, error)
  }
  await finishInterruptedReplace(directory)
}

/**
 * Completes a {@link replaceFiles} that was past its point of no return when its process died. To be called before such a
 * folder is read; does nothing, and needs no write permission, where there is nothing to complete.
 *
 * @returns whether there was something to complete.
 * @throws AlmaError ERR_ALMA_IO naming the folder.
 */
export async function finishInterruptedReplace(directory: string): Promise<boolean> {
  const committed = join(directory, committedName)
  // A link would let a downloaded folder move files from anywhere into itself.
  const isDirectory = await lstat(committed).then(
    (found) => found.isDirectory(),
    () => false,
  )
  if (!isDirectory) return false
  try {
    const { files, remove } = await readManifest(join(committed, manifestName))
    for (const name of files) await rename(join(committed, name), join(directory, name)).catch(unlessAbsent)
    for (const name of remove) await rm(join(directory, name), { force: true })
    await syncFolder(directory)
    await rm(committed, { recursive: true, force: true })
    return true
  } catch (error) {
    throw writeError(directory, committed, error)
  }
}

async function readManifest(path: string): Promise<Manifest> {
  const json = await readJsonFile(path, 'ERR_ALMA_IO')
  // Absent: every file had been moved, and only the removal of the folder was interrupted.
  if (json === undefined) return { files: [], remove: [] }
  const { files, remove } = isObject(json) ? json : {}
  if (!isArrayOf(files, isPlainFileName) || !isArrayOf(remove, isPlainFileName)) {
    throw new AlmaError('ERR_ALMA_IO', `${path}: not the manifest of an interrupted save; remove its folder`)
  }
  return { files, remove }
}

function unlessAbsent(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error
}
