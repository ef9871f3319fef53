// `npm run test:arm64`: compiles the CPU kernels and their tests for arm64 and runs them; on another processor under qemu.
// Debian: apt-get install g++-aarch64-linux-gnu qemu-user-static cmake ninja-build
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fail, hasProgram, root } from './project.mjs'

const tree = join(root, 'build', 'arm64')
const native = process.arch === 'arm64'
const compiler = native ? (process.env.CXX ?? 'c++') : 'aarch64-linux-gnu-g++'
const emulator = native ? undefined : ['qemu-aarch64-static', 'qemu-aarch64'].find(hasProgram)

const missing = [
  !hasProgram('cmake') && 'cmake',
  !hasProgram('ninja') && 'ninja',
  !hasProgram(compiler) && compiler,
  !native && emulator === undefined && 'qemu-aarch64',
].filter(Boolean)
if (missing.length > 0)
  fail(`npm run test:arm64 needs ${missing.join(', ')}; on Debian:
  apt-get install g++-aarch64-linux-gnu qemu-user-static cmake ninja-build`)

function run(program, args) {
  const { status, error } = spawnSync(program, args, { stdio: 'inherit' })
  if (error) fail(`${program}: ${error.message}`)
  if (status !== 0) process.exit(status ?? 1)
}

const cross = native ? [] : ['-DCMAKE_SYSTEM_NAME=Linux', '-DCMAKE_SYSTEM_PROCESSOR=aarch64']
const options = ['-DCMAKE_BUILD_TYPE=Release', '-DALMA_NATIVE_TESTS=ON', `-DCMAKE_CXX_COMPILER=${compiler}`, ...cross]
run('cmake', ['-G', 'Ninja', '-S', join(root, 'native', 'cpu'), '-B', tree, ...options])
run('cmake', ['--build', tree])
const program = join(tree, 'cpu_test')
if (emulator === undefined) run(program, [])
else run(emulator, ['-L', '/usr/aarch64-linux-gnu', program])
