/** The CUDA kernels on the emulator, beside the CPU device and float64 loops, with fresh random arguments (cuda_*_test.cpp). */
import { describe, it } from 'vitest'
import { Device } from '../../lib/runtime/index.js'
import { expectProgramPasses, nativeProgram } from '../support/native-programs.js'

const programs = ['cuda_ops_test', 'cuda_attention_test', 'cuda_matmul_test', 'cuda_fused_matmul_test']

// Builds without the emulator have no such programs either.
describe.skipIf(!Device.buildInformation().emulator)('CUDA kernels', () => {
  it.each(programs)('%s', { timeout: 300_000 }, async (program) => {
    await expectProgramPasses(nativeProgram(program))
  })
})
