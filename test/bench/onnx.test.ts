/** The ONNX files that the benchmark writes for onnxruntime, read back by a reader of the test's own. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { saveOnnx } from '../../bench/peers/onnx/llama.js'
import { encodeModel } from '../../bench/peers/onnx/model.js'
import { Message } from '../../bench/peers/onnx/protobuf.js'
import { placeWeights, writeWeights } from '../../bench/peers/onnx/weights-file.js'
import { createLlama, type LlamaForCausalLM, normalizeConfig } from '../../lib/model/index.js'
import type { Device } from '../../lib/runtime/index.js'
import { openDevice } from '../support/devices.js'

/** Fields of a message: number to values, which are what their wire type says. */
class Fields {
  readonly #values = new Map<number, (bigint | number | Uint8Array)[]>()

  constructor(bytes: Uint8Array) {
    const view = Buffer.from(bytes)
    let at = 0
    const varint = (): bigint => {
      let value = 0n
      for (let shift = 0n; ; shift += 7n) {
        const byte = view.readUInt8(at++)
        value |= BigInt(byte & 0x7f) << shift
        if (byte < 0x80) return value
      }
    }
    const read = (wireType: number): bigint | number | Uint8Array => {
      if (wireType === 0) return varint()
      const length = wireType === 5 ? 4 : Number(varint())
      at += length
      return wireType === 5 ? view.readFloatLE(at - 4) : view.subarray(at - length, at)
    }
    while (at < view.length) {
      const tag = Number(varint())
      this.#values.set(tag >> 3, [...(this.#values.get(tag >> 3) ?? []), read(tag & 7)])
    }
  }

  numbers(field: number): number[] {
    return (this.#values.get(field) ?? []).map((value) => Number(BigInt.asIntN(64, BigInt(value as bigint))))
  }

  floats(field: number): number[] {
    return (this.#values.get(field) ?? []) as number[]
  }

  texts(field: number): string[] {
    return (this.#values.get(field) ?? []).map((value) => Buffer.from(value as Uint8Array).toString())
  }

  messages(field: number): Fields[] {
    return (this.#values.get(field) ?? []).map((value) => new Fields(value as Uint8Array))
  }

  message(field: number): Fields {
    const [first] = this.messages(field)
    if (first === undefined) throw new Error(`no field ${field}`)
    return first
  }
}

const described = (value: Fields) => {
  const tensor = value.message(2).message(1)
  const extents = tensor.messages(2).flatMap((shape) => shape.messages(1))
  const shape = extents.map((extent) => extent.texts(2)[0] ?? extent.numbers(1)[0])
  return { name: value.texts(1)[0], type: tensor.numbers(1)[0], shape }
}

const externalOf = (tensor: Fields) =>
  Object.fromEntries(tensor.messages(13).map((entry) => [entry.texts(1)[0], entry.texts(2)[0]]))

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

describe('protocol buffers', () => {
  it('have the bytes of the specification', () => {
    // The first three are the examples of protobuf.dev, "Encoding".
    expect(hex(new Message().varint(1, 150).finish())).toBe('089601')
    expect(hex(new Message().string(2, 'testing').finish())).toBe('120774657374696e67')
    expect(hex(new Message().message(3, new Message().varint(1, 150)).finish())).toBe('1a03089601')
    expect(hex(new Message().varint(1, -2).finish())).toBe('08feffffffffffffffff01')
    expect(hex(new Message().varint(1, 2n ** 63n - 1n).finish())).toBe('08ffffffffffffffff7f')
    expect(hex(new Message().varint(20, 0).finish())).toBe('a00100')
    expect(hex(new Message().float(2, 1.5).finish())).toBe('150000c03f')
    expect(new Message().finish()).toHaveLength(0)
  })

  it('make an ONNX model, to the byte', () => {
    const bytes = encodeModel({
      name: 'g',
      nodes: [{ op: 'Neg', inputs: ['x'], outputs: ['y'] }],
      inputs: [{ name: 'x', type: 'int64', shape: ['n', 2] }],
      outputs: [],
      initializers: [],
      operatorSets: { '': 17 },
    })
    const node = '0a0178 120179 1a05792f4e6567 22034e6567'
    const extents = '0a03 12016e 0a02 0802'
    const input = `0a0178 120f 0a0d 0807 1209 ${extents}`
    const producer = '1211 616c6d612d6e61746976652062656e6368'
    const graph = `0a12 ${node} 120167 5a14 ${input}`
    expect(hex(bytes)).toBe(`0808 ${producer} 3a2d ${graph} 4204 0a00 1011`.replaceAll(' ', ''))
  })
})

describe('weights beside the graph', () => {
  it('begin at places that every system can map, beyond 4 GB too', () => {
    const data = async (): Promise<Float32Array> => new Float32Array()
    const shapes = [[3], [32_000, 65_536], [2, 2]]
    const placed = placeWeights(
      shapes.map((shape, i) => ({ name: `w${i}`, shape, data })),
      'file',
    )
    expect(placed.map((weight) => weight.data)).toEqual([
      { location: 'file', offset: 0, length: 12 },
      { location: 'file', offset: 65_536, length: 8_388_608_000 },
      { location: 'file', offset: 65_536 + 8_388_608_000, length: 16 },
    ])
  })

  it('that do not fill their place are an error', async () => {
    const weights = [{ name: 'short', shape: [2, 3], data: async () => new Float32Array(5) }]
    const written = writeWeights(join(folder, 'short'), weights, placeWeights(weights, 'short'))
    await expect(written).rejects.toThrow('short: 5 numbers do not fill [2, 3]')
  })
})

let device: Device
let folder: string
beforeAll(async () => {
  device = openDevice()
  folder = await mkdtemp(join(tmpdir(), 'alma-onnx-'))
})
afterAll(async () => {
  await device.dispose()
  await rm(folder, { recursive: true, force: true })
})

const config = normalizeConfig({
  vocabSize: 96,
  hiddenSize: 24,
  intermediateSize: 40,
  numHiddenLayers: 2,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
  headDim: 16,
  maxPositionEmbeddings: 32,
  rmsNormEps: 2 ** -10,
})

async function saved(model: LlamaForCausalLM) {
  await saveOnnx(model, folder)
  const [graph, data] = await Promise.all(
    ['model.onnx', 'model.onnx_data'].map((name) => readFile(join(folder, 'onnx', name))),
  )
  if (graph === undefined || data === undefined) throw new Error('two files')
  const fields = new Fields(graph)
  const weights = new Map(
    fields
      .message(7)
      .messages(5)
      .map((tensor) => [tensor.texts(8)[0] ?? '', tensor]),
  )
  const values = (name: string): Float32Array => {
    const tensor = weights.get(name)
    const { offset, length, location } = externalOf(tensor ?? new Fields(new Uint8Array()))
    expect(location).toBe('model.onnx_data')
    expect(tensor?.numbers(14)).toEqual([1])
    const begin = Number(offset)
    return new Float32Array(Uint8Array.from(data.subarray(begin, begin + Number(length))).buffer)
  }
  const shape = (name: string): number[] => weights.get(name)?.numbers(1) ?? []
  return { fields, graph: fields.message(7), values, shape, bytes: data.length }
}

const transposed = (rows: number, columns: number, values: Float32Array): Float32Array =>
  Float32Array.from(values, (_, i) => values[(i % rows) * columns + Math.floor(i / rows)] ?? Number.NaN)

describe('saveOnnx', () => {
  it('names inputs and outputs as transformers.js wants them', async () => {
    using model = disposable(createLlama(device, config, { dtype: 'f32' }))
    const { fields, graph } = await saved(model.model)
    const caches = (prefix: string, length: string) =>
      [0, 1].flatMap((layer) =>
        ['key', 'value'].map((name) => {
          return { name: `${prefix}.${layer}.${name}`, type: 1, shape: ['batch_size', 2, length, 16] }
        }),
      )
    expect(graph.messages(11).map(described)).toEqual([
      { name: 'input_ids', type: 7, shape: ['batch_size', 'sequence_length'] },
      { name: 'attention_mask', type: 7, shape: ['batch_size', 'total_sequence_length'] },
      { name: 'num_logits_to_keep', type: 7, shape: [] },
      ...caches('past_key_values', 'past_sequence_length'),
    ])
    expect(graph.messages(12).map(described)).toEqual([
      { name: 'logits', type: 1, shape: ['batch_size', 'num_logits_to_keep', 96] },
      ...caches('present', 'total_sequence_length'),
    ])
    expect(fields.messages(8).map((set) => [set.texts(1)[0], set.numbers(2)[0]])).toEqual([
      ['', 17],
      ['com.microsoft', 1],
    ])
    const json = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as Record<string, unknown>
    expect(json).toMatchObject({ model_type: 'llama', num_key_value_heads: 2, head_dim: 16 })
    expect(json).not.toHaveProperty('eos_token_id')
  })

  it('connects every operator, and gives the attention its heads', async () => {
    using model = disposable(createLlama(device, config, { dtype: 'f32' }))
    const { graph } = await saved(model.model)
    const nodes = graph.messages(1)
    const known = new Set(['', ...[...graph.messages(5).flatMap((weight) => weight.texts(8))]])
    for (const input of graph.messages(11)) known.add(input.texts(1)[0] ?? '')
    for (const node of nodes) {
      for (const input of node.texts(1)) expect(known, `${input} of ${node.texts(3)[0]}`).toContain(input)
      for (const output of node.texts(2).filter((name) => name !== '')) {
        expect(known, output).not.toContain(output)
        known.add(output)
      }
    }
    for (const output of graph.messages(12)) expect(known).toContain(output.texts(1)[0])
    const [attention, ...more] = nodes.filter((node) => node.texts(4)[0] === 'GroupQueryAttention')
    expect(more).toHaveLength(1)
    expect(attention?.texts(7)).toEqual(['com.microsoft'])
    const attributes = attention?.messages(5).map((one) => [one.texts(1)[0], one.floats(2)[0] ?? one.numbers(3)[0]])
    expect(Object.fromEntries(attributes ?? [])).toEqual({
      num_heads: 4,
      kv_num_heads: 2,
      scale: 0.25,
      do_rotary: 1,
      rotary_interleaved: 0,
    })
    const norms = nodes.filter((node) => node.texts(4)[0]?.endsWith('SimplifiedLayerNormalization'))
    expect(norms).toHaveLength(5)
    for (const norm of norms) {
      expect(
        norm
          .messages(5)
          .find((one) => one.texts(1)[0] === 'epsilon')
          ?.floats(2),
      ).toEqual([2 ** -10])
    }
  })

  it('writes matrices the other way round, and queries, keys and values side by side', async () => {
    using model = disposable(createLlama(device, config, { dtype: 'f32' }))
    const { values, shape } = await saved(model.model)
    const ours = new Map<string, Float32Array>()
    for (const [name, tensor] of model.model.namedParameters()) ours.set(name, await tensor.readFloats())
    const own = (name: string): Float32Array => ours.get(`model.layers.1.${name}.weight`) ?? new Float32Array()
    expect(values('embed_tokens.weight')).toEqual(ours.get('model.embed_tokens.weight'))
    expect(shape('layers.1.down_proj.weight')).toEqual([40, 24])
    expect(values('layers.1.down_proj.weight')).toEqual(transposed(24, 40, own('mlp.down_proj')))
    const projections = ['q', 'k', 'v'].map((part) => own(`self_attn.${part}_proj`))
    const together = Float32Array.from(projections.flatMap((part) => [...part]))
    expect(shape('layers.1.qkv_proj.weight')).toEqual([24, 128])
    expect(values('layers.1.qkv_proj.weight')).toEqual(transposed(128, 24, together))
    expect(shape('lm_head.weight')).toEqual([24, 96])
    expect(values('lm_head.weight')).toEqual(transposed(96, 24, ours.get('lm_head.weight') ?? new Float32Array()))
    expect(shape('sin_cache')).toEqual([32, 8])
    expect(values('sin_cache')[31 * 8]).toBe(Math.fround(Math.sin(31)))
    expect(values('cos_cache')[5 * 8 + 2]).toBe(Math.fround(Math.cos(5 * 10_000 ** -0.25)))
  })

  it('gives a tied output layer a matrix of its own', async () => {
    using model = disposable(createLlama(device, normalizeConfig({ ...config, tieWordEmbeddings: true }), {}))
    const { values } = await saved(model.model)
    expect(values('lm_head.weight')).toEqual(transposed(96, 24, values('embed_tokens.weight')))
  })
})

function disposable(model: LlamaForCausalLM): { readonly model: LlamaForCausalLM } & Disposable {
  return { model, [Symbol.dispose]: () => model.dispose() }
}
