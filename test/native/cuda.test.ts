/** The CUDA kernels on the emulator, beside the CPU device and float64 loops, with fresh random arguments (cuda_*_test.cpp). */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { Device } from '../../lib/runtime/index.js'

const folder = join(import.meta.dirname, '..', '..', 'build', 'Release')
const programs = ['cuda_ops_test', 'cuda_attention_test', 'cuda_matmul_test', 'cuda_fused_matmul_test']

// Builds without the emulator have no such programs either.
describe.skipIf(!Device.buildInformation().emulator)('CUDA kernels', () => {
  it.each(programs)('%s', { timeout: 300_000 }, async (program) => {
    // A failure's output is in the error that is thrown: the program's status is not 0 then.
    const { stdout } = await promisify(execFile)(join(folder, program), { maxBuffer: 1 << 26 })
    expect(stdout).toMatch(/^\d+ passed, 0 failed/m)
    expect(stdout).not.toMatch(/^0 passed/m)
  })
})
