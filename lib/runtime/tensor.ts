import { AlmaError } from '../errors.js'
import type { Device } from './device.js'
import { type DType, dtypeCode, dtypeSize, type StorageDType } from './dtype.js'
import type { NativeAddon } from './native-addon.js'

export type Shape = readonly number[]

/** Read from the disk at a time; between two parts a signal is looked at. */
const fetchBytes = 64 * 2 ** 20

// The safety net for tensors that nobody disposed; explicit disposal is the way.
const forgotten = new FinalizationRegistry<{ addon: NativeAddon; handle: number }>(({ addon, handle }) => {
  addon.tensorRelease(handle)
})

/** A dense, row-major array on a device. Disposing it gives its memory back at once, in the order of the stream. */
export class Tensor {
  readonly device: Device
  readonly shape: Shape
  readonly dtype: DType
  /** Number of elements. */
  readonly count: number
  /** For lib/runtime only. */
  readonly handle: number
  #disposed = false

  private constructor(device: Device, handle: number, shape: Shape, dtype: DType, count: number) {
    this.device = device
    this.handle = handle
    this.shape = shape
    this.dtype = dtype
    this.count = count
    forgotten.register(this, { addon: device.addon, handle }, this)
  }

  /** A tensor whose elements are undefined. @throws AlmaError ERR_ALMA_OUT_OF_MEMORY with the bytes needed and free. */
  static empty(device: Device, shape: Shape, dtype: DType): Tensor {
    const count = countOf(shape)
    return new Tensor(device, device.addon.tensorCreate(device.id, dtypeCode[dtype], count), shape, dtype, count)
  }

  static zeros(device: Device, shape: Shape, dtype: DType): Tensor {
    const tensor = Tensor.empty(device, shape, dtype)
    device.addon.opFill(tensor.handle, tensor.count, 0)
    return tensor
  }

  /**
   * A tensor with the given elements. Numbers for 'bf16' are given as Float32Array and rounded on the device, or as Uint16Array of
   * the bits. The array may be changed as soon as the call returns.
   */
  static from(
    device: Device,
    data: Float32Array | Int32Array | Uint16Array | readonly number[],
    shape: Shape = [data.length],
    dtype: DType = data instanceof Int32Array ? 'i32' : 'f32',
  ): Tensor {
    const tensor = Tensor.empty(device, shape, dtype)
    try {
      tensor.write(data)
      return tensor
    } catch (error) {
      tensor.dispose()
      throw error
    }
  }

  /**
   * A tensor that lies in a file, mapped into memory without a copy; changes to it never reach the file. CPU only.
   *
   * @throws AlmaError ERR_ALMA_IO, or ERR_ALMA_CHECKPOINT when the file is shorter than the tensor.
   */
  static mapFile(device: Device, path: string, byteOffset: number, shape: Shape, dtype: DType): Tensor {
    const count = countOf(shape)
    const handle = device.addon.tensorMapFile(device.id, dtypeCode[dtype], count, path, byteOffset)
    return new Tensor(device, handle, shape, dtype, count)
  }

  /**
   * Brings a tensor of {@link Tensor.mapFile} from the disk into memory, unless the file was there when it was mapped. What has not
   * been fetched is read when an op first needs it, which is slower. Ops that are enqueued already run meanwhile.
   *
   * @throws AlmaError ERR_ALMA_IO when the disk fails or the file has become shorter; the signal's reason when it is aborted.
   */
  async fetch(signal?: AbortSignal): Promise<void> {
    const { addon } = this.device
    signal?.throwIfAborted()
    if (addon.tensorWasCached(this.handle)) return
    for (let begin = 0; begin < this.byteLength; begin += fetchBytes) {
      signal?.throwIfAborted()
      await addon.tensorFetch(this.handle, begin, fetchBytes)
    }
  }

  /**
   * The same memory from element `offset` on, in another shape, or with its bits taken for numbers of another dtype of the same size. The
   * memory lives until every view of it is disposed.
   */
  view(shape: Shape, offset = 0, dtype: DType = this.dtype): Tensor {
    const count = countOf(shape)
    const handle = this.device.addon.tensorView(this.handle, offset, count, dtypeCode[dtype])
    return new Tensor(this.device, handle, shape, dtype, count)
  }

  /** Rows `begin` up to `end` of the first dimension, as a view. */
  rows(begin: number, end: number): Tensor {
    const [rows = 0, ...rest] = this.shape
    if (!(begin >= 0 && begin <= end && end <= rows)) {
      throw new AlmaError('ERR_ALMA_SHAPE', `rows: ${begin} to ${end} of a tensor of shape [${this.shape.join(', ')}]`)
    }
    return this.view([end - begin, ...rest], begin * countOf(rest))
  }

  /** Replaces the elements; see {@link Tensor.from} for what is accepted. */
  write(data: Float32Array | Int32Array | Uint16Array | readonly number[]): void {
    if (data.length !== this.count) {
      throw new AlmaError(
        'ERR_ALMA_SHAPE',
        `write: ${data.length} numbers given for a tensor of shape [${this.shape.join(', ')}] with ${this.count}`,
      )
    }
    const { addon } = this.device
    if (this.dtype === 'i32') {
      addon.tensorWrite(this.handle, data instanceof Int32Array ? data : Int32Array.from(data))
    } else if (this.dtype === 'bf16' && !(data instanceof Uint16Array)) {
      const wide = Tensor.from(this.device, data, this.shape, 'f32')
      addon.opCast(wide.handle, this.handle, this.count)
      wide.dispose()
    } else if (this.dtype === 'bf16' || data instanceof Float32Array) {
      addon.tensorWrite(this.handle, data as Uint16Array | Float32Array)
    } else {
      addon.tensorWrite(this.handle, Float32Array.from(data))
    }
  }

  /** Fills the tensor from a part of a file, converting f32, f16 and bf16 into each other on the device's own thread. */
  loadFile(path: string, byteOffset: number, storedAs: StorageDType): Promise<void> {
    return this.device.addon.tensorLoadFile(this.handle, path, byteOffset, dtypeCode[storedAs])
  }

  /** The elements, when everything enqueued before has run: Int32Array for 'i32', else Float32Array (bf16 widened on the device). */
  async read(): Promise<Float32Array | Int32Array> {
    if (this.dtype === 'i32') return new Int32Array(await this.device.addon.tensorRead(this.handle))
    return this.readFloats()
  }

  /** {@link read} for a float tensor. */
  async readFloats(): Promise<Float32Array> {
    if (this.dtype === 'i32') throw new AlmaError('ERR_ALMA_SHAPE', 'readFloats: the tensor is i32')
    if (this.dtype === 'f32') return new Float32Array(await this.device.addon.tensorRead(this.handle))
    const wide = Tensor.empty(this.device, this.shape, 'f32')
    try {
      this.device.addon.opCast(this.handle, wide.handle, this.count)
      return new Float32Array(await this.device.addon.tensorRead(wide.handle))
    } finally {
      wide.dispose()
    }
  }

  /** {@link read} for an 'i32' tensor. */
  async readInts(): Promise<Int32Array> {
    if (this.dtype !== 'i32') throw new AlmaError('ERR_ALMA_SHAPE', `readInts: the tensor is ${this.dtype}`)
    return new Int32Array(await this.device.addon.tensorRead(this.handle))
  }

  /** The elements as they lie in memory, little-endian. */
  async readBytes(): Promise<Uint8Array> {
    return new Uint8Array(await this.device.addon.tensorRead(this.handle))
  }

  /** Bytes of memory. */
  get byteLength(): number {
    return this.count * dtypeSize[this.dtype]
  }

  get disposed(): boolean {
    return this.#disposed
  }

  /** Frees the memory for what is enqueued next. Twice is harmless. */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    forgotten.unregister(this)
    this.device.addon.tensorRelease(this.handle)
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}

/** The product of the extents. @throws AlmaError ERR_ALMA_SHAPE for an extent that is not a non-negative integer. */
export function countOf(shape: Shape): number {
  let count = 1
  for (const extent of shape) {
    if (!Number.isSafeInteger(extent) || extent < 0) {
      throw new AlmaError('ERR_ALMA_SHAPE', `not a shape: [${shape.join(', ')}]`)
    }
    count *= extent
  }
  return count
}
