/**
 * Which weight files were found to hold no NaN and no infinity, so that they are not read for that a second time. A file counts as
 * the same while its device, inode, size, mtime and ctime are; programs cannot set the last. The record is a list of hashes in the
 * user's cache folder: without paths, and of no use but this one. A wrong record costs an early error message, never safety.
 */
import { createHash } from 'node:crypto'
import { appendFile, mkdir, open, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFileAtomic } from '../files/atomic.js'
import { userCacheFolder } from '../files/user-cache.js'
import type { WeightFiles } from './weight-files.js'

const recordName = 'checked-weights.txt'
const maxLines = 2048
const maxRecordBytes = maxLines * 65

interface Findings {
  readonly known: ReadonlySet<string>
  /** Whether lines may be added to it. */
  readonly intact: boolean
}

const noFindings: Findings = { known: new Set(), intact: true }

/** A file changed so recently can change again without another ctime: clocks of file systems tick. */
const settledNs = 2_000_000_000n

export class CheckedWeights {
  readonly #files: WeightFiles
  readonly #folder: string | undefined
  readonly #findings: Findings
  /** By file, as it was before its weights were read. */
  readonly #identities: ReadonlyMap<string, string>

  private constructor(
    files: WeightFiles,
    folder: string | undefined,
    findings: Findings,
    identities: ReadonlyMap<string, string>,
  ) {
    this.#files = files
    this.#folder = folder
    this.#findings = findings
    this.#identities = identities
  }

  /** Looks the files up. A record that is missing or cannot be read is an empty one. */
  static async of(files: WeightFiles): Promise<CheckedWeights> {
    const folder = userCacheFolder()
    if (folder === undefined) return new CheckedWeights(files, folder, noFindings, new Map())
    return new CheckedWeights(files, folder, await readRecord(folder), await identitiesOf(files))
  }

  has(file: string): boolean {
    return this.#findings.known.has(this.#identities.get(file) ?? '')
  }

  /** Records those files that are still what they were when this was made. What cannot be written is not recorded. */
  async remember(): Promise<void> {
    const folder = this.#folder
    const { known, intact } = this.#findings
    const searched = [...this.#identities].filter(([, identity]) => !known.has(identity))
    if (folder === undefined || searched.length === 0) return
    const now = await identitiesOf(this.#files)
    const lines = searched.filter(([file, identity]) => now.get(file) === identity).map(([, identity]) => identity)
    if (lines.length === 0) return
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 })
      const path = join(folder, recordName)
      if (intact && known.size + lines.length <= maxLines) {
        await appendFile(path, `${lines.join('\n')}\n`, { mode: 0o600 })
      } else {
        await writeFileAtomic(path, `${[...[...known].slice(-maxLines / 2), ...lines].join('\n')}\n`)
      }
    } catch {
      // A home that cannot be written to: the next load checks again.
    }
  }
}

async function readRecord(folder: string): Promise<Findings> {
  try {
    await using file = await open(join(folder, recordName))
    const buffer = Buffer.alloc(maxRecordBytes)
    const { bytesRead } = await file.read(buffer, 0, maxRecordBytes, 0)
    const lines = buffer.toString('latin1', 0, bytesRead).split('\n')
    const known = new Set(lines.filter((line) => /^[0-9a-f]{64}$/.test(line)))
    const { size } = await file.stat()
    return { known, intact: lines.at(-1) === '' && known.size === lines.length - 1 && size <= maxRecordBytes }
  } catch {
    return noFindings
  }
}

/** Hashes of what tells whether a file is still the same, and of where in it the weights lie. Files of the last moments have none. */
async function identitiesOf(files: WeightFiles): Promise<Map<string, string>> {
  const places = new Map<string, string[]>()
  for (const [name, { file, dtype, byteOffset, byteLength }] of files.entries) {
    const list = places.get(file) ?? []
    places.set(file, list)
    list.push(JSON.stringify([name, dtype, byteOffset, byteLength]))
  }
  const identities = new Map<string, string>()
  for (const [file, list] of places) {
    const status = await stat(file, { bigint: true }).catch(() => undefined)
    if (status === undefined || BigInt(Date.now()) * 1_000_000n - status.ctimeNs < settledNs) continue
    const { dev, ino, size, mtimeNs, ctimeNs } = status
    const hash = createHash('sha256').update([1, dev, ino, size, mtimeNs, ctimeNs, ...list].join('\n'))
    identities.set(file, hash.digest('hex'))
  }
  return identities
}
