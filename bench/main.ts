/**
 * `npm run bench -- [ops|decode|train|addon|load|gpu] [--device NAME] [--threads N] [--json] [--quick] [--output FILE]`: what this machine does, beside
 * what it could do and what other programs do. On a GPU the group is `gpu`: the sizes of the others are a processor's. `--output` writes
 * the figures as JSON, of which scripts/performance-table.mjs makes docs/performance.md.
 */
import { realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { AlmaError, messageOf } from '../lib/errors.js'
import { Device } from '../lib/runtime/index.js'
import { callBench } from './addon/calls.js'
import { eventLoopBench } from './addon/event-loop.js'
import { decodeBench } from './decode.js'
import { gpuBench } from './gpu/main.js'
import type { Bench } from './harness.js'
import { loadBench } from './load.js'
import { adamwBench } from './ops/adamw.js'
import { attentionBench } from './ops/attention.js'
import { crossEntropyBench } from './ops/cross-entropy.js'
import { matmulBench } from './ops/matmul.js'
import { rmsNormBench } from './ops/rms-norm.js'
import { swiGluBench } from './ops/swi-glu.js'
import { writeResults } from './results.js'
import { FigureReport, type Output } from './table.js'
import { trainBench } from './train.js'

const groups: Readonly<Record<string, readonly Bench[]>> = {
  ops: [matmulBench, attentionBench, rmsNormBench, swiGluBench, crossEntropyBench, adamwBench],
  decode: [decodeBench],
  train: [trainBench],
  addon: [callBench, eventLoopBench],
  load: [loadBench],
  gpu: [gpuBench],
}

/**
 * Runs the named groups (default: all that are for the device) and prints their figures.
 *
 * @throws AlmaError ERR_ALMA_OPTION for arguments that are none of these; ERR_ALMA_DEVICE, ERR_ALMA_NATIVE from opening the device.
 */
export async function runBench(argv: readonly string[], output: Output = process): Promise<void> {
  const { names, deviceName, threads, json, quick, help, file } = argumentsOf(argv)
  if (help) {
    output.stdout.write(usage)
    return
  }
  await using device = Device.open(deviceName, threads === undefined ? {} : { threads })
  const report = new FigureReport(output, json)
  const machine = `alma-native on ${device.name}: ${device.description}; Node.js ${process.versions.node}`
  ;(json ? output.stderr : output.stdout).write(`${machine}\n`)
  const onCpu = device.name === 'cpu'
  for (const name of names ?? Object.keys(groups).filter((group) => (group === 'gpu') !== onCpu)) {
    for (const bench of groups[name] ?? []) await bench({ device, report, quick })
    // What has been measured is there when a later group is interrupted.
    if (file !== undefined) await writeResults(file, device, report, argv)
  }
  report.finish()
}

const usage = `npm run bench -- [group …] [options]
  groups                ${Object.keys(groups).join(', ')}; default: all that are for the device
  --device NAME         auto, cpu, cuda, cuda:N
  --threads N           of the CPU device, and of the other programs
  --json                the figures as JSON on stdout
  --quick               small problems only: whether everything works
  --output FILE         the figures as JSON in a file, for scripts/performance-table.mjs; FOLDER/ names it after the instruction set
Other programs stand beside the figures where they are found:
  node-llama-cpp        npm install --prefix DIR node-llama-cpp; ALMA_BENCH_PEERS=DIR
  transformers.js       npm install --prefix DIR @huggingface/transformers; ALMA_BENCH_PEERS=DIR, the same one
  PyTorch               pip install torch; ALMA_PYTHON=PYTHON where it is not python3's
  OpenBLAS BLIS oneDNN  apt-get install libopenblas0-pthread libblis4-openmp libdnnl2
`

interface Arguments {
  readonly names: string[] | undefined
  readonly deviceName: string
  readonly threads: number | undefined
  readonly json: boolean
  readonly quick: boolean
  readonly help: boolean
  readonly file: string | undefined
}

function argumentsOf(argv: readonly string[]): Arguments {
  const known = Object.keys(groups)
  try {
    const { values, positionals } = parseArgs({
      args: [...argv],
      options: {
        device: { type: 'string', default: 'auto' },
        threads: { type: 'string' },
        json: { type: 'boolean', default: false },
        quick: { type: 'boolean', default: false },
        output: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
      allowPositionals: true,
    })
    const unknown = positionals.find((name) => !known.includes(name))
    if (unknown !== undefined) throw new Error(`unknown benchmark '${unknown}'; there are ${known.join(', ')}`)
    const { device, threads, json, quick, output, help } = values
    return {
      names: positionals.length > 0 ? positionals : undefined,
      deviceName: device,
      threads: threads === undefined ? undefined : Number(threads),
      json,
      quick,
      help,
      file: output,
    }
  } catch (error) {
    throw new AlmaError('ERR_ALMA_OPTION', `bench: ${messageOf(error)}`, { cause: error })
  }
}

const [, program] = process.argv
if (program !== undefined && realpathSync(program) === fileURLToPath(import.meta.url)) {
  try {
    await runBench(process.argv.slice(2))
  } catch (error) {
    if (!(error instanceof AlmaError)) throw error
    process.stderr.write(`bench: ${error.code}: ${error.message}\n`)
    process.exitCode = 1
  }
}
