import type { Device } from './device.js'

const released = new FinalizationRegistry<() => void>((release) => release())

/** Ops recorded by {@link Device.capture}. One call replays them all; the tensors they name are read and written anew each time. */
export class Graph {
  readonly device: Device
  readonly #id: number
  #disposed = false

  /** Use {@link Device.capture}. */
  constructor(device: Device, id: number) {
    this.device = device
    this.#id = id
    released.register(this, () => releaseGraph(device, id), this)
  }

  /** Enqueues the recorded ops. @throws AlmaError ERR_ALMA_DISPOSED */
  launch(): void {
    this.device.addon.graphLaunch(this.#id)
  }

  /** Frees what only the graph keeps alive, behind the launches that are enqueued. */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    released.unregister(this)
    releaseGraph(this.device, this.#id)
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}

function releaseGraph(device: Device, id: number): void {
  device.addon.graphRelease(id)
}
