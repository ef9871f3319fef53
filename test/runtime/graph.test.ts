import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Device, ops, Tensor } from '../../lib/runtime/index.js'
import { expectClose, expectError } from '../support/compare.js'
import { openDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'

let device: Device
beforeAll(() => {
  device = openDevice()
})
afterAll(() => device.dispose())

describe('graphs', () => {
  it('run nothing while they are captured, and give what the ops give directly', async () => {
    const random = new TestRandom(1)
    const a = Tensor.from(device, random.normals(40 * 30), [40, 30])
    const b = Tensor.from(device, random.normals(30 * 20), [30, 20])
    const weight = Tensor.from(device, random.normals(20))
    const body = (out: Tensor): void => {
      using product = ops.matmul(a, b)
      ops.rmsNorm(product, weight, { out })
    }
    const direct = Tensor.zeros(device, [40, 20], 'f32')
    body(direct)
    const replayed = Tensor.zeros(device, [40, 20], 'f32')
    const graph = device.capture(() => body(replayed))
    expect(new Set(await replayed.read())).toEqual(new Set([0]))
    graph.launch()
    expectClose('replayed', await replayed.read(), await direct.readFloats(), { maxAbs: 0 })
    graph.dispose()
  })

  it('read and write their tensors anew at every launch', async () => {
    const x = Tensor.from(device, [1, 2])
    const step = Tensor.zeros(device, [1], 'i32')
    const graph = device.capture(() => {
      ops.add(x, x, x)
      ops.increment(step)
    })
    for (let i = 0; i < 5; i++) graph.launch()
    expect([...(await x.read())]).toEqual([32, 64])
    x.write([1, 1])
    graph.launch()
    expect([...(await x.read()), ...(await step.read())]).toEqual([2, 2, 6])
    graph.dispose()
  })

  it('keep the memory of temporaries, and of tensors that are disposed later', async () => {
    const x = Tensor.from(device, [3])
    const out = Tensor.zeros(device, [1], 'f32')
    const graph = device.capture(() => {
      using twice = ops.add(x, x)
      ops.add(twice, x, out)
    })
    x.dispose()
    // Would land in the memory of x or of the temporary, if the graph did not hold them.
    const squatters = Array.from({ length: 20 }, () => Tensor.from(device, [1000]))
    graph.launch()
    expect([...(await out.read())]).toEqual([9])
    for (const squatter of squatters) squatter.dispose()
    graph.dispose()
  })

  it('give their memory back when they are disposed, behind the launches', async () => {
    device.releaseCachedMemory()
    await device.synchronize()
    const out = Tensor.zeros(device, [1], 'f32')
    const before = device.memory().allocated
    const graph = device.capture(() => {
      using large = ops.fill(Tensor.empty(device, [100_000], 'f32'), 2)
      ops.reduceSum(large, { out })
    })
    expect(device.memory().allocated).toBeGreaterThan(before)
    graph.launch()
    graph.dispose()
    graph.dispose()
    expect([...(await out.read())]).toEqual([200_000])
    await device.synchronize()
    // Less is possible: what nobody disposed is collected some time.
    expect(device.memory().allocated).toBeLessThanOrEqual(before)
    await expectError(() => graph.launch(), 'ERR_ALMA_DISPOSED', /graph .*disposed/)
  })

  it('allocate nothing when they are launched', async () => {
    const x = Tensor.zeros(device, [1000], 'f32')
    const graph = device.capture(() => {
      ops.add(x, x, x)
    })
    const { allocated, reserved } = device.memory()
    for (let i = 0; i < 100; i++) graph.launch()
    await device.synchronize()
    // Less is possible: what nobody disposed is collected some time.
    expect(device.memory().allocated).toBeLessThanOrEqual(allocated)
    expect(device.memory().reserved).toBe(reserved)
    graph.dispose()
  })

  it('may be empty', async () => {
    const graph = device.capture(() => {})
    graph.launch()
    await device.synchronize()
    graph.dispose()
  })

  it('are given up when the body throws, and the device goes on', async () => {
    const x = Tensor.from(device, [1])
    const failing = (): unknown =>
      device.capture(() => {
        ops.add(x, x, x)
        throw new RangeError('on purpose')
      })
    expect(failing).toThrow(RangeError)
    ops.add(x, x, x)
    expect([...(await x.read())]).toEqual([2])
  })

  it('cannot be captured inside one another, launched inside a capture, or hold reads and writes', async () => {
    const x = Tensor.from(device, [1])
    const graph = device.capture(() => {})
    const inside = (body: () => unknown): (() => unknown) => {
      return () =>
        device.capture(() => {
          body()
        })
    }
    await expectError(
      inside(() => device.capture(() => {})),
      'ERR_ALMA_DEVICE',
      /captured already/,
    )
    await expectError(
      inside(() => graph.launch()),
      'ERR_ALMA_DEVICE',
      /launched inside a capture/,
    )
    await expectError(
      inside(() => x.write([2])),
      'ERR_ALMA_DEVICE',
      /write cannot be captured/,
    )
    await expectError(
      inside(() => Tensor.from(device, [2])),
      'ERR_ALMA_DEVICE',
      /write cannot be captured/,
    )
    let read: Promise<unknown> | undefined
    const readInside = inside(() => {
      read = x.read()
    })
    readInside()
    await expectError(() => read, 'ERR_ALMA_DEVICE', /cannot be captured/)
    expect([...(await x.read())]).toEqual([1])
    graph.dispose()
  })

  it('report what fails in them at the next read, and can be launched again', async () => {
    const table = Tensor.from(device, [5, 6], [2, 1])
    const rows = Tensor.from(device, Int32Array.of(7))
    const out = Tensor.zeros(device, [1, 1], 'f32')
    const graph = device.capture(() => {
      ops.gatherRows(table, rows, out)
    })
    graph.launch()
    await expectError(() => out.read(), 'ERR_ALMA_DEVICE', /gather_?rows/i)
    rows.write(Int32Array.of(1))
    graph.launch()
    expect([...(await out.read())]).toEqual([6])
    graph.dispose()
  })
})
