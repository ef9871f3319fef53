#!/usr/bin/env node
// What prebuildify runs in place of node-gyp: `rebuild --target=… --devdir=… --arch=… --release|--debug`. It hands the build to
// cmake-js, which needs neither Python nor the headers of a Node release. A tree of its own, because a released binary has no emulated
// instruction sets.
import { join } from 'node:path'
import { buildEnvironment, resolveBin, root, runNode } from './project.mjs'

const asked = process.argv.slice(2)
const arch = asked.find((argument) => argument.startsWith('--arch='))
const config = asked.includes('--debug') ? 'Debug' : 'Release'
const options = ['--config', config, '--out', join(root, 'build', 'prebuild'), '--CDALMA_NATIVE_EMULATED_ISA=OFF']
if (arch !== undefined) options.push(arch)
for (const name of ['ALMA_NATIVE_CUDA', 'ALMA_NATIVE_CUDA_ARCHITECTURES']) {
  const value = process.env[name]
  if (value !== undefined) options.push(`--CD${name}=${value}`)
}
process.exitCode = runNode(resolveBin('cmake-js'), ['rebuild', ...options], { env: buildEnvironment() })
