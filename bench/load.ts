/** From a folder to the first token, beside reading the file once. Both in processes of their own, the file in the page cache. */
import { execFile } from 'node:child_process'
import { mkdtemp, open, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
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
    let [reading, loading, token] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]
    for (let i = 0; i < repeats; i++) {
      reading = Math.min(reading, await readSeconds(paths))
      const { loaded, first } = await firstToken(folder, device.threads)
      loading = Math.min(loading, loaded)
      token = Math.min(token, first)
    }
    const shape = `${(bytes / 1e9).toFixed(1)} GB`
    const add = (name: string, value: number, goal = ''): void =>
      report.add(figure({ name, shape, value, unit: 's', ceiling: reading, smallerIsBetter: true }), goal)
    report.add(figure({ name: 'reading the file once', shape, value: reading, unit: 's' }))
    add('load, every weight checked', loading)
    add('load and first token', token, '≥ 83 % (1.2 ×)')
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

async function firstToken(folder: string, threads: number): Promise<{ loaded: number; first: number }> {
  const program = fileURLToPath(new URL('./load-process.js', import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, [program, folder, String(threads)])
  return JSON.parse(stdout) as { loaded: number; first: number }
}
