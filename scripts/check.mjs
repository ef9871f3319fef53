// `npm run check`: types, what TypeScript and bundlers will make of the package, and whether C++ and TypeScript name the same things.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fail, root, runBin, runNode } from './project.mjs'

runBin('typescript', ['-p', 'tsconfig.test.json'], { bin: 'tsc' })
if (runNode(join(root, 'scripts', 'check-binding.mjs')) !== 0) process.exit(1)

const folder = mkdtempSync(join(tmpdir(), 'alma-native-check-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
// Without scripts: dist is compiled here, and `prepare` would try the addon too.
runBin('typescript', ['-p', 'tsconfig.json'], { bin: 'tsc' })
const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm'
const pack = spawnSync(npm, ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder], {
  cwd: root,
  stdio: ['ignore', 'ignore', 'inherit'],
  shell: process.platform === 'win32',
})
if (pack.status !== 0) fail('npm pack failed')
const tarball = join(folder, readdirSync(folder)[0])
runBin('publint', ['run', tarball, '--strict'])
runBin('@arethetypeswrong/cli', [tarball], { bin: 'attw' })
