/**
 * The peers of the decoding benchmark compute what we compute: greedy tokens on the same weights in f32. $ALMA_BENCH_PEERS names the
 * folder where they are installed; those that are not there are skipped.
 */
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { nodeLlamaCpp } from '../../bench/peers/node-llama-cpp.js'
import { isInstalled, type TaskPeer, TaskRunner } from '../../bench/peers/task-peer.js'
import { transformersJs } from '../../bench/peers/transformers-js.js'
import { generateTokens, resolveDecoding } from '../../lib/decode/index.js'
import { createLlama, type LlamaForCausalLM, normalizeConfig } from '../../lib/model/index.js'
import { Device } from '../../lib/runtime/index.js'

let device: Device
beforeAll(() => {
  device = Device.open('cpu', { threads: 2 })
})
afterAll(async () => {
  await device.dispose()
})

// Weights as large as these make answers that do not repeat themselves.
const config = normalizeConfig({
  vocabSize: 600,
  hiddenSize: 96,
  intermediateSize: 160,
  numHiddenLayers: 3,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
  headDim: 32,
  maxPositionEmbeddings: 256,
  rmsNormEps: 1e-5,
  ropeTheta: 50_000,
  initializerRange: 0.12,
})

interface PeerTask {
  readonly prompts: readonly (readonly number[])[]
  readonly count: number
}

function tasksOf({ vocabSize }: typeof config): PeerTask[] {
  const prompt = (length: number, seed: number): number[] =>
    Array.from({ length }, (_, i) => 3 + (((i + 1) * 7919 * seed) % (vocabSize - 3)))
  return [
    { prompts: [prompt(70, 1)], count: 1 },
    { prompts: [prompt(5, 2)], count: 24 },
    { prompts: [3, 4, 5, 6, 7, 8, 9, 10].map((seed) => prompt(9, seed)), count: 24 },
  ]
}

/** Fresh norms are all ones, and one would do for another. */
function distinguishNorms(model: LlamaForCausalLM): void {
  let norm = 0
  for (const [, tensor] of model.namedParameters()) {
    if (tensor.shape.length !== 1) continue
    norm++
    tensor.write(Float32Array.from({ length: tensor.count }, (_, i) => 1 + 0.5 * Math.sin(norm * (i + 1))))
  }
}

/** Same tokens, up to where the logits of two of them lie closer than `rounding`. */
async function expectGreedy(
  model: LlamaForCausalLM,
  task: PeerTask,
  theirs: readonly (readonly number[])[],
  rounding: number,
): Promise<void> {
  const decoding = resolveDecoding({ maxNewTokens: task.count, eosTokenId: [] }, model.config)
  const ours = (await generateTokens(model, task.prompts, decoding)).map(({ tokenIds }) => tokenIds)
  expect(theirs.map((tokens) => tokens.length)).toEqual(ours.map(() => task.count))
  for (const [i, tokens] of ours.entries()) {
    const other = theirs[i] ?? []
    const at = tokens.findIndex((token, j) => token !== other[j])
    if (at < 0) continue
    const [logits] = await model.logits([[...(task.prompts[i] ?? []), ...tokens.slice(0, at)]])
    const last = logits?.subarray(-model.config.vocabSize) ?? new Float32Array()
    const gap = (last[tokens[at] ?? 0] ?? Number.NaN) - (last[other[at] ?? 0] ?? Number.NaN)
    expect(gap, `sequence ${i}: token ${at} is ${other[at]}, not ${tokens[at]}`).toBeLessThan(rounding)
  }
}

// What takes 4 s on an idle machine has taken 57 s on a busy one.
const patience = 600_000

// llama.cpp's flash attention, which is its default, rounds to f16: without it the tokens are ours to 1e-4 too.
describe.each([
  [transformersJs.name, transformersJs, 1e-4],
  [nodeLlamaCpp.name, nodeLlamaCpp, 1e-2],
] as const)('%s', (_name, peer, rounding) => {
  const there = isInstalled(peer)
  it.skipIf(!there).each([
    ['grouped-query attention', config],
    ['a tied output layer', normalizeConfig({ ...config, numKeyValueHeads: 4, tieWordEmbeddings: true })],
    [
      'scaled rotations',
      normalizeConfig({
        ...config,
        ropeScaling: {
          type: 'llama3',
          factor: 8,
          lowFreqFactor: 1,
          highFreqFactor: 4,
          originalMaxPositionEmbeddings: 64,
        },
      }),
    ],
  ])(
    there ? 'gives our greedy tokens: %s' : 'gives our greedy tokens: %s (not installed)',
    async (_, config) => {
      const model = createLlama(device, config, { dtype: 'f32', seed: 5 })
      try {
        distinguishNorms(model)
        const tasks = tasksOf(config)
        await using runner = await TaskRunner.open(peer, model, 'f32', 2)
        for (const task of tasks) {
          await runner.begin(task.prompts, 24)
          // A second run starts with the prompts again.
          await runner.run(2)
          const { seconds, tokens } = (await runner.run(task.count)) ?? { seconds: 0, tokens: [] }
          expect(runner.reason).toBeUndefined()
          expect(seconds).toBeGreaterThan(0)
          expect(runner.name).toMatch(/^\S+ \d+\.\d+\.\d+/)
          await expectGreedy(model, task, tokens, rounding)
          if (task.count > 1) expect(new Set(tokens.flat()).size).toBeGreaterThan(5)
        }
      } finally {
        model.dispose()
      }
    },
    patience,
  )
})

describe('a peer without figures', () => {
  let folder: string
  let model: LlamaForCausalLM
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'alma-peers-'))
    await mkdir(join(folder, 'temporary'))
    for (const name of ['TMPDIR', 'TMP', 'TEMP']) vi.stubEnv(name, join(folder, 'temporary'))
    model = createLlama(device, config, { dtype: 'f32' })
  })
  afterAll(async () => {
    model.dispose()
    vi.unstubAllEnvs()
    await rm(folder, { recursive: true, force: true })
  })

  async function install(peers: string, { packageName }: TaskPeer, program: string): Promise<void> {
    vi.stubEnv('ALMA_BENCH_PEERS', peers)
    const home = join(peers, 'node_modules', packageName)
    await mkdir(join(home, 'dist'), { recursive: true })
    const json = { name: packageName, version: '1.2.3', main: 'dist/index.cjs' }
    await writeFile(join(home, 'package.json'), JSON.stringify(json))
    await writeFile(join(home, 'dist', 'index.cjs'), program)
  }

  /** Why it has none. */
  async function reasonOf(peer: TaskPeer): Promise<string | undefined> {
    await using runner = await TaskRunner.open(peer, model, 'f32', 1)
    await runner.begin([[3, 4, 5]], 2)
    expect(await runner.run(2)).toBeUndefined()
    return runner.reason
  }

  it.each([
    [transformersJs.name, transformersJs],
    [nodeLlamaCpp.name, nodeLlamaCpp],
  ])('%s: one that is missing says how to get it', async (_name, peer) => {
    vi.stubEnv('ALMA_BENCH_PEERS', folder)
    const reason = `${peer.name}: not found; npm install --prefix DIR ${peer.packageName}, and ALMA_BENCH_PEERS=DIR names the folder`
    expect(await reasonOf(peer)).toBe(reason)
    vi.stubEnv('ALMA_BENCH_PEERS', undefined)
    expect(await reasonOf(peer)).toBe(reason)
  })

  it('that fails says why, and leaves nothing behind', async () => {
    await install(join(folder, 'failing'), nodeLlamaCpp, "throw new TypeError('not this processor')")
    const reason = 'node-llama-cpp: no figures, exit status 1: TypeError: not this processor'
    expect(await reasonOf(nodeLlamaCpp)).toBe(reason)
    expect(await readdir(join(folder, 'temporary'))).toEqual([])
  })

  it.skipIf(process.platform === 'win32')('that is ended says so', async () => {
    await install(join(folder, 'ended'), nodeLlamaCpp, "process.kill(process.pid, 'SIGKILL')")
    expect(await reasonOf(nodeLlamaCpp)).toBe('node-llama-cpp: no figures, ended by SIGKILL')
  })

  it('that is out of room is no crash', async () => {
    await install(join(folder, 'full'), nodeLlamaCpp, '')
    const full: TaskPeer = { ...nodeLlamaCpp, save: () => Promise.reject(new Error('ENOSPC: no space left on device')) }
    const reason = 'node-llama-cpp: no figures, ENOSPC: no space left on device'
    expect(await reasonOf(full)).toBe(reason)
    expect(await readdir(join(folder, 'temporary'))).toEqual([])
  })
})
