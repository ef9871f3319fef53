import { spawn } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { finishInterruptedReplace, replaceFiles } from '../../lib/files/replace-files.js'

let root: string
let folder: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'alma-replace-'))
  folder = join(root, 'model')
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

const contents = (of = folder) =>
  Object.fromEntries(
    readdirSync(of)
      .sort()
      .map((name) => [name, readFileSync(join(of, name), 'utf8')]),
  )

/** The folder as a process leaves it that dies after the point of no return and `moved` moves. */
function interrupted(moved: number): void {
  const files = ['a', 'b', 'c']
  mkdirSync(join(folder, '.alma-save'), { recursive: true })
  for (const name of ['a', 'b', 'c', 'stale', 'mine']) writeFileSync(join(folder, name), 'old')
  for (const [i, name] of files.entries()) {
    writeFileSync(join(folder, ...(i < moved ? [name] : ['.alma-save', name])), 'new')
  }
  writeFileSync(join(folder, '.alma-save', '.manifest.json'), JSON.stringify({ files, remove: ['stale'] }))
}

describe('replaceFiles', () => {
  it('creates the folder, replaces files, removes stale ones, keeps the rest', async () => {
    await replaceFiles(folder, [
      { name: 'a', content: '1' },
      { name: 'b', content: '1' },
    ])
    writeFileSync(join(folder, 'mine'), 'mine')
    await replaceFiles(folder, [{ name: 'a', content: '2' }], (name) => name !== 'mine')
    expect(contents()).toEqual({ a: '2', mine: 'mine' })
  })

  it('touches nothing when a file cannot be written', async () => {
    await replaceFiles(folder, [
      { name: 'a', content: 'old' },
      { name: 'b', content: 'old' },
    ])
    const full = () => Promise.reject(Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' }))
    const saving = replaceFiles(
      folder,
      [
        { name: 'a', content: 'new' },
        { name: 'b', content: full },
      ],
      () => true,
    )
    await expect(saving).rejects.toMatchObject({
      code: 'ERR_ALMA_IO',
      message: `cannot write ${join(folder, 'b')}: the disk is full`,
    })
    expect(contents()).toEqual({ a: 'old', b: 'old' })
  })

  it.each(['', '..', 'x/y', '.manifest.json', '.alma-save'])('refuses the name %j', async (name) => {
    await expect(replaceFiles(folder, [{ name, content: '' }])).rejects.toMatchObject({ code: 'ERR_ALMA_OPTION' })
  })

  it('refuses a name given twice', async () => {
    const twice = [
      { name: 'a', content: '1' },
      { name: 'a', content: '2' },
    ]
    await expect(replaceFiles(folder, twice)).rejects.toMatchObject({ code: 'ERR_ALMA_OPTION' })
    expect(existsSync(folder)).toBe(false)
  })
})

describe('finishInterruptedReplace', () => {
  it.each([0, 1, 2, 3])('completes a save that died after %i of 3 moves', async (moved) => {
    interrupted(moved)
    expect(await finishInterruptedReplace(folder)).toBe(true)
    expect(contents()).toEqual({ a: 'new', b: 'new', c: 'new', mine: 'old' })
    expect(await finishInterruptedReplace(folder)).toBe(false)
  })

  it('can itself be run twice at once', async () => {
    interrupted(1)
    await Promise.all([finishInterruptedReplace(folder), finishInterruptedReplace(folder)])
    expect(contents()).toEqual({ a: 'new', b: 'new', c: 'new', mine: 'old' })
  })

  it('runs before the next save', async () => {
    interrupted(0)
    await replaceFiles(folder, [{ name: 'b', content: 'newer' }])
    expect(contents()).toEqual({ a: 'new', b: 'newer', c: 'new', mine: 'old' })
  })

  it('does nothing in a folder that is missing', async () => {
    expect(await finishInterruptedReplace(folder)).toBe(false)
  })

  it.each(['[]', '{"files":["../x"],"remove":[]}', '{"files":[],"remove":["/etc/passwd"]}', '{"files":{}}', 'x'])(
    'refuses the manifest %s',
    async (manifest) => {
      interrupted(0)
      writeFileSync(join(folder, '.alma-save', '.manifest.json'), manifest)
      await expect(finishInterruptedReplace(folder)).rejects.toMatchObject({ code: 'ERR_ALMA_IO' })
      expect(readFileSync(join(folder, 'a'), 'utf8')).toBe('old')
    },
  )

  it('does not follow a link, which could lead anywhere', async () => {
    interrupted(0)
    mkdirSync(join(root, 'victim'))
    symlinkSync(join(folder, '.alma-save'), join(root, 'victim', '.alma-save'))
    expect(await finishInterruptedReplace(join(root, 'victim'))).toBe(false)
    expect(existsSync(join(folder, '.alma-save', 'a'))).toBe(true)
  })

  it('makes a killed save all old or all new', async () => {
    // The library's own source in a process of its own, killed at growing delays.
    const source = new URL('../../lib/files/replace-files.ts', import.meta.url).pathname
    const vite = new URL('../../node_modules/vite/dist/node/index.js', import.meta.url).pathname
    const script = `
      const { runnerImport } = await import(${JSON.stringify(vite)})
      const { module } = await runnerImport(${JSON.stringify(source)})
      const names = Array.from({ length: 40 }, (_, i) => 'f' + i)
      for (let n = 1; ; n++) {
        await module.replaceFiles(process.argv[1], names.map((name) => ({ name, content: String(n) })))
        if (n === 1) process.stdout.write('ready')
      }`
    for (let round = 0; round < 6; round++) {
      const child = spawn(process.execPath, ['--input-type=module', '-e', script, folder])
      const errors: string[] = []
      child.stderr.on('data', (text) => errors.push(String(text)))
      await new Promise<void>((resolve, reject) => {
        child.stdout.once('data', () => resolve())
        child.once('exit', () => reject(new Error(errors.join(''))))
      })
      await new Promise((resolve) => setTimeout(resolve, 7 * round))
      const gone = new Promise((resolve) => child.once('exit', resolve))
      child.kill('SIGKILL')
      await gone
      await finishInterruptedReplace(folder)
      const names = readdirSync(folder).filter((name) => !name.startsWith('.'))
      expect(names).toHaveLength(40)
      expect(new Set(names.map((name) => readFileSync(join(folder, name), 'utf8'))).size).toBe(1)
    }
  })
})
