import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Device, ops, Tensor } from '../../lib/runtime/index.js'
import { bf16Bits, roundAllToBf16 } from '../support/bf16.js'
import { expectError } from '../support/compare.js'
import { deviceName, openDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'

let device: Device
let folder: string
beforeAll(() => {
  device = openDevice()
  folder = mkdtempSync(join(tmpdir(), 'alma-files-'))
})
afterAll(async () => {
  await device.dispose()
  rmSync(folder, { recursive: true })
})

function fileOf(name: string, data: ArrayBufferView, offset = 0): string {
  const path = join(folder, name)
  writeFileSync(
    path,
    Buffer.concat([Buffer.alloc(offset, 0xee), Buffer.from(data.buffer, data.byteOffset, data.byteLength)]),
  )
  return path
}

const values = new TestRandom(1).normals(5001)

describe.skipIf(deviceName !== 'cpu')('Tensor.mapFile', () => {
  it.each([0, 4, 4096, 4100])('reads what lies at byte %i', async (offset) => {
    const path = fileOf('mapped.bin', values, offset)
    const tensor = Tensor.mapFile(device, path, offset, [3, 1667], 'f32')
    expect(await tensor.read()).toEqual(values)
    tensor.dispose()
  })

  it('takes no memory of the device', () => {
    const path = fileOf('mapped.bin', values)
    const before = device.memory()
    const tensor = Tensor.mapFile(device, path, 0, [5001], 'f32')
    expect(device.memory()).toMatchObject({ allocated: before.allocated, reserved: before.reserved })
    tensor.dispose()
  })

  it('never changes the file', async () => {
    const path = fileOf('mapped.bin', values)
    const tensor = Tensor.mapFile(device, path, 0, [5001], 'f32')
    ops.fill(tensor, 1)
    expect((await tensor.read())[5000]).toBe(1)
    tensor.dispose()
    const again = Tensor.mapFile(device, path, 0, [5001], 'f32')
    expect(await again.read()).toEqual(values)
    again.dispose()
  })

  it('serves ops and views, also after the file was removed', async () => {
    const path = fileOf('removed.bin', values)
    const tensor = Tensor.mapFile(device, path, 0, [5001], 'f32')
    const view = tensor.view([2, 3], 10)
    rmSync(path)
    tensor.dispose()
    expect([...(await ops.add(view, view).read())]).toEqual([...values.subarray(10, 16)].map((x) => Math.fround(2 * x)))
    view.dispose()
  })

  it('is fetched from the disk while ops run, as far as it is not there', async () => {
    const path = fileOf('fetched.bin', values, 4100)
    const tensor = Tensor.mapFile(device, path, 4100, [5001], 'f32')
    const doubled = ops.add(tensor, tensor)
    await tensor.fetch()
    // It was there, having just been written. As if it had not been:
    await device.addon.tensorFetch(tensor.handle, 5000, 1e9)
    expect(await tensor.read()).toEqual(values)
    expect(await doubled.read()).toEqual(values.map((x) => Math.fround(2 * x)))
    await expect(tensor.fetch(AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough')
    await expectError(() => doubled.fetch(), 'ERR_ALMA_DEVICE', /does not lie in a mapped file/)
    tensor.dispose()
    await expectError(() => tensor.fetch(), 'ERR_ALMA_DISPOSED', /disposed/)
    doubled.dispose()
  })

  it('may be disposed, with its device, while it is fetched', async () => {
    const path = fileOf('fetched.bin', new Float32Array(1 << 20))
    const own = openDevice()
    const tensor = Tensor.mapFile(own, path, 0, [1 << 20], 'f32')
    const fetched = own.addon.tensorFetch(tensor.handle, 0, 4 << 20)
    tensor.dispose()
    await own.dispose()
    await fetched
  })

  const [major = 0, minor = 0] = process.platform === 'linux' ? release().split('.').map(Number) : []
  const tellsFailures = major > 5 || (major === 5 && minor >= 18)
  it.runIf(tellsFailures)('gives an error where it became shorter, instead of ending the process', async () => {
    const path = fileOf('cut.bin', new Float32Array(1 << 20))
    const tensor = Tensor.mapFile(device, path, 0, [1 << 20], 'f32')
    truncateSync(path, 100)
    const fetch = (): Promise<void> => device.addon.tensorFetch(tensor.handle, 0, 4 << 20)
    await expectError(fetch, 'ERR_ALMA_IO', /cannot read .*cut\.bin: the disk failed, or the file has become shorter/)
    tensor.dispose()
  })

  it('stays readable for the op in progress when tensor and device are disposed under it', async () => {
    const size = 1024
    const path = fileOf('weights.bin', new Float32Array(size * size).fill(1))
    for (let i = 0; i < 5; i++) {
      const own = openDevice()
      const weights = Tensor.mapFile(own, path, 0, [size, size], 'f32')
      const out = Tensor.empty(own, [size, size], 'f32')
      for (let n = 0; n < 50; n++) ops.matmul(weights, weights, { out })
      await new Promise((resolve) => setTimeout(resolve, 5 + i))
      const closing = own.dispose()
      weights.dispose()
      await closing
    }
  })

  it('names the file and its length when it is too short', async () => {
    const path = fileOf('short.bin', values.subarray(0, 10))
    const map = (offset: number, count: number) => (): Tensor => Tensor.mapFile(device, path, offset, [count], 'f32')
    await expectError(map(0, 11), 'ERR_ALMA_CHECKPOINT', /short\.bin: expected 44 bytes at offset 0, the file has 40/)
    await expectError(map(44, 1), 'ERR_ALMA_CHECKPOINT', /short\.bin/)
    await expectError(map(2, 1), 'ERR_ALMA_SHAPE', /multiple/)
    const missing = (): Tensor => Tensor.mapFile(device, join(folder, 'none.bin'), 0, [1], 'f32')
    await expectError(missing, 'ERR_ALMA_IO', /cannot open .*none\.bin/)
    expect(await map(0, 10)().read()).toEqual(values.slice(0, 10))
  })
})

describe('tensor.loadFile', () => {
  const halves = Uint16Array.from(values, bf16Bits)
  // 1, −2, 65504 (largest), 2⁻²⁴ (smallest subnormal), 2⁻¹⁴, −0, 1/3 rounded
  const f16 = Uint16Array.of(0x3c00, 0xc000, 0x7bff, 0x0001, 0x0400, 0x8000, 0x3555)
  const f16Values = Float32Array.of(1, -2, 65504, 2 ** -24, 2 ** -14, -0, 0.333251953125)

  it('converts f32, bf16 and f16 into f32 and bf16', async () => {
    const cases = [
      ['f32', values, values],
      ['bf16', halves, roundAllToBf16(values)],
      ['f16', f16, f16Values],
    ] as const
    for (const [storedAs, data, expected] of cases) {
      for (const dtype of ['f32', 'bf16'] as const) {
        const tensor = Tensor.empty(device, [expected.length], dtype)
        await tensor.loadFile(fileOf('stored.bin', data, 24), 24, storedAs)
        expect(await tensor.read(), `${storedAs} as ${dtype}`).toEqual(
          dtype === 'bf16' ? roundAllToBf16(expected) : expected,
        )
      }
    }
  })

  it('converts every one of the 65,536 f16 numbers', async () => {
    const all = Uint16Array.from({ length: 65_536 }, (_, i) => i)
    const tensor = Tensor.empty(device, [65_536], 'f32')
    await tensor.loadFile(fileOf('all.bin', all), 0, 'f16')
    const got = await tensor.readFloats()
    const wrong = [...all].filter((bits) => !Object.is(got[bits], f16Value(bits)))
    expect(wrong).toEqual([])
  })

  it('is rejected when the file is too short or missing, and the device goes on', async () => {
    const path = fileOf('short.bin', values.subarray(0, 4))
    const tensor = Tensor.empty(device, [5], 'f32')
    await expectError(() => tensor.loadFile(path, 0, 'f32'), 'ERR_ALMA_CHECKPOINT', /short\.bin: expected 20 bytes/)
    await expectError(() => tensor.loadFile(join(folder, 'none'), 0, 'f32'), 'ERR_ALMA_IO', /none/)
    await tensor.loadFile(path, 0, 'bf16')
    expect((await tensor.read()).length).toBe(5)
  })
})

function f16Value(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 0x1f
  const fraction = bits & 0x3ff
  if (exponent === 0) return sign * fraction * 2 ** -24
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
}
