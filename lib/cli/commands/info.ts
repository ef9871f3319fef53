import { arch, platform, release } from 'node:os'
import type { Command } from 'commander'
import { messageOf } from '../../errors.js'
import { type CudaDevices, Device } from '../../runtime/index.js'
import { type CliIo, writeTo } from '../io.js'
import { addJsonOption } from '../model.js'

export function infoCommand(program: Command, io: CliIo, version: string): void {
  const command = program.command('info').description('versions, devices and what they can do')
  addJsonOption(command).action(({ json }: { readonly json: boolean }) => info(json, version, io))
}

interface Information {
  readonly version: string
  readonly node: string
  readonly platform: string
  readonly devices: readonly { readonly name: string; readonly description: string }[]
  readonly cpuInstructionSets: readonly string[]
  /** Processors that this process may use. */
  readonly threads: number
  /** Bytes, of the machine or its container. */
  readonly memory: { readonly free: number; readonly total: number }
  readonly cuda: boolean
  readonly cudaNote: string
  readonly gpus: CudaDevices['devices']
  /** Why no GPU is usable; empty when one is. */
  readonly gpuReason: string
}

async function info(json: boolean, version: string, io: CliIo): Promise<void> {
  const system = { version, node: process.versions.node, platform: `${platform()}-${arch()} (${release()})` }
  let information: Information
  try {
    information = { ...system, ...(await native()) }
  } catch (error) {
    // What is known helps whoever must find out why the addon does not load.
    const text = json ? JSON.stringify({ ...system, error: messageOf(error) }) : textOf(system)
    await writeTo(io.stdout, `${text}\n`, io.signal)
    throw error
  }
  await writeTo(io.stdout, `${json ? JSON.stringify(information) : textOf(information)}\n`, io.signal)
}

async function native(): Promise<Omit<Information, 'version' | 'node' | 'platform'>> {
  const { cpuInstructionSets, processors, cuda, cudaNote } = Device.buildInformation()
  await using device = Device.open('cpu')
  const { free, total } = device.memory()
  const { devices: gpus, reason: gpuReason } = Device.cudaDevices()
  return {
    devices: Device.list(),
    cpuInstructionSets,
    threads: processors,
    memory: { free, total },
    cuda,
    cudaNote,
    gpus,
    gpuReason,
  }
}

type System = Pick<Information, 'version' | 'node' | 'platform'>

function textOf(information: System & Partial<Information>): string {
  const { version, node, platform: system, devices = [], cpuInstructionSets, threads, memory } = information
  const { cudaNote, gpus = [], gpuReason = '' } = information
  const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`
  const rows: (readonly [string, string])[] = [
    ['alma-native', version],
    ['Node.js', node],
    ['platform', system],
    ...devices.map(({ name, description }) => [`device ${name}`, description] as const),
  ]
  if (cpuInstructionSets !== undefined) rows.push(['CPU kernels', cpuInstructionSets.join(', ')])
  if (threads !== undefined) rows.push(['threads', String(threads)])
  if (memory !== undefined) rows.push(['memory', `${gib(memory.free)} free of ${gib(memory.total)}`])
  if (cudaNote !== undefined) rows.push(['CUDA', cudaNote])
  if (gpuReason !== '') rows.push(['GPU', `none usable: ${gpuReason}`])
  for (const { name, computeCapability, memoryBytes } of gpus) {
    rows.push(['GPU', `${name}, compute capability ${computeCapability}, ${gib(memoryBytes)}`])
  }
  return rows.map(([name, value]) => `${name.padEnd(13)}${value}`).join('\n')
}
