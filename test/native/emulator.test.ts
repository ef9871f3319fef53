/** The emulator of the GPU on its own: kernels that are right run clean, and one mistake in each of them is found (emulator_*_test.cpp). */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { Device } from '../../lib/runtime/index.js'

// Builds without the emulator have no such program either.
const has = Device.buildInformation().emulator
const program = join(import.meta.dirname, '..', '..', 'build', 'Release', 'emulator_test')

function run(args: readonly string[], environment: Readonly<Record<string, string>> = {}): string {
  return execFileSync(program, args, { encoding: 'utf8', env: { ...process.env, ...environment } })
}

const groups: readonly string[] = has && existsSync(program) ? run(['--list']).trim().split('\n') : []

describe.skipIf(!has)('emulator', () => {
  it('is built with its tests', () => {
    expect(groups.length).toBeGreaterThan(0)
  })

  it.each(groups)('%s', (group) => {
    // A failure's output is in the error that is thrown: the program's status is not 0 then.
    const output = run([group])
    expect(output).toMatch(/^\d+ passed, 0 failed$/m)
    expect(output).not.toMatch(/^0 passed/m)
  })

  it('is told by its environment what to leave out', () => {
    expect(
      run(['--settings'], { ALMA_EMULATOR_CHECKS: 'off', ALMA_EMULATOR_SCHEDULE: 'random', ALMA_EMULATOR_SEED: '77' }),
    ).toBe('checks off, schedule random, seed 77\n')
    expect(run(['--settings'], { ALMA_EMULATOR_CHECKS: '', ALMA_EMULATOR_SCHEDULE: '', ALMA_EMULATOR_SEED: '' })).toBe(
      'checks on, schedule forward, seed 1\n',
    )
  })
})
