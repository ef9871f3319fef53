import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { Device, ops, Tensor } from '../../lib/runtime/index.js'
import { expectError } from '../support/compare.js'
import { deviceName, emulated, openDevice } from '../support/devices.js'

/** A device with `count` long products enqueued; the last result. */
function busy(device: Device, count: number, size = emulated ? 48 : 1024): Tensor {
  const a = ops.fill(Tensor.empty(device, [size, size], 'f32'), 1)
  const b = ops.fill(Tensor.empty(device, [size, size], 'f32'), 2)
  const out = Tensor.empty(device, [size, size], 'f32')
  for (let i = 0; i < count; i++) ops.matmul(a, b, { out })
  return out
}

describe('Device.open', () => {
  it('describes what computes', async () => {
    const device = openDevice()
    expect(device.name).toContain(deviceName)
    expect(device.description).toMatch(/\w/)
    expect(device.threads).toBeGreaterThanOrEqual(1)
    expect(Device.list().length).toBeGreaterThanOrEqual(1)
    await device.dispose()
  })

  it.skipIf(deviceName !== 'cpu')('takes a number of threads and an instruction set', async () => {
    const { cpuInstructionSets } = Device.buildInformation()
    expect(cpuInstructionSets).toContain('portable')
    for (const instructionSet of cpuInstructionSets) {
      await using device = Device.open('cpu', { threads: 3, instructionSet })
      expect(device.threads).toBe(3)
      expect(device.description).toMatch(new RegExp(`${instructionSet}.* 3 threads`))
    }
  })

  it.skipIf(deviceName !== 'cpu')('takes the best instruction set, or the one that ALMA_CPU names', async () => {
    vi.stubEnv('ALMA_CPU', undefined)
    onTestFinished(() => {
      vi.unstubAllEnvs()
    })
    const { cpuInstructionSets } = Device.buildInformation()
    await using automatic = Device.open('cpu')
    expect(automatic.description).toContain(cpuInstructionSets[0] ?? '?')
    vi.stubEnv('ALMA_CPU', 'portable')
    await using forced = Device.open('cpu')
    expect(forced.description).toMatch(/portable/)
    await using named = Device.open('cpu', { instructionSet: 'auto' })
    expect(named.description).toBe(automatic.description)
    vi.stubEnv('ALMA_CPU', 'mmx')
    await expectError(() => Device.open('cpu'), 'ERR_ALMA_DEVICE', /"mmx" is not available here; there are: .*portable/)
  })

  it('says what there is instead', async () => {
    await expectError(() => Device.open('tpu'), 'ERR_ALMA_DEVICE', /no device 'tpu' here .*available: .*'cpu'/)
    await expectError(() => Device.open('cpu', { threads: -1 }), 'ERR_ALMA_OPTION', /threads: .* got -1/)
    await expectError(() => Device.open('cpu', { threads: 1.5 }), 'ERR_ALMA_OPTION', /threads: .* got 1.5/)
    await expectError(() => Device.open('cpu', { instructionSet: 'mmx' }), 'ERR_ALMA_DEVICE', /mmx/)
  })
})

describe('the JavaScript thread', () => {
  it('is free while the device computes: ops return first, timers tick', async () => {
    const device = openDevice()
    let ticks = 0
    const timer = setInterval(() => {
      ticks++
    }, 5)
    let done = false
    const out = busy(device, 20)
    const read = out.readFloats().then((values) => {
      done = true
      return values
    })
    expect(done).toBe(false)
    const values = await read
    clearInterval(timer)
    expect(values[0]).toBe(2 * values.length ** 0.5)
    expect(ticks).toBeGreaterThan(3)
    await device.dispose()
  })
})

describe('device.dispose()', () => {
  // A GPU has been given what it will compute before the first of it has run, and finishes that.
  it.skipIf(deviceName !== 'cpu')('ends the stream after the op in progress; what waits is rejected', async () => {
    const device = openDevice()
    const read = busy(device, 2000).read()
    const started = Date.now()
    await new Promise((resolve) => setTimeout(resolve, 30))
    await Promise.all([device.dispose(), expectError(() => read, 'ERR_ALMA_DISPOSED', /disposed/)])
    // 2000 products take minutes; one takes well below a second.
    expect(Date.now() - started).toBeLessThan(10_000)
    expect(device.disposed).toBe(true)
  })

  it('is harmless twice; the device and its tensors are unusable then', async () => {
    const device = openDevice()
    const x = Tensor.from(device, [1])
    const graph = device.capture(() => {
      ops.add(x, x, x)
    })
    const closing = device.dispose()
    expect(device.dispose()).toBe(closing)
    // Also before the promise is fulfilled.
    await expectError(() => x.read(), 'ERR_ALMA_DISPOSED', /device was disposed/)
    await closing
    await expectError(() => x.read(), 'ERR_ALMA_DISPOSED', /device was disposed/)
    await expectError(() => x.write([1]), 'ERR_ALMA_DISPOSED', /device was disposed/)
    await expectError(() => ops.add(x, x, x), 'ERR_ALMA_DISPOSED', /device was disposed/)
    await expectError(() => Tensor.empty(device, [1], 'f32'), 'ERR_ALMA_DISPOSED', /device was disposed/)
    await expectError(() => device.synchronize(), 'ERR_ALMA_DISPOSED', /device was disposed/)
    await expectError(() => device.memory(), 'ERR_ALMA_DISPOSED', /device was disposed/)
    await expectError(() => graph.launch(), 'ERR_ALMA_DISPOSED', /device was disposed/)
    x.dispose()
    graph.dispose()
  })

  it('leaves tensors that are disposed while the last op runs unharmed', async () => {
    const device = openDevice()
    const out = busy(device, emulated ? 5 : 50)
    const graph = device.capture(() => {
      ops.add(out, out, out)
    })
    graph.launch()
    const closing = device.dispose()
    out.dispose()
    graph.dispose()
    await closing
  })

  it('of many devices, opened and closed again and again, leaks no threads', async () => {
    const { readdirSync } = await import('node:fs')
    const count = (): number => (process.platform === 'linux' ? readdirSync('/proc/self/task').length : 0)
    const before = count()
    for (let i = 0; i < 20; i++) {
      await using device = openDevice(2)
      expect([...(await Tensor.from(device, [i]).read())]).toEqual([i])
    }
    expect(count()).toBeLessThanOrEqual(before + 1)
  })
})

describe('device.probe', () => {
  it('measures what the machine can do', async () => {
    await using device = openDevice()
    for (const what of deviceName === 'cpu' ? ['fma', 'read', 'copy'] : ['read', 'copy']) {
      const value = await device.probe(what, { bytes: 2 ** 22, seconds: 0.02 })
      expect(value, what).toBeGreaterThan(1e6)
    }
    await expectError(() => device.probe('luck'), 'ERR_ALMA_OPTION', /luck/)
  })
})
