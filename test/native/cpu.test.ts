/** The CPU kernels beside float64 loops, in memory that ends where their arguments do (cpu_*_test.cpp). */
import { existsSync } from 'node:fs'
import { describe, it } from 'vitest'
import { cpuInstructionSets } from '../support/devices.js'
import { expectProgramPasses, nativeProgram } from '../support/native-programs.js'

const program = nativeProgram('cpu_test')

// A prebuilt binary has no such program; a build for development has.
describe.skipIf(!existsSync(program))('CPU kernels', () => {
  it.each(cpuInstructionSets())('%s', { timeout: 300_000 }, async (instructionSet) => {
    await expectProgramPasses(program, [instructionSet])
  })
})
