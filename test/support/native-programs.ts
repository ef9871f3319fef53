/** The C++ test programs that a build for development leaves beside the addon. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'vitest'

export const nativeProgram = (name: string): string => join(import.meta.dirname, '..', '..', 'build', 'Release', name)

/** Runs a program, all of whose checks must pass. A failure's output is in the error that is thrown: the program's status is not 0 then. */
export async function expectProgramPasses(program: string, args: readonly string[] = []): Promise<void> {
  const { stdout } = await promisify(execFile)(program, args, { maxBuffer: 1 << 26 })
  expect(stdout).toMatch(/^\d+ passed, 0 failed/m)
  expect(stdout).not.toMatch(/^0 passed/m)
}
