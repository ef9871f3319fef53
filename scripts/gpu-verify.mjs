// `npm run gpu:verify`: everything that only a GPU can tell, in one command and in eight minutes: the whole test suite on it,
// compute-sanitizer over the op tests, the same bits twice, the instructions as the emulator takes them, and the benchmarks beside
// PyTorch. Writes bench/results/<gpu>.json and the table in docs/performance.md.
//
//   --dry-run         on a machine without a GPU: the emulator takes its place, and no figure is written
//   --only a,b        some of the steps: suite, sanitizer, determinism, calibration, bench
//
// What was built elsewhere may be brought along: build/Release (the addon, ptx_calibration, ptx_calibration_emulator) and dist. Where it
// is missing, or was built without CUDA, it is built here. The steps' limits
// add up to less than eight minutes.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { buildNative } from './build-native.mjs'
import { performanceTable } from './performance-table.mjs'
import { addonPath, fail, hasProgram, resolveBin, root } from './project.mjs'

const { values } = parseArgs({
  options: { 'dry-run': { type: 'boolean', default: false }, only: { type: 'string' } },
})
const dryRun = values['dry-run']
const steps = ['suite', 'sanitizer', 'determinism', 'calibration', 'bench']
const chosen = values.only?.split(',') ?? steps
const unknown = chosen.find((step) => !steps.includes(step))
if (unknown !== undefined) fail(`gpu:verify: unknown step '${unknown}', expected ${steps.join(', ')}`)
const device = dryRun ? 'emulator' : 'cuda'
const started = Date.now()

/** Runs a program with our output; gives its status, or 'timeout'. Ends what it has started as well. */
function run(command, args, { seconds, env = {}, capture = false } = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ['ignore', capture ? 'pipe' : 'inherit', 'inherit'],
      detached: true,
    })
    let output = ''
    child.stdout?.on('data', (data) => (output += data))
    let late = false
    const timer = setTimeout(() => {
      late = true
      process.kill(-child.pid, 'SIGKILL')
    }, seconds * 1000)
    child.on('error', (error) => {
      clearTimeout(timer)
      resolve({ status: 127, output: error.message })
    })
    child.on('close', (status) => {
      clearTimeout(timer)
      resolve({ status: late ? 'timeout' : status, output })
    })
  })
}

const verdicts = []
function note(step, ok, text) {
  verdicts.push({ step, ok, text })
  console.log(
    `\n--- ${step}: ${ok === true ? 'passed' : ok === false ? 'FAILED' : 'not run'}: ${text} (${seconds()} s)`,
  )
}
const seconds = () => Math.round((Date.now() - started) / 1000)

const vitest = resolveBin('vitest')
if (vitest === undefined) fail('gpu:verify: vitest is not installed: run npm install')

// ---- the machine, and what was brought along
const smi = spawnSync('nvidia-smi', ['--query-gpu=name,driver_version', '--format=csv,noheader'], { encoding: 'utf8' })
const [gpu, driver] = smi.status === 0 ? smi.stdout.trim().split('\n')[0].split(', ') : []
if (gpu === undefined && !dryRun) {
  fail('gpu:verify: nvidia-smi finds no GPU here; --dry-run does what can be done without one, on the emulator')
}
const information = () => {
  const code = `import('${root}/dist/lib/index.js').then(({ Device }) => console.log(JSON.stringify(Device.buildInformation())))`
  const result = spawnSync(process.execPath, ['-e', code], { encoding: 'utf8' })
  return result.status === 0 ? JSON.parse(result.stdout) : undefined
}
if (!existsSync(join(root, 'dist', 'lib', 'index.js'))) {
  if (
    (await run(process.execPath, [resolveBin('typescript', 'tsc'), '-p', 'tsconfig.json'], { seconds: 120 })).status !==
    0
  )
    fail('gpu:verify: the library does not compile')
}
let built = information()
if (built === undefined || (dryRun ? !built.emulator : !built.cuda)) {
  console.log(`gpu:verify: ${built === undefined ? `no addon at ${addonPath}` : built.cudaNote}; building`)
  if (buildNative(dryRun ? [] : ['--CDALMA_NATIVE_CUDA=ON']) !== 0) fail('gpu:verify: the addon cannot be built here')
  built = information()
}
if (built === undefined) fail('gpu:verify: the addon does not load')
console.log(
  `gpu:verify on ${gpu ?? 'the emulator'}${driver === undefined ? '' : `, driver ${driver}`}: ${built.cudaNote}`,
)

// ---- 1. the whole suite
if (chosen.includes('suite')) {
  const report = join(root, 'build', 'test-results-gpu.json')
  const files = dryRun ? ['test/ops/add.test.ts', 'test/runtime/graph.test.ts', 'test/runtime/failures.test.ts'] : []
  const args = [vitest, 'run', ...files, '--reporter=default', '--reporter=json', `--outputFile.json=${report}`]
  const { status } = await run(process.execPath, args, { seconds: 130, env: { ALMA_DEVICE: device } })
  let counts = 'no report'
  try {
    const { numPassedTests, numFailedTests } = JSON.parse(readFileSync(report, 'utf8'))
    counts = `${numPassedTests} passed, ${numFailedTests} failed`
  } catch {}
  note('suite', status === 0, status === 'timeout' ? 'not finished after 130 s' : counts)
}

// ---- 2. compute-sanitizer over the op tests, at the sizes that the emulator has
if (chosen.includes('sanitizer')) {
  if (dryRun || !hasProgram('compute-sanitizer')) {
    note('sanitizer', undefined, dryRun ? 'needs a GPU' : 'compute-sanitizer is not installed')
  } else {
    for (const [tool, limit] of [
      ['memcheck', 40],
      ['racecheck', 50],
      ['synccheck', 30],
    ]) {
      const args = ['--tool', tool, '--target-processes', 'all', '--error-exitcode', '9', '--require-cuda-init', 'no']
      const command = [process.execPath, vitest, 'run', 'test/ops', '--testTimeout', '120000']
      const { status } = await run('compute-sanitizer', [...args, ...command], {
        seconds: limit,
        env: { ALMA_DEVICE: device, ALMA_SMALL_TESTS: '1' },
      })
      const text = status === 'timeout' ? `not finished after ${limit} s` : `exit status ${status}`
      note(`sanitizer ${tool}`, status === 'timeout' ? undefined : status === 0, text)
    }
  }
}

// ---- 3. the same bits twice
if (chosen.includes('determinism')) {
  const program = join(root, 'dist', 'bench', 'gpu', 'determinism.js')
  const { status } = await run(process.execPath, [program, '--device', device], { seconds: 40 })
  note(
    'determinism',
    status === 0,
    status === 0 ? 'every op and a training step: the same bits' : `exit status ${status}`,
  )
}

// ---- 4. what the emulator takes the instructions to do
if (chosen.includes('calibration')) await calibrate()

async function calibrate() {
  const [hardware, emulator] = ['ptx_calibration', 'ptx_calibration_emulator'].map((name) =>
    join(root, 'build', 'Release', name),
  )
  if (!existsSync(emulator)) return note('calibration', undefined, `${emulator} was not brought along`)
  const expected = await run(emulator, [], { seconds: 20, capture: true })
  if (expected.status !== 0) return note('calibration', false, 'the emulator gives no results')
  if (dryRun)
    return note(
      'calibration',
      undefined,
      `${expected.output.trim().split('\n').length} instructions on the emulator; needs a GPU`,
    )
  if (!existsSync(hardware)) return note('calibration', undefined, `${hardware} was not brought along`)
  const got = await run(hardware, [], { seconds: 20, capture: true })
  mkdirSync(join(root, 'build'), { recursive: true })
  writeFileSync(join(root, 'build', 'ptx-calibration.txt'), got.output)
  const different = differingInstructions(got.output, expected.output)
  note(
    'calibration',
    got.status === 0 && different.length === 0,
    different.length === 0 ? 'no difference' : different.join(', '),
  )
}

/** Moved bits must be equal; sums of products and 2^x may differ in the last places. */
function differingInstructions(hardware, emulator) {
  const rows = (text) =>
    new Map(
      text
        .trim()
        .split('\n')
        .map((line) => [line.split(' ')[0], line.split(' ').slice(1)]),
    )
  const float = (hex) => new Float32Array(Uint32Array.of(Number.parseInt(hex, 16)).buffer)[0]
  const got = rows(hardware)
  return [...rows(emulator)].flatMap(([name, expected]) => {
    const values = got.get(name) ?? []
    const tolerance = /^mma|^exp2/.test(name) ? 2e-6 : 0
    const wrong = expected.filter((hex, i) => {
      if (hex === values[i]) return false
      const [a, b] = [float(hex), float(values[i] ?? '7fc00000')]
      // Results below the smallest normal number are zero where the instruction flushes them.
      return !(tolerance > 0 && (Math.abs(a - b) <= tolerance * Math.abs(a) || (Math.abs(a) < 1.2e-38 && b === 0)))
    })
    return wrong.length > 0 ? [`${name}: ${wrong.length} of ${expected.length} values`] : []
  })
}

// ---- 5. the figures
if (chosen.includes('bench')) {
  const args = [join(root, 'dist', 'bench', 'main.js'), 'gpu', '--device', device, '--json']
  const { status, output } = await run(process.execPath, args, { seconds: 160, capture: true })
  if (status !== 0) note('bench', false, status === 'timeout' ? 'not finished after 160 s' : `exit status ${status}`)
  else {
    const { figures } = JSON.parse(output)
    if (dryRun) note('bench', undefined, `${figures.length} figures at sizes that mean nothing; nothing is written`)
    else {
      const results = {
        commit: process.env.ALMA_COMMIT ?? gitCommit(),
        date: new Date().toISOString(),
        gpu,
        driver,
        cuda: built.cudaNote.replace('built with CUDA ', ''),
        figures,
      }
      const name = `${gpu.toLowerCase().replace(/[^a-z0-9]+/g, '-')}.json`
      mkdirSync(join(root, 'bench', 'results'), { recursive: true })
      writeFileSync(join(root, 'bench', 'results', name), `${JSON.stringify(results, null, 2)}\n`)
      writeFileSync(join(root, 'docs', 'performance.md'), performanceTable())
      note('bench', true, `${figures.length} figures in bench/results/${name}`)
    }
  }
}

function gitCommit() {
  const { status, stdout } = spawnSync('git', ['rev-parse', 'HEAD'], { cwd: root, encoding: 'utf8' })
  return status === 0 ? stdout.trim() : null
}

console.log(`\n=== gpu:verify ${dryRun ? '(dry run) ' : ''}in ${seconds()} s`)
for (const { step, ok, text } of verdicts) {
  console.log(`${ok === true ? 'passed ' : ok === false ? 'FAILED ' : 'not run'}  ${step}: ${text}`)
}
process.exitCode = verdicts.some(({ ok }) => ok === false) ? 1 : 0
