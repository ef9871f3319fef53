import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Device, ops, Tensor } from '../../lib/runtime/index.js'
import { expectError } from '../support/compare.js'
import { deviceName, openDevice } from '../support/devices.js'

let device: Device
beforeAll(() => {
  device = openDevice()
})
afterAll(() => device.dispose())

describe('device.memory()', () => {
  it('counts what tensors take, the peak, and what is kept for reuse', () => {
    const megabyte = 2 ** 20
    const start = device.memory()
    const tensor = Tensor.empty(device, [megabyte], 'f32')
    expect(device.memory().allocated - start.allocated).toBe(4 * megabyte)
    tensor.dispose()
    const after = device.memory()
    expect(after.allocated).toBe(start.allocated)
    expect(after.peak).toBeGreaterThanOrEqual(start.allocated + 4 * megabyte)
    // The emulator keeps nothing: it checks every tensor's memory by itself.
    if (deviceName !== 'emulator') expect(after.reserved).toBeGreaterThanOrEqual(4 * megabyte)
    device.resetPeakMemory()
    expect(device.memory().peak).toBe(after.allocated)
  })

  it('says what the machine has', () => {
    const { free, total } = device.memory()
    expect(free).toBeGreaterThan(0)
    expect(total).toBeGreaterThanOrEqual(free)
  })

  it('wastes at most an eighth on rounding', () => {
    for (const count of [1, 100, 1000, 4097, 100_001, 1_000_003]) {
      const before = device.memory().allocated
      using tensor = Tensor.empty(device, [count], 'f32')
      const taken = device.memory().allocated - before
      expect(taken).toBeGreaterThanOrEqual(tensor.byteLength)
      // A block that is kept for reuse serves when it is at most a quarter larger.
      expect(taken).toBeLessThanOrEqual(Math.max(512, tensor.byteLength * 1.125 * 1.25))
    }
  })

  it('reserves nothing more once the shapes repeat', async () => {
    const step = async (): Promise<void> => {
      using a = Tensor.zeros(device, [100, 200], 'f32')
      using b = Tensor.zeros(device, [200, 50], 'f32')
      using c = ops.matmul(a, b)
      using total = ops.reduceSum(c)
      await total.read()
    }
    for (let i = 0; i < 3; i++) await step()
    const { reserved, allocated } = device.memory()
    for (let i = 0; i < 50; i++) await step()
    expect(device.memory().reserved).toBe(reserved)
    expect(device.memory().allocated).toBeLessThanOrEqual(allocated)
  })

  it('gives what is kept for reuse back to the system', async () => {
    Tensor.empty(device, [2 ** 20], 'f32').dispose()
    device.releaseCachedMemory()
    await device.synchronize()
    const { reserved, allocated } = device.memory()
    expect(reserved).toBe(allocated)
  })

  it('explains an allocation that cannot be: bytes needed, bytes free', async () => {
    const call = (): Tensor => Tensor.empty(device, [2 ** 38], 'f32')
    await expectError(call, 'ERR_ALMA_OUT_OF_MEMORY', /1099511627776 bytes needed, \d+ of \d+ bytes free/)
    expect([...(await Tensor.from(device, [5]).read())]).toEqual([5])
  })

  it('does not grow by an allocation that failed', async () => {
    const before = device.memory()
    for (let i = 0; i < 3; i++)
      await expectError(() => Tensor.empty(device, [2 ** 39], 'f32'), 'ERR_ALMA_OUT_OF_MEMORY', /./)
    // Less is possible: what nobody disposed is collected some time.
    expect(device.memory().allocated).toBeLessThanOrEqual(before.allocated)
    expect(device.memory().reserved).toBeLessThanOrEqual(before.reserved)
  })
})
