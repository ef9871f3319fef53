// What the scripts of this folder share: where the project is, how a step is run, and whether a product is older than its sources.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = join(dirname(fileURLToPath(import.meta.url)), '..')
export const addonPath = join(root, 'build', 'Release', 'alma_native.node')
/** Where prebuildify puts the binary of this machine, and node-gyp-build looks for it. */
export const prebuildFolder = join(root, 'prebuilds', `${process.platform}-${process.arch}`)
const libc = existsSync('/etc/alpine-release') ? 'musl' : 'glibc'
export const prebuildName = `alma-native.${libc}.node`

const require = createRequire(import.meta.url)

/** The script behind a command of an installed package, or undefined: no shell and no PATH in between. */
export function resolveBin(packageName, binName = packageName) {
  try {
    const manifest = require.resolve(`${packageName}/package.json`)
    const { bin } = require(manifest)
    return join(dirname(manifest), typeof bin === 'string' ? bin : bin[binName])
  } catch (error) {
    // Some packages do not export their package.json: those are looked up by their folder.
    const manifest = join(root, 'node_modules', packageName, 'package.json')
    if (error.code !== 'ERR_PACKAGE_PATH_NOT_EXPORTED' || !existsSync(manifest)) return undefined
    const { bin } = require(manifest)
    return join(dirname(manifest), typeof bin === 'string' ? bin : bin[binName])
  }
}

/** Runs a Node script with our output; gives its exit status. */
export function runNode(script, args = [], options = {}) {
  const result = spawnSync(process.execPath, [script, ...args], { cwd: root, stdio: 'inherit', ...options })
  if (result.error) throw result.error
  return result.status ?? 1
}

/** Runs the script of a package's command and ends this process when it fails. */
export function runBin(packageName, args = [], options = {}) {
  const script = resolveBin(packageName, options.bin)
  if (script === undefined) fail(`${packageName} is not installed: run npm install`)
  const status = runNode(script, args, options.spawn)
  if (status !== 0) process.exit(status)
}

export function fail(message) {
  console.error(message)
  process.exit(1)
}

/** Whether a program answers `--version`. */
export function hasProgram(name) {
  return spawnSync(name, ['--version'], { stdio: 'ignore' }).status === 0
}

/** The newest modification time below the paths, in ms; 0 when there is nothing. */
export function newest(paths, accept = () => true) {
  let latest = 0
  for (const path of paths) {
    if (!existsSync(path)) continue
    const status = statSync(path)
    if (status.isDirectory()) {
      const entries = readdirSync(path).map((name) => join(path, name))
      latest = Math.max(latest, newest(entries, accept))
    } else if (accept(path)) {
      latest = Math.max(latest, status.mtimeMs)
    }
  }
  return latest
}

export function newestNativeSource() {
  return newest([join(root, 'native'), join(root, 'CMakeLists.txt')])
}

export function newestLibrarySource() {
  const folders = ['lib', 'bench', 'quickstart'].map((name) => join(root, name))
  return newest([...folders, join(root, 'tsconfig.json')], (path) => /\.(ts|json)$/.test(path))
}

/** Ninja uses every core by itself; make uses one unless told, and cmake tells it when this is set. */
export function buildEnvironment() {
  return {
    ...process.env,
    CMAKE_BUILD_PARALLEL_LEVEL: process.env.CMAKE_BUILD_PARALLEL_LEVEL ?? String(availableParallelism()),
  }
}
