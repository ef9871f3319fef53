/** A training run in a process of its own, killed without warning, and resumed: not one bit may differ. */
import { type ChildProcess, spawn } from 'node:child_process'
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { emulated } from '../support/devices.js'
import { TestRandom } from '../support/random.js'
import { type TinyData, tinyAlma, tinyData } from './support.js'

const trainUntilKilled = fileURLToPath(new URL('../support/train-until-killed.mjs', import.meta.url))
const main = fileURLToPath(new URL('../../dist/lib/cli/main.js', import.meta.url))

let data: TinyData
beforeAll(async () => {
  data = await tinyData()
  await using alma = await tinyAlma(data)
  await alma.save(join(data.folder, 'base'))
})
afterAll(() => rmSync(data.folder, { recursive: true, force: true }))

function recipeFor(output: string): string {
  const path = join(data.folder, `${output}.json`)
  const common = { batchSize: 8, learningRate: 3e-3, saveSteps: emulated ? 2 : 5, evaluationSteps: emulated ? 4 : 10 }
  const maxSteps = emulated ? 8 : 60
  const stages = [
    {
      ...common,
      kind: 'monolingual',
      sources: [
        { path: data.german, language: 'de' },
        { path: data.english, language: 'en' },
      ],
      blockSize: 32,
      maxSteps,
    },
    {
      ...common,
      kind: 'parallel',
      pairs: [{ path: data.train, from: 'de', to: 'en' }],
      validation: [{ path: data.validation, from: 'de', to: 'en' }],
      maxSteps,
    },
  ]
  writeFileSync(path, JSON.stringify({ model: 'base', output, stages }))
  return path
}

const train = (recipe: string, ...args: string[]): ChildProcess =>
  spawn(process.execPath, [main, 'train', recipe, '--device', process.env.ALMA_DEVICE ?? 'cpu', ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })

function ended(child: ChildProcess): Promise<number | string | null> {
  return new Promise((resolve) => child.once('exit', (code, signal) => resolve(signal ?? code)))
}

function checkpoints(output: string): string[] {
  try {
    return readdirSync(join(data.folder, output, 'checkpoints')).filter((name) => name.startsWith('stage-'))
  } catch {
    return []
  }
}

const results = (output: string) => {
  const report = JSON.parse(readFileSync(join(data.folder, output, 'training-report.json'), 'utf8')) as {
    stages: { losses: object[]; validation: object[] }[]
  }
  return {
    weights: readFileSync(join(data.folder, output, 'model.safetensors')),
    losses: report.stages.map(({ losses, validation }) => ({ losses, validation })),
  }
}

test('killed twice with SIGKILL and resumed, a run ends with the same weights and losses', async () => {
  expect(await ended(train(recipeFor('whole')))).toBe(0)

  let kills = 0
  let run = train(recipeFor('killed'))
  for (const wanted of ['stage-1', 'stage-2']) {
    const exit = ended(run)
    while (run.exitCode === null && !checkpoints('killed').some((name) => name.startsWith(wanted))) await setTimeout(2)
    // Not at the very moment of a checkpoint: some steps behind it must be lost.
    await setTimeout(15)
    if (run.exitCode === null) {
      run.kill('SIGKILL')
      kills++
    }
    expect(await exit).toBe('SIGKILL')
    run = train(recipeFor('killed'), '--resume')
  }
  expect(await ended(run)).toBe(0)
  expect(kills).toBe(2)

  const [whole, killed] = [results('whole'), results('killed')]
  expect(killed.losses).toEqual(whole.losses)
  expect(killed.weights.equals(whole.weights)).toBe(true)
})

describe('a process of a user', () => {
  const steps = 16
  const stages = () => [
    {
      kind: 'monolingual',
      sources: [{ path: data.english, language: 'en' }],
      blockSize: 16,
      batchSize: 4,
      maxSteps: steps,
      saveSteps: 2,
    },
    {
      kind: 'parallel',
      pairs: [{ path: data.train, from: 'de', to: 'en' }],
      validation: [{ path: data.validation, from: 'de', to: 'en' }],
      batchSize: 6,
      microBatchSize: 2,
      maxSteps: steps,
      saveSteps: 3,
      evaluationSteps: 5,
      learningRate: 3e-3,
    },
  ]

  interface Run {
    readonly killAt?: number
    readonly resume?: boolean
    /** Largest file that the process may write, bytes: the next byte fails, as on a full disk. */
    readonly largestFile?: number
  }

  async function run(output: string, { killAt = Number.MAX_SAFE_INTEGER, resume = false, largestFile }: Run) {
    const settings = {
      model: join(data.folder, 'base'),
      stages: stages(),
      output: join(data.folder, output),
      resume,
      killAt,
      device: process.env.ALMA_DEVICE ?? 'cpu',
    }
    const args = [trainUntilKilled, JSON.stringify(settings)]
    const limit = `ulimit -f ${Math.floor((largestFile ?? 0) / 512)} && exec "$@"`
    const [command, ...rest] =
      largestFile === undefined
        ? [process.execPath, ...args]
        : ['/bin/sh', '-c', limit, 'sh', process.execPath, ...args]
    const child = spawn(command as string, rest, { stdio: ['ignore', 'ignore', 'pipe'] })
    let errors = ''
    child.stderr?.on('data', (chunk) => {
      errors += chunk
    })
    return { exit: await ended(child), errors }
  }

  let whole: ReturnType<typeof results>
  beforeAll(async () => {
    expect(await run('whole-run', {})).toEqual({ exit: 0, errors: '' })
    whole = results('whole-run')
  })

  test('killed with SIGKILL at ten random steps, it ends with the same bits', async () => {
    const random = new TestRandom(17)
    const all = Array.from({ length: 2 * steps }, (_, i) => i + 1)
    const kills = Array.from({ length: 10 }, () => all.splice(random.below(all.length), 1)[0] as number)
    for (const [i, killAt] of kills.sort((a, b) => a - b).entries()) {
      expect(await run('killed-run', { killAt, resume: i > 0 }), `killed at ${killAt}`).toEqual({
        exit: 'SIGKILL',
        errors: '',
      })
    }
    expect(await run('killed-run', { resume: true })).toEqual({ exit: 0, errors: '' })
    const killed = results('killed-run')
    expect(killed.losses).toEqual(whole.losses)
    expect(killed.weights.equals(whole.weights)).toBe(true)
  })

  test.skipIf(process.platform === 'win32')(
    'a disk that fills up during a checkpoint leaves the last good one, from which the run goes on',
    async () => {
      expect((await run('full-disk', { killAt: 7 })).exit).toBe('SIGKILL')
      const root = join(data.folder, 'full-disk', 'checkpoints')
      const [checkpoint = ''] = checkpoints('full-disk')
      const tensors = join(root, checkpoint, 'training-state.safetensors')
      const before = { entries: readdirSync(root), bytes: readFileSync(tensors) }

      const { exit, errors } = await run('full-disk', { resume: true, largestFile: statSync(tensors).size / 2 })
      expect(exit).toBe(1)
      expect(errors).toMatch(/^ERR_ALMA_IO: .*checkpoints/)
      expect({ entries: readdirSync(root), bytes: readFileSync(tensors) }).toEqual(before)

      expect(await run('full-disk', { resume: true })).toEqual({ exit: 0, errors: '' })
      expect(results('full-disk').weights.equals(whole.weights)).toBe(true)
    },
  )
})
