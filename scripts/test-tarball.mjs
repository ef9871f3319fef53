// `npm run test:tarball`: what a user gets. Packs the project with this machine's prebuilt binary, installs the tarball into an empty
// folder where there is neither compiler nor Python nor CUDA on PATH, and uses it by import, by require, from a worker and from the
// command line.
import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fail, newestNativeSource, prebuildFolder, prebuildName, root, runBin, runNode } from './project.mjs'

const windows = process.platform === 'win32'
const folder = mkdtempSync(join(tmpdir(), 'alma-native-tarball-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

// 1. The tarball.
const prebuild = join(prebuildFolder, prebuildName)
if (!existsSync(prebuild) || statSync(prebuild).mtimeMs < newestNativeSource()) {
  if (runNode(join(root, 'scripts', 'prebuilds.mjs')) !== 0) fail('the prebuild failed')
}
runBin('typescript', ['-p', 'tsconfig.json'], { bin: 'tsc' })
// npm_execpath is npm's own script: it works with the bare PATH below, where `npm` as a command may not.
const npmScript = process.env.npm_execpath
if (npmScript === undefined) fail('run this with npm: npm run test:tarball')
const npm = (args, options) => spawnSync(process.execPath, [npmScript, ...args], { encoding: 'utf8', ...options })
const pack = npm(['pack', '--ignore-scripts', '--silent', '--pack-destination', folder], { cwd: root })
if (pack.status !== 0) fail(`npm pack failed:\n${pack.stderr}`)
const tarball = join(folder, readdirSync(folder).find((name) => name.endsWith('.tgz')) ?? '')

// 2. An application, and a PATH with what npm and its shims need and nothing that could build.
const application = join(folder, 'application')
const bin = join(folder, 'bin')
mkdirSync(application)
mkdirSync(bin)
for (const name of ['node', 'sh', 'env', 'uname', 'dirname', 'basename', 'sed', 'readlink']) {
  const found = (process.env.PATH ?? '')
    .split(delimiter)
    .map((path) => join(path, name))
    .find(existsSync)
  if (found !== undefined) symlinkSync(name === 'node' ? process.execPath : found, join(bin, name))
}
const environment = { HOME: folder, PATH: windows ? process.env.PATH : bin }
// Where packages come from and the registry's certificate are the machine's business; everything else is left behind.
for (const [name, value] of Object.entries(process.env)) {
  if (
    /^(npm_config_(cache|registry|cafile|proxy|https_proxy|userconfig)|NODE_EXTRA_CA_CERTS|https?_proxy|no_proxy)$/i.test(
      name,
    )
  ) {
    environment[name] = value
  }
}
writeFileSync(join(application, 'package.json'), '{ "name": "application", "private": true }\n')
const started = Date.now()
const install = npm(['install', tarball, '--prefer-offline', '--no-audit', '--no-fund'], {
  cwd: application,
  env: environment,
})
if (install.status !== 0) fail(`npm install failed:\n${install.stdout}${install.stderr}`)
// npm lists `prepare` of a tarball that did not come from a registry, though it does not run it.
if (/\((pre|post)?install: /.test(install.stderr)) fail(`npm complains of install scripts:\n${install.stderr}`)
const seconds = ((Date.now() - started) / 1000).toFixed(1)
console.log(`installed ${(statSync(tarball).size / 1e6).toFixed(2)} MB in ${seconds} s: ${install.stdout.trim()}`)

// 3. Use it.
const use = `
  const device = await alma.Device.open('cpu')
  const a = alma.Tensor.from(device, new Float32Array([1, 2, 3, 4]), [2, 2], 'f32')
  const b = alma.Tensor.from(device, new Float32Array([5, 6, 7, 8]), [2, 2], 'f32')
  const c = alma.ops.add(a, b)
  const values = [...(await c.read())].join(' ')
  if (values !== '6 8 10 12') throw new Error('wrong sum: ' + values)
  await device.dispose()`
const programs = {
  'import.mjs': `import * as alma from 'alma-native'\n${use}\nconsole.log('import')\n`,
  'require.cjs': `const alma = require('alma-native')\n;(async () => {${use}\nconsole.log('require')\n})()\n`,
  'both.mjs': `import { createRequire } from 'node:module'
    import { AlmaError } from 'alma-native'
    if (createRequire(import.meta.url)('alma-native').AlmaError !== AlmaError) throw new Error('import and require give two instances')
    console.log('one instance')\n`,
  'worker.mjs': `import { Worker } from 'node:worker_threads'
    for (let i = 0; i < 3; i++) new Worker(new URL('./import.mjs', import.meta.url))\n`,
}
for (const [name, text] of Object.entries(programs)) {
  writeFileSync(join(application, name), text)
  const run = spawnSync(process.execPath, [name], { cwd: application, env: environment, encoding: 'utf8' })
  if (run.status !== 0) fail(`${name} failed (${run.signal ?? run.status}):\n${run.stdout}${run.stderr}`)
  console.log(`${name}: ${run.stdout.trim().replaceAll('\n', ', ')}`)
}

// 4. The command line, through the shim that npm made.
for (const command of ['alma', 'alma-native']) {
  const shim = join(application, 'node_modules', '.bin', command + (windows ? '.cmd' : ''))
  const run = spawnSync(shim, ['info', '--json'], {
    cwd: application,
    env: environment,
    encoding: 'utf8',
    shell: windows,
  })
  if (run.status !== 0) fail(`${command} info --json failed:\n${run.error ?? ''}${run.stdout}${run.stderr}`)
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const information = JSON.parse(run.stdout)
  if (!run.stdout.includes(version)) fail(`${command} info --json does not give the version ${version}:\n${run.stdout}`)
  console.log(`${command} info: ${JSON.stringify(information)}`)
}
console.log(`tarball: passed on Node.js ${process.version}`)
