import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Device, ops, Scope, Tensor } from '../../lib/runtime/index.js'
import { roundAllToBf16 } from '../support/bf16.js'
import { expectClose, expectError } from '../support/compare.js'
import { emulated, openDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'

let device: Device
beforeAll(() => {
  device = openDevice()
})
afterAll(() => device.dispose())

describe('data in and out', () => {
  it('comes back as it went in, in every dtype', async () => {
    const floats = new TestRandom(1).normals(1001)
    expect(await Tensor.from(device, floats, [7, 143]).read()).toEqual(floats)
    expect(await Tensor.from(device, floats, [1001], 'bf16').read()).toEqual(roundAllToBf16(floats))
    const ints = Int32Array.of(0, -1, 2 ** 31 - 1, -(2 ** 31))
    expect(await Tensor.from(device, ints).read()).toEqual(ints)
    const bits = Uint16Array.of(0x3f80, 0xc000, 0x7fc0)
    const half = Tensor.from(device, bits, [3], 'bf16')
    expect(new Uint16Array((await half.readBytes()).buffer)).toEqual(bits)
    expect([...(await half.readFloats())]).toEqual([1, -2, Number.NaN])
  })

  it('takes plain numbers, and infers shape and dtype', async () => {
    const floats = Tensor.from(device, [1, 2.5])
    expect([floats.shape, floats.dtype, floats.count, floats.byteLength]).toEqual([[2], 'f32', 2, 8])
    const ints = Tensor.from(device, [1, 2, 3], [3], 'i32')
    expect(await ints.read()).toEqual(Int32Array.of(1, 2, 3))
    expect(Tensor.from(device, Int32Array.of(4)).dtype).toBe('i32')
  })

  it('takes a window of a larger buffer', async () => {
    const all = Float32Array.of(0, 1, 2, 3, 4, 5)
    expect([...(await Tensor.from(device, all.subarray(2, 5)).read())]).toEqual([2, 3, 4])
  })

  it('has been copied when the call returns', async () => {
    const data = Float32Array.of(1, 2, 3)
    const tensor = Tensor.from(device, data)
    data.fill(9)
    tensor.write(data.map(() => 4))
    expect([...(await tensor.read())]).toEqual([4, 4, 4])
  })

  it('is read as of the moment of the call', async () => {
    const tensor = Tensor.from(device, [1])
    const before = tensor.read()
    ops.fill(tensor, 2)
    const after = tensor.read()
    ops.fill(tensor, 3)
    expect([(await before)[0], (await after)[0]]).toEqual([1, 2])
  })

  it('is written in the order of the stream', async () => {
    const tensor = Tensor.from(device, [1, 1])
    const sum = ops.add(tensor, tensor)
    tensor.write([10, 10])
    expect([...(await sum.read())]).toEqual([2, 2])
  })

  it('may be empty', async () => {
    const nothing = Tensor.from(device, new Float32Array(), [0, 5])
    expect((await nothing.read()).length).toBe(0)
    expect(nothing.view([3, 0]).count).toBe(0)
  })

  it('is read as what it is', async () => {
    await expectError(() => Tensor.from(device, Int32Array.of(1)).readFloats(), 'ERR_ALMA_SHAPE', /i32/)
    await expectError(() => Tensor.from(device, [1]).readInts(), 'ERR_ALMA_SHAPE', /f32/)
  })

  it('has as many numbers as the shape says', async () => {
    await expectError(() => Tensor.from(device, [1, 2, 3], [2]), 'ERR_ALMA_SHAPE', /3 numbers .* \[2\] with 2/)
    await expectError(() => Tensor.empty(device, [2, -1], 'f32'), 'ERR_ALMA_SHAPE', /\[2, -1\]/)
    await expectError(() => Tensor.empty(device, [1.5], 'f32'), 'ERR_ALMA_SHAPE', /\[1.5\]/)
    await expectError(() => Tensor.empty(device, [2 ** 30, 2 ** 30], 'f32'), 'ERR_ALMA_SHAPE', /count is not an extent/)
  })

  it('is read by many at once', async () => {
    const tensors = Array.from({ length: 200 }, (_, i) => ops.fill(Tensor.empty(device, [100], 'f32'), i))
    const all = await Promise.all(tensors.flatMap((tensor) => [tensor.read(), tensor.read()]))
    all.forEach((values, i) => {
      expect(values[99]).toBe(Math.floor(i / 2))
    })
  })
})

describe('views', () => {
  it('share memory, at any offset', async () => {
    const whole = Tensor.from(
      device,
      Float32Array.from({ length: 24 }, (_, i) => i),
      [4, 6],
    )
    expect([...(await whole.rows(1, 3).read())]).toEqual([6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17])
    const part = whole.view([2, 2], 5)
    expect([...(await part.read())]).toEqual([5, 6, 7, 8])
    ops.fill(part, -1)
    expect([...(await whole.read())].slice(4, 10)).toEqual([4, -1, -1, -1, -1, 9])
    expectClose('view of a view', await part.view([1], 3).read(), [-1], { maxAbs: 0 })
  })

  it('keep the memory alive until the last of them is disposed', async () => {
    device.releaseCachedMemory()
    const before = device.memory().allocated
    const whole = ops.fill(Tensor.empty(device, [1000], 'f32'), 3)
    const held = device.memory().allocated
    const view = whole.view([10], 500)
    whole.dispose()
    expect(device.memory().allocated).toBe(held)
    const other = ops.fill(Tensor.empty(device, [1000], 'f32'), 4)
    expect([...(await view.read())]).toEqual(Array.from({ length: 10 }, () => 3))
    view.dispose()
    other.dispose()
    // Less is possible: what nobody disposed is collected some time.
    expect(device.memory().allocated).toBeLessThanOrEqual(before)
  })

  it('stay inside their tensor', async () => {
    const tensor = Tensor.zeros(device, [4, 2], 'f32')
    await expectError(() => tensor.view([3], 6), 'ERR_ALMA_SHAPE', /view: elements 6 to 9 of a tensor that has 8/)
    await expectError(() => tensor.view([1], -1), 'ERR_ALMA_SHAPE', /offset/)
    await expectError(() => tensor.rows(3, 5), 'ERR_ALMA_SHAPE', /rows: 3 to 5 of a tensor of shape \[4, 2\]/)
    await expectError(() => tensor.rows(2, 1), 'ERR_ALMA_SHAPE', /rows: 2 to 1/)
  })
})

describe('disposal', () => {
  it('is harmless twice, and final', async () => {
    const tensor = Tensor.from(device, [1])
    const other = Tensor.from(device, [2])
    tensor.dispose()
    tensor.dispose()
    expect(tensor.disposed).toBe(true)
    // Its memory belongs to someone else now, who must not be seen through the old handle.
    const heir = Tensor.from(device, [3])
    await expectError(() => tensor.read(), 'ERR_ALMA_DISPOSED', /disposed/)
    await expectError(() => tensor.write([4]), 'ERR_ALMA_DISPOSED', /disposed/)
    await expectError(() => tensor.view([1]), 'ERR_ALMA_DISPOSED', /disposed/)
    await expectError(() => ops.add(other, tensor), 'ERR_ALMA_DISPOSED', /disposed/)
    expect([...(await heir.read())]).toEqual([3])
  })

  it('happens in the order of the stream: work that is enqueued still reads the old contents', async () => {
    const size = emulated ? 33 : 300
    const results: Promise<Float32Array>[] = []
    for (let i = 0; i < 30; i++) {
      using a = ops.fill(Tensor.empty(device, [size, size], 'f32'), i)
      using b = ops.fill(Tensor.empty(device, [size, size], 'f32'), 1)
      using c = ops.matmul(a, b)
      results.push(c.readFloats())
    }
    const all = await Promise.all(results)
    all.forEach((values, i) => {
      expect(new Set(values)).toEqual(new Set([i * size]))
    })
  })

  it('of a scope disposes what the scope owns', () => {
    const scope = new Scope()
    const tensors = [1, 2, 3].map((x) => scope.own(Tensor.from(device, [x])))
    scope.dispose()
    expect(tensors.every((tensor) => tensor.disposed)).toBe(true)
  })
})
