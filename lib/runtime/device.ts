import { AlmaError } from '../errors.js'
import { Graph } from './graph.js'
import { loadAddon } from './load-addon.js'
import type { BuildInformation, CudaDevices, DeviceMemory, NativeAddon } from './native-addon.js'

export interface DeviceOptions {
  /** Worker threads of the CPU device, the engine's own included. Default: all processors that the process may use. */
  readonly threads?: number
  /** Instruction set of the CPU device, for tests and comparisons: `'auto'` (the best one), `'portable'`, `'avx2'`, … */
  readonly instructionSet?: string
}

/** A device that {@link Device.open} accepts on this machine. */
export interface DeviceListing {
  readonly name: string
  readonly description: string
}

/**
 * A place where tensors live and ops run, in the order in which they were enqueued: a stream.
 *
 * Calls to ops return at once; {@link Tensor.read} and {@link synchronize} are the only waits, and they are promises. When an op
 * fails on the device, the next of these promises is rejected with an AlmaError.
 */
export class Device {
  /** `'cpu'`. */
  readonly name: string
  /** What computes: instruction set and number of threads. */
  readonly description: string
  readonly threads: number
  /** For lib/runtime only. */
  readonly addon: NativeAddon
  readonly id: number
  #closed: Promise<void> | undefined

  private constructor(addon: NativeAddon, id: number) {
    const described = addon.deviceDescribe(id)
    this.addon = addon
    this.id = id
    this.name = described.name
    this.description = described.description
    this.threads = described.threads
  }

  /**
   * Opens a device. `'auto'` takes a GPU if one is usable, else the CPU.
   *
   * @throws AlmaError ERR_ALMA_DEVICE when there is no such device; ERR_ALMA_NATIVE when the addon cannot be loaded.
   */
  static open(name = 'auto', options: DeviceOptions = {}): Device {
    const { threads = 0, instructionSet = 'auto' } = options
    if (!Number.isInteger(threads) || threads < 0 || threads > 1024) {
      throw new AlmaError('ERR_ALMA_OPTION', `threads: expected an integer from 1 to 1024, got ${threads}`)
    }
    const addon = loadAddon()
    const wanted = name === 'auto' ? 'cpu' : name
    if (wanted !== 'cpu') {
      const known = Device.list()
        .map((device) => `'${device.name}'`)
        .join(', ')
      throw new AlmaError(
        'ERR_ALMA_DEVICE',
        `no device '${name}' here (${addon.buildInformation().cudaNote}); available: ${known}`,
      )
    }
    return new Device(addon, addon.deviceOpen(wanted, threads, instructionSet))
  }

  /** The devices of this machine, best first. */
  static list(): readonly DeviceListing[] {
    const { cpuInstructionSets, processors } = loadAddon().buildInformation()
    const best = cpuInstructionSets.find((name) => !name.startsWith('emulated-'))
    return [{ name: 'cpu', description: `CPU, ${best}, ${processors} ${processors === 1 ? 'thread' : 'threads'}` }]
  }

  /** The GPUs of this machine, or why there is none to use. This version lists them and computes on the CPU. */
  static cudaDevices(): CudaDevices {
    return loadAddon().cudaDevices()
  }

  /** How the native addon was built. */
  static buildInformation(): BuildInformation {
    return loadAddon().buildInformation()
  }

  get disposed(): boolean {
    return this.#closed !== undefined
  }

  /** Bytes in use; see {@link DeviceMemory}. */
  memory(): DeviceMemory {
    return this.addon.deviceMemory(this.id)
  }

  resetPeakMemory(): void {
    this.addon.deviceResetPeak(this.id)
  }

  /** Gives memory that is only kept for reuse back to the system, behind the work that is enqueued. */
  releaseCachedMemory(): void {
    this.addon.deviceReleaseCached(this.id)
  }

  /** Resolves when everything enqueued so far has run. */
  synchronize(): Promise<void> {
    return this.addon.deviceSynchronize(this.id)
  }

  /**
   * Records the ops that `body` calls into a graph instead of running them. `body` must be synchronous, and neither read nor write
   * tensors; tensors that it creates keep their memory as long as the graph lives.
   */
  capture(body: () => void): Graph {
    this.addon.graphBegin(this.id)
    try {
      body()
    } catch (error) {
      this.addon.graphRelease(this.addon.graphEnd(this.id))
      throw error
    }
    return new Graph(this, this.addon.graphEnd(this.id))
  }

  /** A measured ceiling of the machine, for benchmarks: `'fma'` and `'bf16dot'` in FLOP/s, `'read'` and `'copy'` in bytes/s. */
  probe(what: string, { bytes = 256 * 2 ** 20, seconds = 0.5 } = {}): Promise<number> {
    return this.addon.deviceProbe(this.id, what, bytes, seconds)
  }

  /** Ends the stream after the op in progress and frees the device's memory; its tensors are unusable from now on. */
  dispose(): Promise<void> {
    this.#closed ??= this.addon.deviceClose(this.id)
    return this.#closed
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }
}
