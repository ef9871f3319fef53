import { type Device, type Shape, Tensor } from '../runtime/index.js'

/**
 * Several small i32 tensors that are written together: one array on the host, one upload, and a view for each part. Nothing is
 * allocated after the constructor.
 */
export class UploadBuffer<Name extends string> {
  /** What {@link upload} will write. */
  readonly host: Readonly<Record<Name, Int32Array>>
  readonly tensors: Readonly<Record<Name, Tensor>>
  readonly #whole: Int32Array
  readonly #tensor: Tensor

  constructor(device: Device, shapes: Readonly<Record<Name, Shape>>) {
    const entries = Object.entries(shapes) as [Name, Shape][]
    const counts = entries.map(([, shape]) => shape.reduce((product, extent) => product * extent, 1))
    this.#whole = new Int32Array(counts.reduce((sum, count) => sum + count, 0))
    this.#tensor = Tensor.empty(device, [this.#whole.length], 'i32')
    const host: Partial<Record<Name, Int32Array>> = {}
    const tensors: Partial<Record<Name, Tensor>> = {}
    let offset = 0
    for (const [i, [name, shape]] of entries.entries()) {
      const count = counts[i] ?? 0
      host[name] = this.#whole.subarray(offset, offset + count)
      tensors[name] = this.#tensor.view(shape, offset)
      offset += count
    }
    this.host = host as Record<Name, Int32Array>
    this.tensors = tensors as Record<Name, Tensor>
  }

  upload(): void {
    this.#tensor.write(this.#whole)
  }

  dispose(): void {
    for (const view of Object.values<Tensor>(this.tensors)) view.dispose()
    this.#tensor.dispose()
  }
}
