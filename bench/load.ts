/** From a folder to the first token, beside reading the file once. Both in processes of their own, the file in the page cache. */
import { execFile } from 'node:child_process'
import { mkdtemp, open, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { createLlama, saveLlama } from '../lib/model/index.js'
import { type BenchContext, figure } from './harness.js'
import { model1B, model15M } from './models.js'

const repeats = 3

export async function loadBench({ device, report, quick = false }: BenchContext): Promise<void> {
  const config = quick ? model15M : model1B
  report.section(`load: ${quick ? '15 million' : '1.1 billion'} weights in bf16`)
  const folder = await mkdtemp(join(tmpdir(), 'alma-bench-'))
  try {
    const model = createLlama(device, config, { dtype: 'bf16' })
    try {
      await saveLlama(model, folder)
    } finally {
      model.dispose()
    }
    const files = (await readdir(folder)).filter((name) => name.endsWith('.safetensors'))
    const paths = files.map((name) => join(folder, name))
    let bytes = 0
    for (const path of paths) bytes += (await stat(path)).size
    // The first load of a file finds out that its weights are finite; later ones know.
    const cache = join(folder, 'cache')
    await setTimeout(2500) // what changed a moment ago might still be changing
    await firstToken(folder, device.threads, cache)
    const best = { reading: Number.POSITIVE_INFINITY, first: noTimes, later: noTimes }
    for (let i = 0; i < repeats; i++) {
      best.reading = Math.min(best.reading, await readSeconds(paths))
      best.first = least(best.first, await firstToken(folder, device.threads, 'off'))
      best.later = least(best.later, await firstToken(folder, device.threads, cache))
    }
    const shape = `${(bytes / 1e9).toFixed(1)} GB`
    const add = (name: string, value: number, goal = ''): void =>
      report.add(figure({ name, shape, value, unit: 's', ceiling: best.reading, smallerIsBetter: true }), goal)
    report.add(figure({ name: 'reading the file once', shape, value: best.reading, unit: 's' }))
    add('first load of a file, every weight checked', best.first.loaded)
    add('first load of a file, and first token', best.first.token)
    add('later loads of the file', best.later.loaded)
    add('later loads of the file, and first token', best.later.token, '≥ 83 % (1.2 ×)')
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function readSeconds(paths: readonly string[]): Promise<number> {
  const buffer = Buffer.allocUnsafe(8 * 2 ** 20)
  const begin = performance.now()
  for (const path of paths) {
    await using file = await open(path)
    while ((await file.read(buffer, 0, buffer.length)).bytesRead > 0) {
      // Only the reading counts.
    }
  }
  return (performance.now() - begin) / 1000
}

interface Times {
  readonly loaded: number
  readonly token: number
}

const noTimes: Times = { loaded: Number.POSITIVE_INFINITY, token: Number.POSITIVE_INFINITY }

function least(a: Times, b: Times): Times {
  return { loaded: Math.min(a.loaded, b.loaded), token: Math.min(a.token, b.token) }
}

/** `cache`: where it is noted that a file was checked; 'off' for nowhere. */
async function firstToken(folder: string, threads: number, cache: string): Promise<Times> {
  const program = fileURLToPath(new URL('./load-process.js', import.meta.url))
  const env = { ...process.env, ALMA_CACHE: cache }
  const { stdout } = await promisify(execFile)(process.execPath, [program, folder, String(threads)], { env })
  return JSON.parse(stdout) as Times
}
