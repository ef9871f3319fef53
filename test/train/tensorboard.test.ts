import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { crc32c } from '../../lib/files/crc32c.js'
import { TensorboardWriter } from '../../lib/train/tensorboard.js'
import { fileVersion, scalars, sessionStart } from '../../lib/train/tensorboard-events.js'
import { tinyAlma, tinyData } from './support.js'

/** Bit by bit, from the definition: nothing in common with the table under test. */
function bitwiseCrc(bytes: Uint8Array): number {
  let crc = 0xffffffff
  for (const byte of bytes) {
    for (let bit = 0; bit < 8; bit++) {
      const mixed = (crc ^ (byte >> bit)) & 1
      crc = mixed === 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
    }
  }
  return (crc ^ 0xffffffff) >>> 0
}

/** The data of a TFRecord file; throws where a length or CRC is wrong. */
function readRecords(file: Buffer): Buffer[] {
  const records: Buffer[] = []
  const masked = (bytes: Uint8Array): number => {
    const crc = BigInt(bitwiseCrc(bytes))
    return Number((((crc >> 15n) | (crc << 17n)) + 0xa282ead8n) & 0xffffffffn)
  }
  for (let at = 0; at < file.length; ) {
    const length = Number(file.readBigUInt64LE(at))
    expect(file.readUInt32LE(at + 8)).toBe(masked(file.subarray(at, at + 8)))
    const data = file.subarray(at + 12, at + 12 + length)
    expect(file.readUInt32LE(at + 12 + length)).toBe(masked(data))
    records.push(data)
    at += 16 + length
  }
  return records
}

type Field = readonly [field: number, value: number | Buffer]

/** The fields of a protobuf message by their wire types. */
function readMessage(message: Buffer): Field[] {
  const fields: Field[] = []
  let at = 0
  const varint = (): number => {
    let value = 0
    for (let shift = 1; ; shift *= 128) {
      const byte = message[at++] as number
      value += (byte & 127) * shift
      if (byte < 128) return value
    }
  }
  const take = (length: number): Buffer => {
    at += length
    return message.subarray(at - length, at)
  }
  while (at < message.length) {
    const key = varint()
    const [field, wireType] = [key >> 3, key & 7]
    if (wireType === 0) fields.push([field, varint()])
    else if (wireType === 1) fields.push([field, take(8).readDoubleLE()])
    else if (wireType === 5) fields.push([field, take(4).readFloatLE()])
    else {
      expect(wireType).toBe(2)
      fields.push([field, take(varint())])
    }
  }
  return fields
}

interface Event {
  readonly step: number
  readonly version?: string
  readonly sessionStatus?: number
  readonly values: Record<string, number>
}

function readEvents(file: Buffer): Event[] {
  return readRecords(file).map((data) => {
    const fields = new Map(readMessage(data))
    const bytes = (field: number): Buffer => (fields.get(field) ?? Buffer.alloc(0)) as Buffer
    expect(fields.get(1)).toBeGreaterThan(1.7e9)
    const values: Record<string, number> = {}
    for (const [, value] of readMessage(bytes(5))) {
      const [[, tag], [, number]] = readMessage(value as Buffer) as [Field, Field]
      values[String(tag)] = number as number
    }
    const [status] = readMessage(bytes(7))
    return {
      step: (fields.get(2) ?? 0) as number,
      values,
      ...(fields.has(3) && { version: String(fields.get(3)) }),
      ...(status !== undefined && { sessionStatus: status[1] as number }),
    }
  })
}

describe('event files', () => {
  test('the CRC is that of RFC 3720', () => {
    expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283)
    expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa)
    expect(crc32c(Buffer.alloc(32, 0xff))).toBe(0x62a8ab43)
    expect(crc32c(Buffer.alloc(0))).toBe(0)
  })

  test('a record is byte for byte what TensorFlow writes', () => {
    // From event.proto and record_writer.cc by hand: wall_time 1.5 (field 1, double), file_version (field 3).
    const data = Buffer.concat([
      Buffer.from([0x09]),
      Buffer.from([0, 0, 0, 0, 0, 0, 0xf8, 0x3f]),
      Buffer.from([0x1a, 13]),
      Buffer.from('brain.Event:2'),
    ])
    const bytes = fileVersion(1.5)
    expect(bytes.subarray(0, 8)).toEqual(Buffer.from([24, 0, 0, 0, 0, 0, 0, 0]))
    expect(bytes.subarray(12, 36)).toEqual(data)
    // As in files that TensorFlow wrote: 24 bytes, the length's masked CRC.
    expect(bytes.subarray(8, 12)).toEqual(Buffer.from([0xa3, 0x7f, 0x4b, 0x22]))
  })

  test('steps beyond 32 bits, no values, and values that are not finite', () => {
    const file = Buffer.concat([
      scalars(1.8e9, 2 ** 40 + 3, [{ tag: 'größe', value: Number.NaN }]),
      scalars(1.8e9, 0, []),
      sessionStart(1.8e9, 300),
    ])
    const [first, second, third] = readEvents(file)
    expect(first?.step).toBe(2 ** 40 + 3)
    expect(first?.values.größe).toBeNaN()
    expect(second?.values).toEqual({})
    expect(third).toMatchObject({ step: 300, sessionStatus: 1 })
  })
})

describe('of a run', () => {
  const folder = mkdtempSync(join(tmpdir(), 'alma-tensorboard-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  test('a folder for each stage has its steps and evaluations', async () => {
    const data = await tinyData()
    await using alma = await tinyAlma(data)
    const common = { batchSize: 8, maxSteps: 3, maxNewTokens: 8, pairs: [{ path: data.train, from: 'de', to: 'en' }] }
    const validation = [{ path: data.validation, from: 'de', to: 'en' }]
    const output = join(folder, 'run')
    const report = await alma.finetune(
      [
        { kind: 'parallel', ...common },
        { kind: 'parallel', ...common, validation, predictWithGenerate: true },
      ],
      { output, tensorboard: true },
    )
    const eventsOf = (stage: string): Event[] => {
      const files = readdirSync(join(output, 'tensorboard', stage))
      expect(files).toHaveLength(1)
      expect(files[0]).toMatch(/^events\.out\.tfevents\./)
      return readEvents(readFileSync(join(output, 'tensorboard', stage, files[0] ?? '')))
    }
    const [first, second] = [eventsOf('stage-1-parallel'), eventsOf('stage-2-parallel')]
    expect(first[0]).toMatchObject({ version: 'brain.Event:2' })
    const steps = first.filter(({ values }) => 'train/loss' in values)
    expect(steps.map(({ step }) => step)).toEqual([1, 2, 3])
    for (const [i, { values }] of steps.entries()) {
      const record = report.stages[0]?.losses[i]
      expect(values['train/loss']).toBe(Math.fround(record?.loss ?? 0))
      expect(values['train/learning_rate']).toBe(Math.fround(record?.learningRate ?? 0))
      expect(values['speed/tokens_per_second']).toBeGreaterThan(0)
    }
    const last = second.findLast(({ values }) => 'eval/loss' in values)
    const record = report.stages[1]?.validation.at(-1)
    expect(last?.step).toBe(3)
    expect(last?.values['eval/chrf_de-en']).toBe(Math.fround(record?.scores?.['de-en']?.chrf ?? -1))
    expect(last?.values['eval/loss_en-de']).toBe(Math.fround(record?.losses?.['en-de'] ?? -1))
    rmSync(data.folder, { recursive: true, force: true })
  })

  test('a folder that cannot be made is named when the run ends', async () => {
    const file = join(folder, 'file')
    writeFileSync(file, '')
    const writer = new TensorboardWriter(file)
    writer.append({ type: 'stage', stage: 0, kind: 'parallel', steps: 1, resumedAt: 0 })
    await expect(writer.close()).rejects.toMatchObject({
      code: 'ERR_ALMA_IO',
      message: expect.stringContaining(file),
    })
  })
})
