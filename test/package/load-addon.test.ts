/** What a user reads when the addon does not load: every case on any machine, and the real loader on real broken packages. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { AlmaError } from '../../lib/errors.js'
import {
  explainLoadFailure,
  type LoadFacts,
  loadAddon,
  loadAddonFrom,
  packageRoot,
} from '../../lib/runtime/load-addon.js'

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..')

const facts: LoadFacts = {
  platform: 'linux',
  arch: 'x64',
  nodeVersion: '22.12.0',
  libc: 'glibc 2.36',
  root: '/app/node_modules/alma-native',
  file: '/app/node_modules/alma-native/prebuilds/linux-x64/alma-native.glibc.node',
  fileArch: 'x64',
  prebuilds: ['linux-x64/alma-native.glibc.node'],
  isClone: false,
  isElectron: false,
  prebuildsOnly: false,
}
const noFile = { file: undefined, fileArch: undefined }
const noBuild = 'No native build was found for platform=linux arch=x64'

describe('the message of a load failure', () => {
  const cases: [name: string, reason: string, facts: Partial<LoadFacts>, expected: RegExp[]][] = [
    [
      'a system with an old glibc',
      "/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by …)",
      { libc: 'glibc 2.28' },
      [/glibc 2\.34 or later \(glibc 2\.28 found\)/, /RHEL 9/],
    ],
    [
      'a C++ runtime that is too old',
      "libstdc++.so.6: version `GLIBCXX_3.4.30' not found",
      {},
      [/older than GLIBCXX_3\.4\.30/, /built here/],
    ],
    ['an old ABI of the C++ runtime', "version `CXXABI_1.3.13' not found", {}, [/older than CXXABI_1\.3\.13/]],
    [
      'a platform without a prebuilt binary',
      noBuild,
      { ...noFile, arch: 'arm64' },
      [/No prebuilt binary is made for linux-arm64 yet; there are linux-x64/, /docs\/building\.md/],
    ],
    ['node_modules of another machine', noBuild, { ...noFile, platform: 'darwin' }, [/came from another machine/]],
    [
      'a prebuilt binary for another C library',
      noBuild,
      { ...noFile, libc: 'musl' },
      [/another C library: musl found/],
    ],
    ['musl', 'Error relocating alma-native.node: __x: symbol not found', { libc: 'musl' }, [/node:22-slim/]],
    [
      'a binary for another processor',
      'cannot open shared object file: No such file or directory',
      { fileArch: 'arm64' },
      [/The binary is for arm64, this Node\.js is for x64/],
    ],
    ['an old Node.js', 'undefined symbol: napi_x', { nodeVersion: '18.20.0' }, [/18\.20\.0 found, 20\.19\.0 or later/]],
    ['a Node.js without Node-API 8', 'undefined symbol: napi_x', {}, [/lacks a function of Node-API 8/]],
    ['a bundled application', 'not found', { ...noFile, root: undefined }, [/bundler/, /'alma-native' as external/]],
    ['a clone without a build', noBuild, { ...noFile, isClone: true, prebuilds: [] }, [/npm run build:native/]],
    ['PREBUILDS_ONLY', noBuild, { ...noFile, isClone: true, prebuildsOnly: true }, [/PREBUILDS_ONLY is set/]],
    [
      '--no-addons',
      'Cannot load native addon because loading addons is disabled.',
      {},
      [/Start Node\.js without --no-addons/],
    ],
    ['a damaged file', 'alma-native.glibc.node: file too short', { fileArch: undefined }, [/damaged/]],
    ['Electron', 'some failure', { isElectron: true }, [/asarUnpack/]],
    ['something unheard of', 'some failure', {}, [/install it again/]],
  ]
  it.each(cases)('%s', (_, reason, changed, expected) => {
    const message = explainLoadFailure(reason, { ...facts, ...changed })
    expect(message).toMatch(/^the native addon could not be loaded on \w+-\w+/)
    expect(message).toContain('Possible solutions:\n- ')
    for (const pattern of expected) expect(message).toMatch(pattern)
  })

  it('gives the reason in one line, and the file', () => {
    const message = explainLoadFailure('first\n    second\n', facts)
    expect(message).toContain('  first · second\n')
    expect(message).toContain(`  file: ${facts.file}`)
  })
})

describe('the loader on a broken package', () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'alma-native-load-'))
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  function makePackage(name: string, binary?: Buffer): string {
    const path = join(folder, name)
    const folderOfBinaries = join(path, 'prebuilds', `${process.platform}-${process.arch}`)
    mkdirSync(folderOfBinaries, { recursive: true })
    writeFileSync(join(path, 'package.json'), '{ "name": "alma-native" }')
    symlinkSync(join(root, 'node_modules'), join(path, 'node_modules'), 'junction')
    if (binary !== undefined) writeFileSync(join(folderOfBinaries, 'alma-native.node'), binary)
    return path
  }
  function failure(path: string | undefined): AlmaError {
    try {
      loadAddonFrom(path)
    } catch (error) {
      expect(error).toBeInstanceOf(AlmaError)
      return error as AlmaError
    }
    throw new Error('the addon was loaded')
  }

  it('says that there is no binary, with the original error as its cause', () => {
    const error = failure(makePackage('empty'))
    expect(error.code).toBe('ERR_ALMA_NATIVE')
    expect(error.message).toMatch(/No native build was found/)
    expect(error.message).toMatch(/docs\/building\.md/)
    expect(error.cause).toBeInstanceOf(Error)
  })

  it('says that the binary is damaged', () => {
    const error = failure(makePackage('damaged', Buffer.from('version https://git-lfs.github.com/spec/v1\n')))
    expect(error.message).toMatch(/alma-native\.node/)
    expect(error.message).toMatch(/damaged|again/)
  })

  it.runIf(process.platform === 'linux')('says that the binary is for another processor', () => {
    // The first 64 bytes of a 64-bit little-endian shared object, for a machine that is not this one.
    const header = Buffer.alloc(64)
    header.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1])
    header.writeUInt16LE(3, 16)
    header.writeUInt16LE(process.arch === 'arm64' ? 62 : 183, 18)
    header.writeUInt32LE(1, 20)
    header.writeUInt16LE(64, 52)
    const other = process.arch === 'arm64' ? 'x64' : 'arm64'
    expect(failure(makePackage('foreign', header)).message).toMatch(new RegExp(`binary is for ${other}, this Node`))
  })

  it('says that it was bundled when the package is nowhere above', () => {
    expect(packageRoot(folder)).toBeUndefined()
    expect(failure(undefined).message).toMatch(/bundler/)
  })
})

describe('the loader', () => {
  it('finds the package from the sources and from the compiled files', () => {
    expect(packageRoot(join(root, 'lib', 'runtime'))).toBe(root)
    expect(packageRoot(join(root, 'dist', 'lib', 'runtime'))).toBe(root)
  })

  it('loads the addon once', () => {
    expect(loadAddon()).toBe(loadAddon())
  })
})
