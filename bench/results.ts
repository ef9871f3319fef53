/** The figures of a run as a file, with what they were measured on. */
import { execFileSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { arch, cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import type { Device } from '../lib/runtime/index.js'
import type { FigureReport } from './table.js'

/** Writes them to `output`, or, where that ends with a slash, to a file in this folder that is named after what computes. */
export async function writeResults(
  output: string,
  device: Device,
  { figures, notes }: FigureReport,
  argv: readonly string[],
): Promise<void> {
  const results = {
    command: `npm run bench -- ${argv.join(' ')}`,
    commit: gitCommit(),
    date: new Date().toISOString(),
    device: device.name,
    description: device.description,
    threads: device.threads,
    processor: `${cpus()[0]?.model.trim() ?? 'unknown'} (${arch()}), ${cpus().length} processors, ${Math.round(totalmem() / 2 ** 30)} GiB`,
    node: process.versions.node,
    notes,
    figures,
  }
  const file = output.endsWith('/') ? join(output, `${deviceSlug(device)}.json`) : output
  await writeFile(file, `${JSON.stringify(results, null, 2)}\n`)
}

/** `cpu-avx2`: processors by instruction set, since the kernels differ; `cuda-0`. */
function deviceSlug({ name, description }: Device): string {
  return name === 'cpu' ? `cpu-${description.split(', ')[1]}` : name.replace(':', '-')
}

function gitCommit(): string | null {
  try {
    return execFileSync('git', ['rev-parse', 'HEAD'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  } catch {
    return null
  }
}
