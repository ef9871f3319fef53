/**
 * Finds and loads the native addon, once and only when something needs it.
 *
 * node-gyp-build looks in build/Release (a clone) and then in prebuilds/ (a release). When that fails, the message says what
 * was found, what is needed and what to do: an idea of sharp's (lib/sharp.mjs there).
 */

import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { AlmaError, messageOf } from '../errors.js'
import type { NativeAddon } from './native-addon.js'

const packageName = 'alma-native'
const nodeFloor = '20.19.0'

let loaded: NativeAddon | undefined

/** The addon. Throws an AlmaError `ERR_ALMA_NATIVE` that explains itself. */
export function loadAddon(): NativeAddon {
  if (loaded === undefined) {
    const addon = loadAddonFrom(packageRoot(dirname(fileURLToPath(import.meta.url))))
    addon.setErrorClass(AlmaError)
    loaded = addon
  }
  return loaded
}

/**
 * The folder of the package. Its distance differs between the sources (lib/runtime) and the compiled files (dist/lib/runtime),
 * so the way up is searched for the package's own package.json. Undefined in a bundle, which has left that file behind.
 */
export function packageRoot(from: string): string | undefined {
  for (let folder = from; ; folder = dirname(folder)) {
    try {
      const { name } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { name?: unknown }
      if (name === packageName) return folder
    } catch {
      // no package.json here, or one that is not JSON: it is not ours
    }
    if (folder === dirname(folder)) return undefined
  }
}

/** Loads the addon of the package in `root`. */
export function loadAddonFrom(root: string | undefined): NativeAddon {
  let file: string | undefined
  try {
    if (root === undefined) throw new Error(`the folder of the package ${packageName} was not found`)
    const require = createRequire(join(root, 'package.json'))
    const { resolve } = require('node-gyp-build') as { resolve: (folder: string) => string }
    file = resolve(root)
    return require(file) as NativeAddon
  } catch (error) {
    throw new AlmaError('ERR_ALMA_NATIVE', explainLoadFailure(messageOf(error), loadFacts(root, file)), {
      cause: error,
    })
  }
}

/** What is known about a failed attempt; plain data, so that every case of the message can be tested anywhere. */
export interface LoadFacts {
  readonly platform: string
  readonly arch: string
  readonly nodeVersion: string
  /** The C library: `glibc 2.36`, `musl`, or undefined where the question makes no sense. */
  readonly libc: string | undefined
  readonly root: string | undefined
  /** The binary that could not be loaded, or undefined when there was none to try. */
  readonly file: string | undefined
  /** The processor that `file` was built for, if its header says so. */
  readonly fileArch: string | undefined
  /** What the package carries, e.g. `linux-x64/alma-native.glibc.node`. */
  readonly prebuilds: readonly string[]
  /** The package is a clone of the repository, where the addon can be built. */
  readonly isClone: boolean
  readonly isElectron: boolean
  readonly prebuildsOnly: boolean
}

export function explainLoadFailure(reason: string, facts: LoadFacts): string {
  const solutions: string[] = []
  const { platform, arch, file } = facts
  const machine = `${platform}-${arch}`
  const build = facts.isClone
    ? 'Build it: npm run build:native (needs CMake 3.22 and a C++20 compiler)'
    : 'Build it from source: see docs/building.md, "A platform without a prebuilt binary"'

  if (isOlder(facts.nodeVersion, nodeFloor)) {
    solutions.push(`Update Node.js: version ${facts.nodeVersion} found, ${nodeFloor} or later required`)
  }
  const version = /version `(GLIBC|GLIBCXX|CXXABI)_([\d.]+)' not found/.exec(reason)
  if (facts.root === undefined) {
    solutions.push(
      `A bundler has moved this code away from the package. Mark '${packageName}' as external, so that it stays in node_modules`,
    )
  } else if (file === undefined) {
    if (facts.prebuildsOnly) {
      solutions.push(
        'The environment variable PREBUILDS_ONLY is set, which hides a build in build/Release: unset it, or make the prebuild (npm run prebuilds)',
      )
    }
    if (facts.prebuilds.some((name) => name.startsWith(`${machine}/`))) {
      solutions.push(`The prebuilt binary is for another C library: ${facts.libc ?? 'unknown'} found`)
    } else if (facts.prebuilds.length > 0) {
      solutions.push(`No prebuilt binary is made for ${machine} yet; there are ${facts.prebuilds.join(', ')}`)
      solutions.push(
        'If node_modules came from another machine (a container image, a shared folder), run npm install on this one',
      )
    }
    solutions.push(build)
  } else if (facts.fileArch !== undefined && facts.fileArch !== arch) {
    solutions.push(
      `The binary is for ${facts.fileArch}, this Node.js is for ${arch}. Install with the Node.js that will run it`,
    )
    if (facts.isClone) solutions.push(build)
  } else if (version?.[1] === 'GLIBC') {
    solutions.push(
      `Use a system with glibc ${version[2]} or later (${facts.libc ?? 'another libc'} found): RHEL 9, Debian 12, Ubuntu 22.04, Amazon Linux 2023 or later`,
    )
    solutions.push(`${build}. On this system that gives a binary for its own glibc`)
  } else if (version) {
    solutions.push(
      `The C++ runtime of this system is older than ${version[1]}_${version[2]}: update libstdc++. Released binaries carry their own, so this one was built here`,
    )
    solutions.push(build)
  } else if (/loading addons is disabled/.test(reason)) {
    solutions.push('Start Node.js without --no-addons')
  } else if (facts.libc === 'musl' || /symbol not found|Error relocating|ld-linux/.test(reason)) {
    solutions.push(
      'The binary is for glibc, and this system (Alpine?) has musl. Use an image with glibc, such as node:22-slim',
    )
    solutions.push(build)
  } else if (/undefined symbol: (napi_|node_api_)/.test(reason)) {
    solutions.push(`Update Node.js: this one (${facts.nodeVersion}) lacks a function of Node-API 8`)
  } else if (/invalid ELF header|file too short|not a mach-o|not a valid Win32/i.test(reason)) {
    solutions.push('The file is damaged, or an unresolved Git LFS pointer: remove the package and install it again')
    if (facts.isClone) solutions.push(build)
  } else {
    solutions.push(
      facts.isClone
        ? `${build}; after a failed update: npm run clean first`
        : 'Remove the package and install it again',
    )
  }
  if (facts.isElectron) {
    solutions.push(
      'In Electron, keep the package out of the archive (asarUnpack) and load it in the main or a utility process',
    )
  }

  return [
    `the native addon could not be loaded on ${machine}${facts.libc === undefined ? '' : ` (${facts.libc})`}, Node.js ${facts.nodeVersion}`,
    `  ${reason.trim().replace(/\s*\n\s*/g, ' · ')}`,
    ...(file === undefined ? [] : [`  file: ${file}`]),
    'Possible solutions:',
    ...solutions.map((solution) => `- ${solution}`),
  ].join('\n')
}

function loadFacts(root: string | undefined, file: string | undefined): LoadFacts {
  return {
    platform: process.platform,
    arch: process.arch,
    nodeVersion: process.versions.node,
    libc: libcOfThisProcess(),
    root,
    file,
    fileArch: file === undefined ? undefined : elfArchitecture(file),
    prebuilds: root === undefined ? [] : listPrebuilds(join(root, 'prebuilds')),
    isClone: root !== undefined && existsSync(join(root, 'lib', 'runtime')),
    isElectron: process.versions.electron !== undefined,
    prebuildsOnly: Boolean(process.env.PREBUILDS_ONLY),
  }
}

function libcOfThisProcess(): string | undefined {
  if (process.platform !== 'linux') return undefined
  // The report's list of network interfaces may ask the resolver, which can take seconds. (Typed by Node 20.19 and later only.)
  Object.assign(process.report, { excludeNetwork: true })
  const report = process.report.getReport() as unknown as { header?: { glibcVersionRuntime?: string } }
  const version = report.header?.glibcVersionRuntime
  return version === undefined ? 'musl' : `glibc ${version}`
}

function listPrebuilds(folder: string): string[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.node'))
    .map((name) => name.replaceAll('\\', '/'))
    .sort()
}

/** The dynamic loader says "cannot open shared object file: No such file or directory" of a binary for another processor. */
function elfArchitecture(file: string): string | undefined {
  const header = Buffer.alloc(20)
  const descriptor = openSync(file, 'r')
  try {
    readSync(descriptor, header, 0, header.length, 0)
  } finally {
    closeSync(descriptor)
  }
  if (header.readUInt32BE(0) !== 0x7f454c46) return undefined // \x7fELF
  const machines: Readonly<Record<number, string>> = { 3: 'ia32', 40: 'arm', 62: 'x64', 183: 'arm64', 243: 'riscv64' }
  return machines[header.readUInt16LE(18)]
}

function isOlder(version: string, floor: string): boolean {
  const [a, b] = [version, floor].map((text) => text.split('.').map(Number))
  for (let i = 0; i < 3; i++) {
    const difference = (a?.[i] ?? 0) - (b?.[i] ?? 0)
    if (difference !== 0) return difference < 0
  }
  return false
}
