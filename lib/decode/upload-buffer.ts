import { type Device, type Shape, Tensor } from '../runtime/index.js'

/**
 * Several small i32 tensors that are written together: one array on the host, one upload, and a view for each part. Nothing is
 * allocated after the constructor.
 */
export class UploadBuffer<Name extends string> {
  readonly #host: Int32Array
  readonly #tensor: Tensor
  readonly #parts = new Map<Name, { readonly host: Int32Array; readonly view: Tensor }>()

  constructor(device: Device, shapes: Readonly<Record<Name, Shape>>) {
    const entries = Object.entries(shapes) as [Name, Shape][]
    const counts = entries.map(([, shape]) => shape.reduce((product, extent) => product * extent, 1))
    this.#host = new Int32Array(counts.reduce((sum, count) => sum + count, 0))
    this.#tensor = Tensor.empty(device, [this.#host.length], 'i32')
    let offset = 0
    for (const [i, [name, shape]] of entries.entries()) {
      const count = counts[i] ?? 0
      const view = this.#tensor.view(shape, offset)
      this.#parts.set(name, { host: this.#host.subarray(offset, offset + count), view })
      offset += count
    }
  }

  /** What {@link upload} will write. */
  host(name: Name): Int32Array {
    return this.#part(name).host
  }

  tensor(name: Name): Tensor {
    return this.#part(name).view
  }

  upload(): void {
    this.#tensor.write(this.#host)
  }

  dispose(): void {
    for (const { view } of this.#parts.values()) view.dispose()
    this.#tensor.dispose()
  }

  #part(name: Name): { readonly host: Int32Array; readonly view: Tensor } {
    const part = this.#parts.get(name)
    if (part === undefined) throw new RangeError(`an upload buffer has no part ${name}`)
    return part
  }
}
