import { AlmaError } from '../errors.js'
import { Graph } from './graph.js'
import { loadAddon } from './load-addon.js'
import type { BuildInformation, CudaDevices, DeviceMemory, NativeAddon } from './native-addon.js'

export interface DeviceOptions {
  /** Worker threads of the CPU device, the engine's own included. Default: all processors that the process may use. */
  readonly threads?: number
  /**
   * Instruction set of the CPU device, for tests and comparisons: `'auto'` (the best one), `'portable'`, `'avx2'`, … Default: the
   * environment variable ALMA_CPU, else `'auto'`.
   */
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
  /** `'cpu'`, `'cuda:0'`, … or, in development builds, `'emulator'`. */
  readonly name: string
  /** What computes: instruction set and number of threads, or the GPU's model. */
  readonly description: string
  /** Worker threads of the CPU device; 1 on a GPU. */
  readonly threads: number
  /** Whether `linearAdd` of many bf16 rows is one kernel, so that it pays to add a residual where its branch is computed. */
  readonly fusesResiduals: boolean
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
    this.fusesResiduals = described.fusesResiduals
  }

  /**
   * Opens a device: `'cpu'`; `'cuda:N'`, a GPU by its number, or `'cuda'`, the first that is usable; `'auto'` (default), a GPU if one
   * is usable, else the CPU. Development builds have `'emulator'` as well: the GPU's kernels on the CPU, to test them.
   *
   * @throws AlmaError ERR_ALMA_DEVICE when there is no such device; ERR_ALMA_NATIVE when the addon cannot be loaded.
   */
  static open(name = 'auto', options: DeviceOptions = {}): Device {
    const { threads = 0, instructionSet = process.env.ALMA_CPU || 'auto' } = options
    if (!Number.isInteger(threads) || threads < 0 || threads > 1024) {
      throw new AlmaError('ERR_ALMA_OPTION', `threads: expected an integer from 1 to 1024, got ${threads}`)
    }
    const addon = loadAddon()
    return new Device(addon, addon.deviceOpen(deviceNamed(addon, name), threads, instructionSet))
  }

  /** The devices of this machine, best first. */
  static list(): readonly DeviceListing[] {
    const addon = loadAddon()
    const { cpuInstructionSets, emulator, processors } = addon.buildInformation()
    const best = process.env.ALMA_CPU || cpuInstructionSets.find((name) => !name.startsWith('emulated-'))
    const cpu = `CPU, ${best}, ${processors} ${processors === 1 ? 'thread' : 'threads'}`
    return [
      ...usableGpus(addon),
      { name: 'cpu', description: cpu },
      ...(emulator
        ? [{ name: 'emulator', description: "CUDA emulator: the GPU's kernels on the CPU, to test them" }]
        : []),
    ]
  }

  /** The GPUs of this machine, or why there is none to use. */
  static cudaDevices(): CudaDevices {
    return loadAddon().cudaDevices()
  }

  /** How the native addon was built. */
  static buildInformation(): BuildInformation {
    return loadAddon().buildInformation()
  }

  /** Whether tensors can lie in mapped files: {@link Tensor.mapFile}. */
  get hostAccessible(): boolean {
    return this.name === 'cpu'
  }

  /** What a model's weights and activations are unless somebody says otherwise. */
  get defaultDtype(): 'f32' | 'bf16' {
    return this.name === 'cpu' ? 'f32' : 'bf16'
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

function usableGpus(addon: NativeAddon): DeviceListing[] {
  return addon
    .cudaDevices()
    .devices.map(({ name, computeCapability }, index) => ({
      name: `cuda:${index}`,
      description: name,
      computeCapability,
    }))
    .filter(({ computeCapability }) => Number(computeCapability) >= 8)
    .map(({ name, description, computeCapability }) => ({
      name,
      description: `${description}, compute capability ${computeCapability}`,
    }))
}

/** The addon's name of the device that is meant. */
function deviceNamed(addon: NativeAddon, name: string): string {
  const { cuda, cudaNote, emulator } = addon.buildInformation()
  if (name === 'cpu' || (name === 'emulator' && emulator)) return name
  if (name === 'auto') return usableGpus(addon)[0]?.name ?? 'cpu'
  if (cuda && name === 'cuda') {
    const first = usableGpus(addon)[0]
    if (first !== undefined) return first.name
  }
  const number = /^cuda:(\d{1,3})$/.exec(name)?.[1]
  if (cuda && number !== undefined && Number(number) < addon.cudaDevices().devices.length)
    return `cuda:${Number(number)}`
  const known = Device.list()
    .map((device) => `'${device.name}'`)
    .join(', ')
  throw new AlmaError('ERR_ALMA_DEVICE', `no device '${name}' here (${whyNot()}); available: ${known}`)

  function whyNot(): string {
    if (!cuda || !name.startsWith('cuda')) return cudaNote
    const { devices, reason } = addon.cudaDevices()
    return reason === '' ? `${devices.length === 1 ? 'one GPU was' : `${devices.length} GPUs were`} found` : reason
  }
}
