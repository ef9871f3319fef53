/**
 * The devices that a test of ops runs on: $ALMA_DEVICE, and of the CPU every instruction set that this processor has; those that it lacks are
 * emulated.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Device } from '../../lib/runtime/index.js'

export const deviceName: string = process.env.ALMA_DEVICE ?? 'cpu'

/** With a checker behind every access (the emulator, or compute-sanitizer) what takes seconds would take minutes: smaller sizes, please. */
export const emulated: boolean = deviceName === 'emulator' || process.env.ALMA_SMALL_TESTS === '1'

/** Of the CPU: those of this processor, and emulated ones in place of those that it lacks. */
export function cpuInstructionSets(): readonly string[] {
  const prefix = 'emulated-'
  const available = Device.buildInformation().cpuInstructionSets
  return available.filter((name) => !(name.startsWith(prefix) && available.includes(name.slice(prefix.length))))
}

const instructionSets: readonly (string | undefined)[] = deviceName === 'cpu' ? cpuInstructionSets() : [undefined]

export function openDevice(threads?: number, instructionSet?: string): Device {
  return Device.open(deviceName, {
    ...(threads !== undefined && { threads }),
    ...(instructionSet !== undefined && { instructionSet }),
  })
}

/** Runs `body` once for each variant of the device; it gets a function that gives the open device inside a test. */
export function onEachDevice(body: (device: () => Device) => void): void {
  for (const instructionSet of instructionSets) {
    describe(instructionSet === undefined ? deviceName : `${deviceName} ${instructionSet}`, () => {
      let opened: Device | undefined
      const device = (): Device => {
        if (opened === undefined) throw new Error('a device is open inside tests only')
        return opened
      }
      beforeAll(() => {
        opened = openDevice(undefined, instructionSet)
      })
      afterAll(async () => {
        await opened?.dispose()
      })
      body(device)
    })
  }
}

type Numbers = Float32Array | Int32Array

/** Ops are deterministic: the same bits whatever the number of threads. `body` is run with 1, 2 and 3 of them. */
export function itIsTheSameOnAnyThreads(body: (device: Device) => Promise<readonly Numbers[]>): void {
  for (const instructionSet of instructionSets) {
    const name = `is bit-identical on 1, 2 and 3 threads (${instructionSet ?? deviceName})`
    it.skipIf(deviceName !== 'cpu')(name, async () => {
      let first: readonly Uint8Array[] | undefined
      for (const threads of [1, 2, 3]) {
        const device = openDevice(threads, instructionSet)
        try {
          const results = (await body(device)).map((numbers) => new Uint8Array(numbers.buffer))
          first ??= results
          results.forEach((bytes, index) => {
            const same = Buffer.compare(bytes, first?.[index] ?? new Uint8Array()) === 0
            expect(same, `result ${index} on ${threads} threads`).toBe(true)
          })
        } finally {
          await device.dispose()
        }
      }
    })
  }
}
