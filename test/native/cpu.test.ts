/** The CPU kernels beside float64 loops, in memory that ends where their arguments do (cpu_*_test.cpp). */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { cpuInstructionSets } from '../support/devices.js'

const program = join(import.meta.dirname, '..', '..', 'build', 'Release', 'cpu_test')

// A prebuilt binary has no such program; a build for development has.
describe.skipIf(!existsSync(program))('CPU kernels', () => {
  it.each(cpuInstructionSets())('%s', { timeout: 300_000 }, async (instructionSet) => {
    // A failure's output is in the error that is thrown: the program's status is not 0 then.
    const { stdout } = await promisify(execFile)(program, [instructionSet], { maxBuffer: 1 << 26 })
    expect(stdout).toMatch(/^\d+ passed, 0 failed/m)
    expect(stdout).not.toMatch(/^0 passed/m)
  })
})
