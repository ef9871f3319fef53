import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { AlmaError } from '../../lib/errors.js'
import { recoverDirectory, writeDirectoryAtomic, writeFileAtomic } from '../../lib/files/atomic.js'
import { temporaryPath } from '../../lib/files/temporary.js'

/** Renames that are to fail. */
const refused = vi.hoisted(() => ({ rename: (_from: string, _to: string): boolean => false }))
vi.mock('node:fs/promises', async (importOriginal) => {
  const original = await importOriginal<typeof import('node:fs/promises')>()
  const rename = (from: string, to: string) =>
    refused.rename(from, to)
      ? Promise.reject(Object.assign(new Error('EACCES'), { code: 'EACCES', path: from }))
      : original.rename(from, to)
  return { ...original, rename }
})

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'alma-atomic-'))
})
afterEach(() => {
  vi.restoreAllMocks()
  refused.rename = () => false
  rmSync(root, { recursive: true, force: true })
})

const ioFailure = (...parts: string[]) => {
  const words = parts.map((part) => part.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&'))
  return expect.objectContaining({
    name: 'AlmaError',
    code: 'ERR_ALMA_IO',
    message: expect.stringMatching(words.join('.*')),
  })
}

/** Makes writes through file handles fail as on a full disk, after `calls` that succeed. */
async function fillDisk(calls: number): Promise<void> {
  const handle = await open(join(root, 'probe'), 'w')
  const prototype = Object.getPrototypeOf(handle) as FileHandle
  await handle.close()
  rmSync(join(root, 'probe'))
  const original = prototype.writeFile
  let left = calls
  vi.spyOn(prototype, 'writeFile').mockImplementation(function (this: FileHandle, ...args) {
    if (left-- > 0) return original.apply(this, args)
    return Promise.reject(Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' }))
  })
}

/** The id of a process that has just ended. */
const deadProcess = () => spawnSync(process.execPath, ['-e', '']).pid

describe('writeFileAtomic', () => {
  it('writes text, bytes and pieces, and leaves nothing else', async () => {
    const path = join(root, 'a')
    await writeFileAtomic(path, 'grüße')
    expect(readFileSync(path, 'utf8')).toBe('grüße')
    await writeFileAtomic(path, Uint8Array.of(1, 2, 3))
    expect([...readFileSync(path)]).toEqual([1, 2, 3])
    await writeFileAtomic(path, async (handle) => {
      await handle.writeFile('one ')
      await handle.writeFile('two')
    })
    expect(readFileSync(path, 'utf8')).toBe('one two')
    expect(readdirSync(root)).toEqual(['a'])
  })

  it('shows the old content until the new one is complete', async () => {
    const path = join(root, 'a')
    writeFileSync(path, 'old')
    await writeFileAtomic(path, async (handle) => {
      await handle.writeFile('new')
      expect(readFileSync(path, 'utf8')).toBe('old')
    })
    expect(readFileSync(path, 'utf8')).toBe('new')
  })

  it('keeps the old file when the disk fills up, and says so', async () => {
    const path = join(root, 'weights.bin')
    writeFileSync(path, 'old')
    await fillDisk(1)
    const writing = writeFileAtomic(path, async (handle) => {
      await handle.writeFile('half')
      await handle.writeFile('of it')
    })
    await expect(writing).rejects.toEqual(ioFailure(path, 'disk is full'))
    expect(readFileSync(path, 'utf8')).toBe('old')
    expect(readdirSync(root)).toEqual(['weights.bin'])
  })

  it.runIf(existsSync('/dev/full'))('reports what the kernel says of a full device', async () => {
    const path = join(root, 'a')
    const writing = writeFileAtomic(path, async () => {
      const full = await open('/dev/full', 'w')
      await full.writeFile('x').finally(() => full.close())
    })
    await expect(writing).rejects.toEqual(ioFailure(path, 'disk is full'))
    expect(readdirSync(root)).toEqual([])
  })

  it('passes on what the content throws', async () => {
    const path = join(root, 'a')
    for (const thrown of [
      new AlmaError('ERR_ALMA_DEVICE', 'lost'),
      new TypeError('wrong'),
      AbortSignal.abort().reason,
    ]) {
      await expect(writeFileAtomic(path, () => Promise.reject(thrown))).rejects.toBe(thrown)
    }
    expect(readdirSync(root)).toEqual([])
  })

  it('names a missing folder, and a folder in the place of the file', async () => {
    const path = join(root, 'none', 'a')
    await expect(writeFileAtomic(path, 'x')).rejects.toEqual(ioFailure(path, 'no such file or folder'))
    mkdirSync(join(root, 'b'))
    await expect(writeFileAtomic(join(root, 'b'), 'x')).rejects.toEqual(ioFailure(join(root, 'b')))
    expect(readdirSync(root)).toEqual(['b'])
  })

  it('takes names as long as the file system does', async () => {
    const path = join(root, 'ü'.repeat(127))
    await writeFileAtomic(path, 'x')
    expect(readdirSync(root)).toEqual([basename(path)])
  })

  it('removes temporaries of dead processes only', async () => {
    const own = basename(temporaryPath(join(root, 'model')))
    const [, host] = /\.alma-([0-9a-f]{8})-/.exec(own) ?? []
    const dead = own.replace(`-${process.pid}-`, `-${deadProcess()}-`)
    const kept = [
      own,
      own.replace(`-${process.pid}-`, `-${process.ppid}-`),
      dead.replace(`${host}`, '00000000'), // of another machine
      'model',
    ]
    const older = own.replace(/.$/, (last) => (last === '0' ? '1' : '0'))
    for (const name of [...kept, older]) writeFileSync(join(root, name), '')
    mkdirSync(join(root, dead))
    writeFileSync(join(root, dead, 'shard'), '')
    utimesSync(join(root, older), 1, 1) // this process's id, but before it started
    await writeFileAtomic(join(root, 'other'), 'x')
    expect(readdirSync(root).sort()).toEqual([...kept, 'other'].sort())
  })
})

describe('writeDirectoryAtomic', () => {
  const target = () => join(root, 'checkpoint')
  const previous = () => join(root, '.checkpoint.alma-previous')
  const build = (content: string) => async (folder: string) => {
    mkdirSync(join(folder, 'inner'))
    writeFileSync(join(folder, 'inner', 'a'), content)
  }
  const content = () => readFileSync(join(target(), 'inner', 'a'), 'utf8')

  it('creates, with the folders above, and replaces', async () => {
    const deep = join(root, 'x', 'y', 'checkpoint')
    await writeDirectoryAtomic(deep, build('1'))
    expect(readFileSync(join(deep, 'inner', 'a'), 'utf8')).toBe('1')
    await writeDirectoryAtomic(target(), build('1'))
    writeFileSync(join(target(), 'only-in-old'), '')
    await writeDirectoryAtomic(target(), build('2'))
    expect(content()).toBe('2')
    expect(readdirSync(target())).toEqual(['inner'])
    expect(readdirSync(root).sort()).toEqual(['checkpoint', 'x'])
  })

  it('keeps the old folder when building fails', async () => {
    await writeDirectoryAtomic(target(), build('old'))
    const failure = new Error('out of patience')
    const broken = async (folder: string) => {
      await build('new')(folder)
      throw failure
    }
    await expect(writeDirectoryAtomic(target(), broken)).rejects.toBe(failure)
    const full = async () => {
      throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' })
    }
    await expect(writeDirectoryAtomic(target(), full)).rejects.toEqual(ioFailure(target(), 'disk is full'))
    expect(content()).toBe('old')
    expect(readdirSync(root)).toEqual(['checkpoint'])
  })

  it('puts the old folder back when the new one cannot be renamed', async () => {
    await writeDirectoryAtomic(target(), build('old'))
    refused.rename = (from, to) => to === target() && from !== previous()
    const writing = writeDirectoryAtomic(target(), build('new'))
    await expect(writing).rejects.toEqual(ioFailure(target(), 'permission denied'))
    expect(content()).toBe('old')
    expect(readdirSync(root)).toEqual(['checkpoint'])
  })

  it('recovers the old folder after a crash between the two renames', async () => {
    await writeDirectoryAtomic(target(), build('old'))
    renameSync(target(), previous())
    expect(await recoverDirectory(target())).toBe(true)
    expect(content()).toBe('old')
    expect(readdirSync(root)).toEqual(['checkpoint'])
    expect(await recoverDirectory(target())).toBe(false)
  })

  it('removes the old folder after a crash behind the second rename', async () => {
    await writeDirectoryAtomic(target(), build('new'))
    mkdirSync(previous())
    expect(await recoverDirectory(target())).toBe(false)
    expect(content()).toBe('new')
    expect(readdirSync(root)).toEqual(['checkpoint'])
  })

  it('recovers by itself before the next save', async () => {
    await writeDirectoryAtomic(target(), build('old'))
    renameSync(target(), previous())
    await expect(writeDirectoryAtomic(target(), () => Promise.reject(new Error('no')))).rejects.toThrow('no')
    expect(content()).toBe('old')
  })

  it('replaces the folder behind a link, also after a crash', async () => {
    mkdirSync(join(root, 'disk'))
    symlinkSync(join('disk', 'real'), target())
    mkdirSync(join(root, 'disk', 'real'))
    await writeDirectoryAtomic(target(), build('1'))
    expect(content()).toBe('1')
    expect(readdirSync(join(root, 'disk'))).toEqual(['real'])
    renameSync(join(root, 'disk', 'real'), join(root, 'disk', '.real.alma-previous'))
    expect(await recoverDirectory(target())).toBe(true)
    expect(content()).toBe('1')
  })

  it('does not replace a file', async () => {
    writeFileSync(target(), 'mine')
    await expect(writeDirectoryAtomic(target(), build('x'))).rejects.toEqual(ioFailure(target(), 'a file of that name'))
    expect(readFileSync(target(), 'utf8')).toBe('mine')
    expect(readdirSync(root)).toEqual(['checkpoint'])
  })
})
