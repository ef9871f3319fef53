import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Device, ops, Tensor } from '../../lib/runtime/index.js'
import { expectError } from '../support/compare.js'
import { deviceName, openDevice } from '../support/devices.js'

let device: Device
beforeAll(() => {
  device = openDevice()
})
afterAll(() => device.dispose())

/** Enqueues an op that fails on the device. */
function failingOp(): Tensor {
  const table = Tensor.zeros(device, [2, 1], 'f32')
  return ops.gatherRows(table, Tensor.from(device, Int32Array.of(9)))
}

describe('a failure on the device', () => {
  it('rejects everything that was asked for before it was known, and nothing after', async () => {
    const healthy = Tensor.from(device, [1])
    const before = healthy.read()
    const out = failingOp()
    const behind = [out.read(), healthy.read(), device.synchronize()]
    expect([...(await before)]).toEqual([1])
    for (const promise of behind) await expectError(() => promise, 'ERR_ALMA_DEVICE', /gather_?rows/i)
    expect([...(await healthy.read())]).toEqual([1])
    await device.synchronize()
  })

  // A GPU fails when it comes to the op: it may have been given, and have run, what follows.
  it.skipIf(deviceName !== 'cpu')(
    'skips the work behind it, which could only compute with what is missing',
    async () => {
      const counter = Tensor.from(device, Int32Array.of(0))
      failingOp()
      ops.increment(counter)
      await expectError(() => device.synchronize(), 'ERR_ALMA_DEVICE', /gather_?rows/i)
      expect([...(await counter.read())]).toEqual([0])
      ops.increment(counter)
      expect([...(await counter.read())]).toEqual([1])
    },
  )

  it('is delivered once for each time it happens', async () => {
    for (let i = 0; i < 20; i++) {
      failingOp()
      await expectError(() => device.synchronize(), 'ERR_ALMA_DEVICE', /gather_?rows/i)
      await device.synchronize()
    }
  })

  it('is the first of several, and a second one that follows it is not lost', async () => {
    failingOp()
    const logits = Tensor.zeros(device, [1, 2], 'f32')
    ops.crossEntropy(logits, Tensor.from(device, Int32Array.of(5)))
    await expectError(() => device.synchronize(), 'ERR_ALMA_DEVICE', /gather_?rows/i)
    ops.crossEntropy(logits, Tensor.from(device, Int32Array.of(5)))
    await expectError(() => device.synchronize(), 'ERR_ALMA_DEVICE', /cross_?entropy/i)
  })

  it('is not swallowed by the disposal of a graph or of a tensor', async () => {
    const x = Tensor.from(device, [1])
    const graph = device.capture(() => {
      ops.add(x, x, x)
    })
    const out = failingOp()
    graph.launch()
    graph.dispose()
    x.dispose()
    // Long enough for the disposal to have come back from the device.
    await new Promise((resolve) => setTimeout(resolve, 50))
    await expectError(() => out.read(), 'ERR_ALMA_DEVICE', /gather_?rows/i)
    await device.synchronize()
  })

  it('leaves other devices alone', async () => {
    const other = openDevice(1)
    const healthy = Tensor.from(other, [4])
    const out = failingOp()
    expect([...(await healthy.read())]).toEqual([4])
    await expectError(() => out.read(), 'ERR_ALMA_DEVICE', /./)
    await other.dispose()
  })
})
