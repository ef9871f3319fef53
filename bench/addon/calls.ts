/** What crossing from JavaScript into the engine and back costs. */
import { ops, Tensor } from '../../lib/runtime/index.js'
import { type BenchContext, callSeconds, figure } from '../harness.js'

export async function callBench({ device, report }: BenchContext): Promise<void> {
  report.section('addon: one call')
  const { addon } = device
  using x = Tensor.zeros(device, [16], 'f32')
  using y = Tensor.zeros(device, [16], 'f32')
  using square = Tensor.zeros(device, [4, 4], 'f32')
  using product = Tensor.zeros(device, [4, 4], 'f32')
  const empty = 1e6 * (await callSeconds(() => addon.emptyCall()))
  report.add(figure({ name: 'empty call', shape: '', value: empty, unit: 'µs' }))

  const add = async (name: string, enqueue: () => void): Promise<void> => {
    const value = 1e6 * (await enqueueSeconds(enqueue, () => device.synchronize()))
    report.add(
      figure({ name, shape: 'enqueue', value, unit: 'µs', ceiling: empty, smallerIsBetter: true }),
      '< 1 µs above it',
    )
  }
  await add('op of 3 tensors (add)', () => {
    ops.add(x, y, y)
  })
  await add('op with options (matmul)', () => {
    ops.matmul(square, square, { layout: 'nt', out: product })
  })
  await add('allocate and dispose', () => {
    Tensor.empty(device, [1024], 'f32').dispose()
  })

  // The way back is a turn of the event loop at least.
  const turn = 1e6 * (await awaitSeconds(() => new Promise<void>((resolve) => setImmediate(resolve))))
  const read = 1e6 * (await awaitSeconds(() => x.read()))
  const shape = '16 numbers'
  report.add(figure({ name: 'read round trip', shape, value: read, unit: 'µs', ceiling: turn, smallerIsBetter: true }))
}

/**
 * Seconds a call on the JavaScript thread, while the engine keeps up: in portions, as an endless queue would measure the growth of
 * memory. The best portion counts.
 */
async function enqueueSeconds(enqueue: () => void, settle: () => Promise<void>): Promise<number> {
  const calls = 500
  let best = Number.POSITIVE_INFINITY
  for (let portion = 0; portion < 400; portion++) {
    const begin = process.hrtime.bigint()
    for (let i = 0; i < calls; i++) enqueue()
    best = Math.min(best, Number(process.hrtime.bigint() - begin) / 1e9 / calls)
    await settle()
  }
  return best
}

/** Median of awaiting something many times: a round trip has no meaningful best. */
async function awaitSeconds(body: () => Promise<unknown>): Promise<number> {
  const samples: number[] = []
  for (let i = 0; i < 2000; i++) {
    const begin = process.hrtime.bigint()
    await body()
    samples.push(Number(process.hrtime.bigint() - begin) / 1e9)
  }
  return samples.sort((a, b) => a - b)[samples.length >> 1] ?? Number.NaN
}
