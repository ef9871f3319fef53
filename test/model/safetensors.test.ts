import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { compareUint8Arrays } from 'typed-array-utils'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import {
  readSafetensorsHeader,
  type SafetensorsTensor,
  tensorByteLength,
  writeSafetensors,
} from '../../lib/model/safetensors.js'
import { fixtureCases } from '../support/fixtures.js'
import { loadTensors } from '../support/safetensors.js'

let root: string
let path: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'alma-safetensors-'))
  path = join(root, 'model.safetensors')
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

/** A file with any header, true or not. */
function writeRaw(header: string | Uint8Array, dataBytes: number, headerLength?: bigint): void {
  const bytes = Buffer.from(header)
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(headerLength ?? BigInt(bytes.length))
  writeFileSync(path, Buffer.concat([length, bytes, Buffer.alloc(dataBytes)]))
}

const tensor = (dtype: unknown, shape: unknown, offsets: unknown) => ({ dtype, shape, data_offsets: offsets })

async function expectDamaged(problem: RegExp): Promise<void> {
  const failure = await readSafetensorsHeader(path).then(
    () => undefined,
    (error: unknown) => error,
  )
  expect(failure).toMatchObject({ name: 'AlmaError', code: 'ERR_ALMA_CHECKPOINT' })
  expect(String(failure)).toContain(path)
  expect(String(failure)).toMatch(problem)
}

describe('readSafetensorsHeader', () => {
  it('gives dtype, shape and place of every tensor', async () => {
    const header = JSON.stringify({
      __metadata__: { format: 'pt' },
      b: tensor('BF16', [2, 3], [4, 16]),
      a: tensor('F32', [], [0, 4]),
      empty: tensor('I64', [0, 5], [16, 16]),
    })
    writeRaw(`${header}   `, 16)
    const dataOffset = 8 + header.length + 3
    const found = await readSafetensorsHeader(path)
    expect(found).toMatchObject({ path, dataOffset, fileSize: dataOffset + 16 })
    expect([...found.metadata]).toEqual([['format', 'pt']])
    expect([...found.tensors]).toEqual([
      ['b', { dtype: 'BF16', shape: [2, 3], byteOffset: dataOffset + 4, byteLength: 12 }],
      ['a', { dtype: 'F32', shape: [], byteOffset: dataOffset, byteLength: 4 }],
      ['empty', { dtype: 'I64', shape: [0, 5], byteOffset: dataOffset + 16, byteLength: 0 }],
    ])
  })

  it('takes names that are special in JavaScript', async () => {
    writeRaw('{"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1)
    const { tensors } = await readSafetensorsHeader(path)
    expect([...tensors.keys()]).toEqual(['__proto__'])
    expect(({} as Record<string, unknown>).dtype).toBeUndefined()
  })

  it('takes a file without tensors', async () => {
    writeRaw('{}', 0)
    expect((await readSafetensorsHeader(path)).tensors.size).toBe(0)
  })

  it('reports what is not a safetensors file', async () => {
    await expectDamaged(/no such file/)
    writeFileSync(path, 'short')
    await expectDamaged(/truncated: 5 bytes/)
    rmSync(path)
    execFileSync('mkfifo', [path])
    await expectDamaged(/not a regular file/)
    rmSync(path)
    writeFileSync(path, 'GGUF, or any other text that is long enough')
    await expectDamaged(/header of \d+ bytes, expected at most 100000000/)
  })

  it.each<[string, RegExp, string | Uint8Array, number, bigint?]>([
    ['a header beyond the file', /truncated: header ends at byte 108, file has 10 bytes/, '{}', 0, 100n],
    ['a header above the limit', /header of 100000001 bytes/, '{}', 0, 100_000_001n],
    ['the largest length', /header of 18446744073709551615 bytes/, '{}', 0, 2n ** 64n - 1n],
    ['an empty header', /does not begin with '\{'/, '', 0],
    ['leading space', /does not begin with '\{'/, ' {}', 0],
    ['an array', /does not begin with '\{'/, '[]', 0],
    ['broken JSON', /not JSON/, '{"a":', 0],
    ['text after the JSON', /not JSON/, '{}x', 0],
    ['bytes that are not UTF-8', /not UTF-8/, Uint8Array.of(0x7b, 0xff, 0x7d), 0],
    ['data without tensors', /4 bytes after the last tensor/, '{}', 4],
    [
      'a name twice',
      /"a\\"b" occurs twice/,
      '{"a\\"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a\\u0022b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
      1,
    ],
    ['a field twice', /"shape" occurs twice/, '{"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}}', 1],
    ['metadata that is a list', /__metadata__ is \[\], expected an object/, '{"__metadata__":[]}', 0],
    ['metadata that is not text', /__metadata__.n is 1, expected a string/, '{"__metadata__":{"n":1}}', 0],
    ['deep nesting', /tensor "a" is an array of 1/, `{"a":${'['.repeat(1e5)}${']'.repeat(1e5)}}`, 0],
  ])('refuses %s', async (_, problem, header, dataBytes, headerLength) => {
    writeRaw(header, dataBytes, headerLength)
    await expectDamaged(problem)
  })

  it.each<[string, RegExp, unknown]>([
    ['no object', /"w" is null/, null],
    ['an unknown dtype', /"w" has dtype "F5"/, tensor('F5', [2], [0, 8])],
    ['a dtype named like a method', /"w" has dtype "toString"/, tensor('toString', [2], [0, 8])],
    ['no dtype', /"w" has dtype nothing/, tensor(undefined, [2], [0, 8])],
    ['a negative size', /"w" has shape \[-2\]/, tensor('F32', [-2], [0, 8])],
    ['a fractional size', /"w" has shape \[0.5, 4\]/, tensor('F32', [0.5, 4], [0, 8])],
    ['text as size', /"w" has shape an array of 1/, tensor('F32', ['2'], [0, 8])],
    ['no shape', /"w" has shape nothing/, tensor('F32', undefined, [0, 8])],
    ['a product that overflows', /possible tensor/, tensor('F32', [2 ** 31, 2 ** 31, 4], [0, 8])],
    ['a product that overflows to 0 in 64 bits', /possible tensor/, tensor('U8', [2 ** 32, 2 ** 32], [0, 8])],
    ['too few bytes', /"w" has 8 bytes, expected 12 for F32 \[3\]/, tensor('F32', [3], [0, 8])],
    ['too many bytes', /"w" has 8 bytes, expected 4 for F32 \[1\]/, tensor('F32', [1], [0, 8])],
    ['offsets backwards', /data_offsets \[8, 0\]/, tensor('F32', [2], [8, 0])],
    ['negative offsets', /data_offsets \[-8, 0\]/, tensor('F32', [2], [-8, 0])],
    ['fractional offsets', /data_offsets \[0.5, 8.5\]/, tensor('F32', [2], [0.5, 8.5])],
    ['unsafe offsets', /data_offsets \[0, 9007199254740992\]/, tensor('F32', [2], [0, 2 ** 53])],
    ['three offsets', /data_offsets \[0, 8, 8\]/, tensor('F32', [2], [0, 8, 8])],
    ['no offsets', /data_offsets nothing/, tensor('F32', [2], undefined)],
    ['an end beyond the file', /truncated: tensor "w" ends at byte \d+, file has/, tensor('F32', [3], [0, 12])],
    ['a hole before', /"w" leaves a hole before it/, tensor('F32', [1], [4, 8])],
    ['bytes behind', /4 bytes after the last tensor/, tensor('F32', [1], [0, 4])],
  ])('refuses a tensor with %s', async (_, problem, value) => {
    writeRaw(JSON.stringify({ w: value }), 8)
    await expectDamaged(problem)
  })

  it('refuses tensors that overlap or leave a hole between them', async () => {
    const a = tensor('U8', [4], [0, 4])
    writeRaw(JSON.stringify({ a, b: tensor('U8', [4], [3, 7]) }), 7)
    await expectDamaged(/"b" overlaps the tensor before it/)
    writeRaw(JSON.stringify({ a, b: a }), 4)
    await expectDamaged(/"b" overlaps/)
    writeRaw(JSON.stringify({ a, b: tensor('U8', [4], [5, 9]) }), 9)
    await expectDamaged(/"b" leaves a hole/)
  })
})

describe('writeSafetensors', () => {
  const tensors: SafetensorsTensor[] = [
    { name: 'half', dtype: 'BF16', shape: [3], data: Uint8Array.of(0x80, 0x3f, 0, 0x40, 0x40, 0xc0) },
    { name: 'grüße "x"', dtype: 'I32', shape: [1, 2], data: async () => new Uint8Array(Int32Array.of(7, -8).buffer) },
    { name: '__proto__', dtype: 'F16', shape: [], data: () => Uint8Array.of(0, 0x3c) },
    { name: 'none', dtype: 'F32', shape: [2, 0], data: new Uint8Array(0) },
  ]

  it('writes what both readers read back', async () => {
    await writeSafetensors(path, tensors)
    const header = await readSafetensorsHeader(path)
    expect([...header.metadata]).toEqual([['format', 'pt']])
    expect(header.dataOffset % 8).toBe(0)
    expect([...header.tensors.keys()]).toEqual(['grüße "x"', 'none', 'half', '__proto__'])
    const loaded = loadTensors(path)
    expect(loaded.get('half')).toEqual({ shape: [3], data: Float32Array.of(1, 2, -3) })
    expect(loaded.get('grüße "x"')).toEqual({ shape: [1, 2], data: Int32Array.of(7, -8) })
    expect(loaded.get('__proto__')).toEqual({ shape: [], data: Float32Array.of(1) })
    expect(loaded.get('none')).toEqual({ shape: [2, 0], data: new Float32Array(0) })
    expect(readdirSync(root)).toEqual(['model.safetensors'])
  })

  it('writes these exact bytes, every time', async () => {
    const one: SafetensorsTensor = { name: 'w', dtype: 'U8', shape: [2], data: Uint8Array.of(5, 6) }
    await writeSafetensors(path, [one], { format: 'pt' })
    const json = '{"__metadata__":{"format":"pt"},"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}'
    const padded = json.padEnd(Math.ceil(json.length / 8) * 8)
    const expected = Uint8Array.from([padded.length, 0, 0, 0, 0, 0, 0, 0, ...Buffer.from(padded), 5, 6])
    expect(compareUint8Arrays(readFileSync(path), expected)).toBe(true)
    async function* later() {
      yield one
    }
    await writeSafetensors(path, later(), { format: 'pt' })
    expect(compareUint8Arrays(readFileSync(path), expected)).toBe(true)
  })

  it('asks for one tensor at a time', async () => {
    let alive = 0
    let most = 0
    const lazy = Array.from({ length: 5 }, (_, i): SafetensorsTensor => {
      const data = async () => {
        most = Math.max(most, ++alive)
        await new Promise((resolve) => setTimeout(resolve, 1))
        alive--
        return new Uint8Array(1)
      }
      return { name: `t${i}`, dtype: 'U8', shape: [1], data }
    })
    await writeSafetensors(path, lazy)
    expect(most).toBe(1)
  })

  it.each<[string, Partial<SafetensorsTensor>, string, RegExp]>([
    ['data too short', { data: new Uint8Array(3) }, 'ERR_ALMA_CHECKPOINT', /"w" has 3 bytes, expected 4 for F32 \[1\]/],
    ['data too long', { data: async () => new Uint8Array(5) }, 'ERR_ALMA_CHECKPOINT', /"w" has 5 bytes/],
    ['a taken name', { name: 'first' }, 'ERR_ALMA_CHECKPOINT', /"first" cannot be written/],
    ['the reserved name', { name: '__metadata__' }, 'ERR_ALMA_CHECKPOINT', /"__metadata__" cannot be written/],
    ['an impossible shape', { shape: [-1] }, 'ERR_ALMA_SHAPE', /\[-1\]/],
    ['data that fails', { data: () => Promise.reject(new Error('device lost')) }, '', /device lost/],
  ])('keeps the old file on %s', async (_, change, code, problem) => {
    const first: SafetensorsTensor = { name: 'first', dtype: 'U8', shape: [1], data: new Uint8Array(1) }
    await writeSafetensors(path, [first])
    const before = readFileSync(path)
    const second: SafetensorsTensor = { name: 'w', dtype: 'F32', shape: [1], data: new Uint8Array(4), ...change }
    const failure = await writeSafetensors(path, [first, second]).catch((error: unknown) => error)
    if (code !== '') expect(failure).toMatchObject({ code })
    expect(String(failure)).toMatch(problem)
    expect(compareUint8Arrays(readFileSync(path), before)).toBe(true)
    expect(readdirSync(root)).toEqual(['model.safetensors'])
  })
})

describe('tensorByteLength', () => {
  it('multiplies', () => {
    expect(tensorByteLength([2, 3], 'BF16')).toBe(12)
    expect(tensorByteLength([], 'F64')).toBe(8)
    expect(tensorByteLength([2 ** 40, 2 ** 40, 0], 'F32')).toBe(0)
    expect(() => tensorByteLength([2 ** 52], 'F32')).toThrow(expect.objectContaining({ code: 'ERR_ALMA_SHAPE' }))
  })
})

const cases = fixtureCases('model').flatMap(({ name, folder }) =>
  readdirSync(folder)
    .filter((file) => file.endsWith('.safetensors'))
    .map((file) => ({ name: `${name}/${file}`, file: join(folder, file) })),
)

describe.skipIf(cases.length === 0)('safetensors fixtures', () => {
  let copies: string
  beforeAll(() => {
    copies = mkdtempSync(join(tmpdir(), 'alma-safetensors-copy-'))
  })
  afterAll(() => rmSync(copies, { recursive: true, force: true }))

  it.each(cases)('$name: header agrees with the test reader, rewritten file has the same tensors', async ({ file }) => {
    const header = await readSafetensorsHeader(file)
    const loaded = loadTensors(file)
    expect([...header.tensors.keys()].sort()).toEqual([...loaded.keys()].sort())
    const bytes = readFileSync(file)
    const copy = join(copies, 'copy.safetensors')
    const tensors = [...header.tensors].map(([name, { dtype, shape, byteOffset, byteLength }]) => {
      return { name, dtype, shape, data: bytes.subarray(byteOffset, byteOffset + byteLength) }
    })
    await writeSafetensors(copy, tensors, Object.fromEntries(header.metadata))
    const reread = loadTensors(copy)
    expect([...reread.keys()].sort()).toEqual([...loaded.keys()].sort())
    for (const [name, { shape, data }] of loaded) {
      expect(reread.get(name)?.shape).toEqual(shape)
      // NaN or not: the same bits.
      const again = reread.get(name)?.data.buffer ?? new ArrayBuffer(0)
      expect(compareUint8Arrays(new Uint8Array(data.buffer), new Uint8Array(again))).toBe(true)
    }
  })

  it.each(cases)('$name: one byte less or more is noticed', async ({ file }) => {
    const copy = join(copies, 'cut.safetensors')
    writeFileSync(copy, readFileSync(file))
    truncateSync(copy, statSync(file).size - 1)
    await expect(readSafetensorsHeader(copy)).rejects.toMatchObject({ code: 'ERR_ALMA_CHECKPOINT' })
    truncateSync(copy, statSync(file).size + 1)
    await expect(readSafetensorsHeader(copy)).rejects.toMatchObject({ code: 'ERR_ALMA_CHECKPOINT' })
  })
})
