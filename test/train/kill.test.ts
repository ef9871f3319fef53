/** A training run in a process of its own, killed without warning, and resumed: not one bit may differ. */
import { type ChildProcess, spawn } from 'node:child_process'
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { emulated } from '../support/devices.js'
import { type TinyData, tinyAlma, tinyData } from './support.js'

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
