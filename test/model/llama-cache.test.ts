/** Decoding through the key/value cache gives what a pass over the whole sequence gives. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  createLlama,
  KeyValueCache,
  type LlamaForCausalLM,
  normalizeConfig,
  PackedSequences,
} from '../../lib/model/index.js'
import { type Device, Tensor } from '../../lib/runtime/index.js'
import { expectClose, expectError } from '../support/compare.js'
import { openDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'

const config = normalizeConfig({
  vocabSize: 50,
  hiddenSize: 32,
  intermediateSize: 48,
  numHiddenLayers: 3,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
  initializerRange: 0.2,
  maxPositionEmbeddings: 1024,
})

let device: Device
let model: LlamaForCausalLM
beforeAll(() => {
  device = openDevice()
  model = createLlama(device, config, { seed: 8, dtype: 'f32' })
})
afterAll(async () => {
  model.dispose()
  await device.dispose()
})

const random = new TestRandom(1)
const sequences = [12, 7, 9].map((length) => [...random.integers(length, config.vocabSize)])
const tolerance = { relativeL2: 1e-5, maxAbs: 1e-4 }

/** Logits of the tokens from `starts[i]` up to `ends[i]` of each sequence, in the slots given. */
async function pass(
  cache: KeyValueCache,
  slots: readonly number[],
  starts: readonly number[],
  ends: readonly number[],
): Promise<Float32Array> {
  const parts = sequences.map((ids, i) => ids.slice(starts[i], ends[i]))
  using packed = new PackedSequences(device, parts, starts)
  const slotOf = (i: number): number => slots[i] ?? 0
  const rows = parts.flatMap((part, i) => part.map((_, t) => cache.row(slotOf(i), (starts[i] ?? 0) + t)))
  const ints = (values: readonly number[]): Tensor => Tensor.from(device, Int32Array.from(values))
  using cacheRows = ints(rows)
  using kBegin = ints(parts.map((_, i) => cache.row(slotOf(i), 0)))
  using kEnd = ints(parts.map((part, i) => cache.row(slotOf(i), (starts[i] ?? 0) + part.length)))
  const { ids, positions, longest } = packed
  const bounds = { cuSeqlensQ: packed.bounds.cuSeqlensQ, kBegin, kEnd }
  using logits = model.forward({ ids, positions, bounds, longest }, { cache: { store: cache, rows: cacheRows } })
  return logits.readFloats()
}

describe('the key/value cache', () => {
  it.each([
    ['slots in order', [0, 1, 2]],
    ['slots in another order, with a gap', [3, 0, 2]],
  ])('prefill of five tokens, then one by one: %s', async (_name, slots) => {
    const whole = await model.logits(sequences)
    using cache = new KeyValueCache(device, config, 4, 16, 'f32')
    const vocab = config.vocabSize
    const check = (logits: Float32Array, starts: readonly number[], ends: readonly number[]): void => {
      let row = 0
      sequences.forEach((_, i) => {
        const [start = 0, end = 0] = [starts[i], ends[i]]
        const got = logits.subarray(row * vocab, (row + end - start) * vocab)
        expectClose(
          `tokens ${start} to ${end} of sequence ${i}`,
          got,
          whole[i]?.subarray(start * vocab, end * vocab) ?? [],
          tolerance,
        )
        row += end - start
      })
    }
    const lengths = sequences.map((ids) => ids.length)
    let starts = sequences.map(() => 0)
    let ends = sequences.map(() => 5)
    while (starts.some((start, i) => start < (lengths[i] ?? 0))) {
      check(await pass(cache, slots, starts, ends), starts, ends)
      starts = ends
      // Sequences that have ended stay in the pass with no token of their own.
      ends = ends.map((end, i) => Math.min(end + 1, lengths[i] ?? 0))
    }
  })

  it('in uneven pieces', async () => {
    const whole = await model.logits(sequences)
    using cache = new KeyValueCache(device, config, 3, 12, 'f32')
    await pass(cache, [0, 1, 2], [0, 0, 0], [3, 6, 1])
    const rest = await pass(cache, [0, 1, 2], [3, 6, 1], [12, 7, 9])
    const expected = whole.flatMap((logits, i) => [...logits.subarray(([3, 6, 1][i] ?? 0) * config.vocabSize)])
    expectClose('logits', rest, expected, tolerance)
  })

  it('beyond the first rotary table, which holds 512 positions', async () => {
    const ids = [...new TestRandom(4).integers(600, config.vocabSize)]
    const [whole = new Float32Array()] = await model.logits([ids])
    expect(whole.length).toBe(600 * config.vocabSize)
    const [prefix = new Float32Array()] = await model.logits([ids.slice(0, 520)])
    expectClose('prefix', prefix, whole.subarray(0, prefix.length), tolerance)
  })

  it('gives the wanted rows alone', async () => {
    using packed = new PackedSequences(device, sequences)
    using logitRows = Tensor.from(device, Int32Array.of(27, 0, 11))
    using some = model.forward(packed, { logitRows })
    const all = (await model.logits(sequences)).flatMap((logits) => [...logits])
    const vocab = config.vocabSize
    const expected = [27, 0, 11].flatMap((row) => all.slice(row * vocab, (row + 1) * vocab))
    expect(some.shape).toEqual([3, vocab])
    expectClose('logits', await some.read(), expected, tolerance)
  })

  it('is no longer than the model’s context, and takes the bytes it says', async () => {
    const make = (): KeyValueCache => new KeyValueCache(device, config, 1, 1025, 'f32')
    await expectError(make, 'ERR_ALMA_CONTEXT', /1025 tokens .* max_position_embeddings 1024/)
    // Memory that is kept for reuse may be handed out in larger pieces than asked for.
    device.releaseCachedMemory()
    await device.synchronize()
    const before = device.memory().allocated
    using cache = new KeyValueCache(device, config, 2, 128, 'f32')
    expect(device.memory().allocated - before).toBe(KeyValueCache.bytes(config, 256, 'f32'))
    expect(cache.row(1, 5)).toBe(133)
  })
})
