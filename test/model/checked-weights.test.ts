/** Weights are searched for NaN and infinity once for as long as their file stays the same. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { createLlama, loadLlama, normalizeConfig, saveLlama } from '../../lib/model/index.js'
import type { Device } from '../../lib/runtime/index.js'
import { expectError } from '../support/compare.js'
import { deviceName, openDevice } from '../support/devices.js'

const config = normalizeConfig({
  vocabSize: 30,
  hiddenSize: 16,
  intermediateSize: 24,
  numHiddenLayers: 2,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
})
const parameters = 2 * 9 + 3

let device: Device
let folder: string
let model: string
let weights: string
let record: string
let models = 0
beforeAll(() => {
  device = openDevice()
  folder = mkdtempSync(join(tmpdir(), 'alma-checked-'))
})
afterAll(async () => {
  await device.dispose()
  rmSync(folder, { recursive: true })
})

beforeEach(async () => {
  const own = join(folder, String(models++))
  model = join(own, 'model')
  weights = join(model, 'model.safetensors')
  vi.stubEnv('ALMA_CACHE', join(own, 'cache'))
  record = join(own, 'cache', 'checked-weights.txt')
  const random = createLlama(device, config, { dtype: 'f32' })
  await saveLlama(random, model)
  random.dispose()
  timePasses()
})
afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
})

/** A file that is new is not recorded. */
function timePasses(): void {
  const later = Date.now() + 10_000
  vi.spyOn(Date, 'now').mockImplementation(() => later)
}

/** Loads the model; how many of its tensors were searched. */
async function searchedBy(dtype: 'f32' | 'bf16' = 'f32'): Promise<number> {
  const count = vi.spyOn(device.addon, 'opCountNonFinite')
  try {
    const loaded = await loadLlama(device, model, { dtype })
    loaded.dispose()
    return count.mock.calls.length
  } finally {
    count.mockRestore()
  }
}

const lines = (): string[] => readFileSync(record, 'utf8').trimEnd().split('\n')

describe.skipIf(deviceName !== 'cpu')('the search for NaN', () => {
  it('is made once', async () => {
    expect(await searchedBy()).toBe(parameters)
    expect(lines()).toEqual([expect.stringMatching(/^[0-9a-f]{64}$/)])
    expect(await searchedBy()).toBe(0)
    expect(lines()).toHaveLength(1)
    // Converted weights are not those of the file, but what is known of the file stays.
    expect(await searchedBy('bf16')).toBe(parameters)
    expect(await searchedBy()).toBe(0)
  })

  it('reports the same progress where there is nothing to search', async () => {
    const seen: number[][] = [[], []]
    for (const each of seen) {
      const onProgress = ({ bytesLoaded }: { bytesLoaded: number }): unknown => each.push(bytesLoaded)
      ;(await loadLlama(device, model, { dtype: 'f32', onProgress })).dispose()
    }
    expect(seen[0]).toHaveLength(parameters)
    expect(seen[1]).toEqual(seen[0])
  })

  it('is made again after any change of the file, also one that keeps size and time', async () => {
    expect(await searchedBy()).toBe(parameters)
    const { atimeMs, mtimeMs, size } = statSync(weights)
    await setTimeout(20) // a file system's clock may tick as slowly as that
    const nan = Buffer.alloc(4)
    nan.writeFloatLE(Number.NaN)
    await using file = await open(weights, 'r+')
    await file.write(nan, 0, 4, size - 4)
    utimesSync(weights, atimeMs / 1000, mtimeMs / 1000)
    for (let i = 0; i < 2; i++) {
      await expectError(searchedBy, 'ERR_ALMA_CHECKPOINT', /model\.safetensors: .* has 1 elements that are NaN/)
    }
    expect(lines()).toHaveLength(1)
  })

  it('is made of the parameters that were not looked at before', async () => {
    const path = join(model, 'config.json')
    const whole = readFileSync(path, 'utf8')
    writeFileSync(path, JSON.stringify({ ...JSON.parse(whole), num_hidden_layers: 1 }))
    expect(await searchedBy()).toBe(9 + 3)
    writeFileSync(path, whole)
    expect(await searchedBy()).toBe(parameters)
    expect(await searchedBy()).toBe(0)
  })

  it('is not skipped for a file that was written a moment ago', async () => {
    vi.restoreAllMocks()
    expect(await searchedBy()).toBe(parameters)
    expect(existsSync(record)).toBe(false)
    expect(await searchedBy()).toBe(parameters)
  })

  it.each([
    ['nothing', ''],
    ['something else', '{"version": 7}\n\0\n'],
    ['half a line', '0123456789abcdef'],
    ['far more than it should', `${'f'.repeat(1 << 20)}\n`],
  ])('is made where the record holds %s', async (_what, content) => {
    mkdirSync(join(record, '..'), { recursive: true })
    writeFileSync(record, content)
    expect(await searchedBy()).toBe(parameters)
    expect(await searchedBy()).toBe(0)
    expect(statSync(record).size).toBe(65)
  })

  it('is remembered in a record that stays short', async () => {
    mkdirSync(join(record, '..'), { recursive: true })
    const old = Array.from({ length: 2048 }, (_, i) => i.toString(16).padStart(64, '0'))
    writeFileSync(record, `${old.join('\n')}\n`)
    expect(await searchedBy()).toBe(parameters)
    expect(lines()).toEqual([...old.slice(1024), expect.stringMatching(/^[0-9a-f]{64}$/)])
    expect(await searchedBy()).toBe(0)
  })

  it('is made every time where nothing can be recorded, or shall be', async () => {
    for (const cache of [join(weights, 'no folder'), 'off']) {
      vi.stubEnv('ALMA_CACHE', cache)
      for (let i = 0; i < 2; i++) expect(await searchedBy()).toBe(parameters)
    }
    expect(existsSync(record)).toBe(false)
  })
})
