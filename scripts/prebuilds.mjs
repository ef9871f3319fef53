// `npm run prebuilds`: the binary that a release carries, prebuilds/<platform>-<arch>/alma-native.<libc>.node.
// $ALMA_NATIVE_CUDA (AUTO, ON, OFF) and $ALMA_NATIVE_CUDA_ARCHITECTURES are passed on; a release is made with ON, so that it cannot lose CUDA
// unnoticed.
import { existsSync } from 'node:fs'
import { buildNative, missingTool } from './build-native.mjs'
import { addonPath, fail, runBin } from './project.mjs'

const missing = missingTool()
if (missing !== undefined) fail(`alma-native: ${missing}`)
const hadDevelopmentBuild = existsSync(addonPath)
const shim = process.platform === 'win32' ? 'node scripts/prebuild-node-gyp.mjs' : './scripts/prebuild-node-gyp.mjs'
runBin('prebuildify', ['--napi', '--strip', '--tag-libc', '--name', 'alma-native', '--node-gyp', shim], {
  bin: 'prebuildify',
})
// prebuildify moves the product away from build/Release; the tests of the clone want theirs back, which is one link.
if (hadDevelopmentBuild) process.exitCode = buildNative()
