// `npm run test:prebuild`: checks the binary of `npm run prebuild`, then runs the tests on it. Arguments go to vitest.
import { spawnSync } from 'node:child_process'
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fail, prebuildFolder, prebuildName, runBin } from './project.mjs'

const glibcFloor = [2, 34] // docs/building.md and the load error name it
const sizeLimit = 40e6 // bytes: what a package on npm can carry without trouble

const file = join(prebuildFolder, prebuildName)
if (!existsSync(file)) fail(`${file} is missing: npm run prebuild`)
if (statSync(file).size > sizeLimit) fail(`${file} has ${statSync(file).size} bytes, more than ${sizeLimit}`)
if (process.platform === 'linux') {
  const symbols = spawnSync('objdump', ['-T', file], { encoding: 'utf8', maxBuffer: 1 << 28 })
  if (symbols.error) fail('objdump (binutils) is needed to check the prebuild')
  const tooNew = new Set()
  for (const [version, major, minor] of symbols.stdout.matchAll(/GLIBC_(\d+)\.(\d+)[.\d]*/g)) {
    if (Number(major) > glibcFloor[0] || (Number(major) === glibcFloor[0] && Number(minor) > glibcFloor[1]))
      tooNew.add(version)
  }
  if (tooNew.size > 0) fail(`${file} needs ${[...tooNew].join(', ')}; the floor is GLIBC_${glibcFloor.join('.')}`)
  const foreign = [...symbols.stdout.matchAll(/GLIBCXX_[\d.]+|CXXABI_[\d.]+/g)]
  if (foreign.length > 0) fail(`${file} needs ${foreign[0][0]}: the C++ runtime should be inside`)
}
console.log(`${file}: ${(statSync(file).size / 1e6).toFixed(1)} MB`)
runBin('vitest', ['run', ...process.argv.slice(2)], { spawn: { env: { ...process.env, PREBUILDS_ONLY: '1' } } })
