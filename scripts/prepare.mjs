// npm runs this after `npm install` in a clone, before packing, and (in a temporary clone) when the package is installed as a
// git dependency. It never runs where the package was installed from the registry. It builds the addon where that is needed,
// and compiles the TypeScript.
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { buildNative, cudaNote, missingTool } from './build-native.mjs'
import { addonPath, newestNativeSource, prebuildFolder, prebuildName, resolveBin, root, runBin } from './project.mjs'

// npm prepares a git dependency in a temporary clone, packs that, and throws the clone away: what is to arrive must be among
// the packed files, which build/ is not and prebuilds/ is. pacote sets this variable for such a clone.
const isGitDependency = process.env._PACOTE_NO_PREPARE_ !== undefined

if (resolveBin('typescript', 'tsc') === undefined) {
  console.log('alma-native: development dependencies are not installed, so nothing is built')
} else {
  prepareAddon()
  runBin('typescript', ['-p', 'tsconfig.json'], { bin: 'tsc' })
}

function prepareAddon() {
  if (isUpToDate(addonPath)) {
    console.log(`alma-native: the addon in build/Release is up to date (${cudaNote()})`)
    return
  }
  const missing = missingTool()
  if (missing !== undefined) {
    // Not an error: the TypeScript can be worked on without the addon, and loading says what to do.
    console.warn(
      `alma-native: the addon was NOT built, ${missing}. Install CMake 3.22 and a C++20 compiler, then npm run build:native`,
    )
    return
  }
  const status = buildNative(isGitDependency ? ['--CDALMA_NATIVE_EMULATED_ISA=OFF'] : [])
  if (status !== 0) process.exit(status)
  if (isGitDependency) {
    mkdirSync(prebuildFolder, { recursive: true })
    copyFileSync(addonPath, join(prebuildFolder, prebuildName))
  }
  console.log(`alma-native: ${cudaNote()}`)
}

function isUpToDate(file) {
  if (!existsSync(file) || statSync(file).mtimeMs < newestNativeSource()) return false
  // In a process of its own: a broken binary may do worse than throw.
  return (
    spawnSync(process.execPath, ['-e', `require(${JSON.stringify(file)})`], { cwd: root, stdio: 'ignore' }).status === 0
  )
}
