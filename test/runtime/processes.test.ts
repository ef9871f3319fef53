import { spawn } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { describe, expect, it } from 'vitest'
import { deviceName } from '../support/devices.js'

const programs = join(dirname(fileURLToPath(import.meta.url)), 'programs')

/** Resolves with what the worker posts first. */
function start(workerData: string): { worker: Worker; message: Promise<unknown> } {
  const worker = new Worker(join(programs, 'worker.mjs'), { workerData })
  const message = new Promise((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  return { worker, message }
}

describe('worker threads', () => {
  it('each have the addon for themselves, all at once', async () => {
    const workers = Array.from({ length: 4 }, () => start('compute'))
    for (const { message } of workers) expect(await message).toEqual({ first: 128, expected: 128 })
    await Promise.all(workers.map(({ worker }) => worker.terminate()))
  })

  it('can be terminated in the middle of the work', async () => {
    for (let i = 0; i < 4; i++) {
      const { worker, message } = start('hang')
      expect(await message).toBe('started')
      await new Promise((resolve) => setTimeout(resolve, 20 * i))
      const before = Date.now()
      await worker.terminate()
      // The op in progress is finished, the 2000 behind it are not.
      expect(Date.now() - before).toBeLessThan(10_000)
    }
  })
})

function run(
  how: string,
): Promise<{ code: number | null; signal: NodeJS.Signals | null; out: string; errors: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(programs, 'exit.mjs'), how])
    let out = ''
    let errors = ''
    child.stdout.on('data', (chunk) => {
      out += chunk
    })
    child.stderr.on('data', (chunk) => {
      errors += chunk
    })
    child.once('error', reject)
    child.once('close', (code, signal) => resolve({ code, signal, out: out.trim(), errors }))
  })
}

describe('the end of a process', () => {
  it.each([
    ['exit', 0, ''],
    ['return', 0, ''],
    ['await', 0, deviceName === 'emulator' ? '64' : '2048'],
    ['close', 0, 'closed'],
    ['throw', 1, ''],
  ])('%s, in the middle of the work: code %i', async (how, code, out) => {
    const before = Date.now()
    expect(await run(how)).toMatchObject({ code, signal: null, out })
    expect(Date.now() - before).toBeLessThan(20_000)
  })
})
