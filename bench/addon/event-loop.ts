/** How long the host application's event loop is held up while the library works: a server must keep answering. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { generateTokens, resolveDecoding } from '../../lib/decode/index.js'
import { loadLlama, saveLlama } from '../../lib/model/index.js'
import { type BenchContext, figure } from '../harness.js'
import { model15M, syntheticIds } from '../models.js'
import { TrainingRun } from '../train.js'

const milliseconds = 4000

export async function eventLoopBench({ device, report }: BenchContext): Promise<void> {
  report.section('addon: event-loop delay, 99th percentile (the timer that measures it ticks every ms)')
  const idle = await delayWhile(() => sleep(50))
  report.add(figure({ name: 'idle', shape: '', value: idle, unit: 'ms' }))
  const add = (name: string, shape: string, value: number): void => {
    report.add(figure({ name, shape, value, unit: 'ms', ceiling: idle, smallerIsBetter: true }), '< 10 ms')
  }
  const run = new TrainingRun(device, model15M)
  try {
    const training = await delayWhile(() => run.step())
    add('while training', '15 million weights', training)
    const prompts = [1, 2, 3, 4].map((seed) => syntheticIds(model15M, 16, seed))
    const decoding = resolveDecoding({ maxNewTokens: 64, eosTokenId: [] }, model15M)
    add('while decoding', '4 sequences', await delayWhile(() => generateTokens(run.model, prompts, decoding)))
    const folder = await mkdtemp(join(tmpdir(), 'alma-bench-'))
    try {
      await saveLlama(run.model, folder)
      const load = async (): Promise<void> => (await loadLlama(device, folder)).dispose()
      add('while loading a model', '15 million weights', await delayWhile(load))
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  } finally {
    await run.dispose()
  }
}

async function delayWhile(work: () => Promise<unknown>): Promise<number> {
  await work()
  const histogram = monitorEventLoopDelay({ resolution: 1 })
  histogram.enable()
  const end = performance.now() + milliseconds
  while (performance.now() < end) await work()
  histogram.disable()
  return histogram.percentile(99) / 1e6
}
