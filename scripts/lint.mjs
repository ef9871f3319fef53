// `npm run lint`: biome on TypeScript and JavaScript, clang-format on C++ and CUDA where it is installed. `-- --fix` mends.
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fail, resolveBin, root, runNode } from './project.mjs'

const fix = process.argv.includes('--fix')
const biome = resolveBin('@biomejs/biome', 'biome')
if (biome === undefined) fail('biome is not installed: run npm install')
let failed = runNode(biome, ['check', ...(fix ? ['--write'] : ['--error-on-warnings'])]) !== 0

// Releases of clang-format differ in small things: the layout is that of 14, and only 14 can find fault with it.
const formatter = spawnSync('clang-format', ['--version'], { encoding: 'utf8' })
const version = /version (\d+)/.exec(formatter.stdout ?? '')?.[1]
if (version === '14') {
  const sources = readdirSync(join(root, 'native'), { recursive: true })
    .filter((name) => /\.(h|cpp|cuh?)$/.test(name))
    .map((name) => join('native', name))
  const options = fix ? ['-i'] : ['--dry-run', '--Werror', '--ferror-limit=3']
  const { status } = spawnSync('clang-format', [...options, ...sources], { cwd: root, stdio: 'inherit' })
  if (status === 0) console.log(`clang-format: ${sources.length} files`)
  else failed = true
} else {
  const found = version === undefined ? 'is not installed' : `is version ${version}`
  console.warn(`clang-format ${found}, 14 is needed: the layout of native/ was not checked`)
}

if (failed) fail('npm run lint -- --fix mends what is layout')
