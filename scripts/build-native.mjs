// `npm run build:native`: the addon for development, in build/Release. Further arguments go to cmake-js, for example
//   npm run build:native -- --CDALMA_NATIVE_CUDA=OFF
// The build tree is build/cmake and not build: node-gyp keeps its own makefile in build.
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { buildEnvironment, fail, hasProgram, resolveBin, root, runNode } from './project.mjs'

const tree = join(root, 'build', 'cmake')

/** Why a build cannot be tried here, or undefined. */
export function missingTool() {
  if (resolveBin('cmake-js') === undefined) return 'cmake-js is not installed'
  if (!hasProgram('cmake')) return 'cmake is not installed'
  const compilers = process.platform === 'win32' ? [] : [process.env.CXX ?? 'c++', 'g++', 'clang++']
  if (compilers.length > 0 && !compilers.some(hasProgram)) return 'no C++ compiler is installed'
  return undefined
}

/** Builds and gives the exit status. Options count when the tree is configured first; other options configure it anew. */
export function buildNative(args = []) {
  const configured = ['build.ninja', 'Makefile', 'alma_native.sln'].some((file) => existsSync(join(tree, file)))
  // CMake leaves a cache behind when configuring fails, and cmake-js takes a cache for a configured tree.
  if (!configured) rmSync(tree, { recursive: true, force: true })
  const cmakeJs = resolveBin('cmake-js')
  // The AVX-512 kernels compiled for AVX2 as well, and the CUDA backend for the emulator: the tests then run their logic on any
  // x64 machine. The kernels' own test programs come with them.
  const tests = ['EMULATED_ISA', 'EMULATOR', 'TESTS'].map((option) => `--CDALMA_NATIVE_${option}=ON`)
  const options = ['--out', tree, ...tests, ...args]
  if (configured && args.length > 0) {
    const status = runNode(cmakeJs, ['configure', ...options], { env: buildEnvironment() })
    if (status !== 0) return status
  }
  return runNode(cmakeJs, ['build', ...options], { env: buildEnvironment() })
}

/** One line for people: with or without CUDA. */
export function cudaNote() {
  const file = join(tree, 'cuda-note.txt')
  return existsSync(file) ? readFileSync(file, 'utf8').trim() : 'built'
}

if (process.argv[1] === import.meta.filename) {
  const missing = missingTool()
  if (missing !== undefined)
    fail(`alma-native: ${missing}. A build needs CMake 3.22, a C++20 compiler and npm install.`)
  const status = buildNative(process.argv.slice(2))
  if (status === 0) console.log(`alma-native: ${cudaNote()}`)
  process.exitCode = status
}
