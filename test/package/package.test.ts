/** What is in the package, and that its descriptions of the build agree. */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..')
const read = (name: string) => readFileSync(join(root, name), 'utf8')
const manifest = JSON.parse(read('package.json')) as {
  main: string
  types: string
  bin: Record<string, string>
  gypfile: boolean
  binary: { napi_versions: number[] }
  engines: { node: string }
  scripts: Record<string, string>
  dependencies: Record<string, string>
  exports: { '.': { import: Record<string, string>; require: Record<string, string> } }
}

describe('the packed files', () => {
  const npm = spawnSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: root,
    encoding: 'utf8',
    shell: process.platform === 'win32',
  })
  const files = (JSON.parse(npm.stdout) as [{ files: { path: string }[] }])[0].files.map(({ path }) => path)

  it('are those of a whitelist', () => {
    const allowed =
      /^(dist\/(lib|bench)\/|bench\/peers\/\w[\w-]*\.(mjs|py)$|native\/|prebuilds\/|docs\/|(index\.cjs|index\.d\.cts|CMakeLists\.txt|binding\.gyp|package\.json|LICENSE|README\.md|CHANGELOG\.md)$)/
    expect(files.filter((file) => !allowed.test(file))).toEqual([])
  })

  it('include what a build from source needs', () => {
    for (const file of ['CMakeLists.txt', 'binding.gyp', 'native/runtime/ops.h', 'native/cuda/device_query.cu']) {
      expect(files).toContain(file)
    }
    expect(files.some((file) => file.startsWith('native/addon/'))).toBe(true)
    expect(files.some((file) => file.startsWith('native/cpu/'))).toBe(true)
  })

  it('include every entry point', () => {
    expect(files).toContain(manifest.main.replace('./', ''))
    expect(files).toContain('index.d.cts')
    // The compiled files are there once `npm run build:lib` has run, which npm install does.
    if (existsSync(join(root, 'dist'))) {
      const { import: esm } = manifest.exports['.']
      for (const path of [esm.default, esm.types, manifest.types, ...Object.values(manifest.bin)]) {
        expect(files).toContain(path?.replace('./', ''))
      }
    }
  })
})

describe('package.json', () => {
  it('runs nothing when it is installed, and does not let npm start node-gyp by itself', () => {
    for (const name of ['preinstall', 'install', 'postinstall']) expect(manifest.scripts).not.toHaveProperty(name)
    // npm runs `prebuild` before every script named `build`.
    expect(manifest.scripts).toHaveProperty('prebuild')
    expect(manifest.scripts).not.toHaveProperty('build')
    expect(manifest.gypfile).toBe(false)
  })

  it('asks for a Node.js that can require() modules', () => {
    expect(manifest.engines.node).toBe('>=20.19.0')
    expect(read('lib/runtime/load-addon.ts')).toContain("nodeFloor = '20.19.0'")
  })

  it('loads the addon with a package that is installed with it', () => {
    expect(manifest.dependencies).toHaveProperty('node-gyp-build')
  })
})

describe('the entry points', () => {
  it.runIf(existsSync(join(root, 'dist', 'lib', 'index.js')))('give one instance to import and to require', () => {
    const program = `
      const required = require('./index.cjs')
      import('./dist/lib/index.js').then((imported) => {
        const different = Object.keys(imported).filter((name) => imported[name] !== required[name])
        console.log(JSON.stringify({ names: Object.keys(imported).length, different }))
      })`
    const run = spawnSync(process.execPath, ['-e', program], { cwd: root, encoding: 'utf8' })
    expect(run.stderr).toBe('')
    const { names, different } = JSON.parse(run.stdout) as { names: number; different: string[] }
    expect(names).toBeGreaterThan(0)
    expect(different).toEqual([])
  })
})

describe('CMakeLists.txt and binding.gyp', () => {
  const cmake = read('CMakeLists.txt')
  const gyp = read('binding.gyp')

  it('name the same product', () => {
    expect(cmake).toMatch(/add_library\(alma_native MODULE/)
    expect(gyp).toContain('<(PRODUCT_DIR)/alma_native.node')
  })

  it('have one list of sources, in CMakeLists.txt', () => {
    expect(gyp).not.toMatch(/\.(cpp|cc|cu)\b|"sources"/)
    expect(gyp).toContain('cmake-js/bin/cmake-js')
  })

  it('agree with package.json on the version of Node-API', () => {
    expect(cmake).toContain(`NAPI_VERSION=${manifest.binary.napi_versions[0]}\n`)
  })

  it('keep the build tree out of the folder of node-gyp', () => {
    expect(gyp).toContain('build/cmake')
  })
})
