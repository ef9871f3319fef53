/** Keys and values in blocks, and results that do not depend on the other rows of a call. */
import { describe, expect, it } from 'vitest'
import { type Device, type DType, ops, Tensor } from '../../lib/runtime/index.js'
import { expectClose, expectError } from '../support/compare.js'
import { deviceName, onEachDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'

interface Problem {
  readonly qLengths: readonly number[]
  readonly kLengths: readonly number[]
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly blockSize: number
  readonly dtype: DType
}

function sums(lengths: readonly number[]): number[] {
  const result = [0]
  for (const length of lengths) result.push((result.at(-1) ?? 0) + length)
  return result
}

/** Queries, and keys and values once in a row and once in shuffled blocks of a pool that has spare ones. */
function build(device: Device, problem: Problem) {
  const { qLengths, kLengths, heads, kvHeads, headDim, blockSize, dtype } = problem
  const random = new TestRandom(7)
  const width = kvHeads * headDim
  const starts = sums(kLengths)
  const total = starts.at(-1) ?? 0
  const [k, v] = [random.normals(total * width), random.normals(total * width)]
  const blocksPerSequence = Math.max(1, ...kLengths.map((length) => Math.ceil(length / blockSize))) + 1
  const blocks = kLengths.length * blocksPerSequence + 3
  const order = [...Array(blocks).keys()].sort((a, b) => ((a * 7919) % 101) - ((b * 7919) % 101) || a - b)
  const table = new Int32Array(kLengths.length * blocksPerSequence).fill(-1)
  // What no sequence owns is NaN: reading it would show.
  const [pooledK, pooledV] = [0, 0].map(() => new Float32Array(blocks * blockSize * width).fill(Number.NaN))
  for (const [i, length] of kLengths.entries()) {
    for (let row = 0; row < length; row++) {
      const slot = i * blocksPerSequence + Math.floor(row / blockSize)
      if (row % blockSize === 0) table[slot] = order.pop() ?? -1
      const to = ((table[slot] ?? 0) * blockSize + (row % blockSize)) * width
      const from = ((starts[i] ?? 0) + row) * width
      pooledK?.set(k.subarray(from, from + width), to)
      pooledV?.set(v.subarray(from, from + width), to)
    }
  }
  const ints = (values: ArrayLike<number>, shape?: readonly number[]): Tensor =>
    Tensor.from(device, Int32Array.from(values), shape)
  const floats = (values: Float32Array, count: number): Tensor =>
    Tensor.from(device, values, [values.length / count / headDim, count, headDim], dtype)
  const q = floats(random.normals((sums(qLengths).at(-1) ?? 0) * heads * headDim), heads)
  const cuSeqlensQ = ints(sums(qLengths))
  return {
    q,
    k: floats(k, kvHeads),
    v: floats(v, kvHeads),
    bounds: { cuSeqlensQ, cuSeqlensK: ints(starts) },
    pooledK: floats(pooledK ?? new Float32Array(), kvHeads),
    pooledV: floats(pooledV ?? new Float32Array(), kvHeads),
    pagedBounds: {
      cuSeqlensQ,
      kBegin: Tensor.zeros(device, [kLengths.length], 'i32'),
      kEnd: ints(kLengths),
      blocks: { table: ints(table, [kLengths.length, blocksPerSequence]), size: blockSize },
    },
  }
}

const orders = ['none', 'manyRows', 'fewRows'] as const

onEachDevice((device) => {
  describe('attention over blocks', () => {
    it.each<[string, Problem]>([
      [
        'decoding',
        { qLengths: [1, 1, 1], kLengths: [1, 70, 33], heads: 4, kvHeads: 2, headDim: 24, blockSize: 16, dtype: 'f32' },
      ],
      [
        'prompts, and an empty sequence',
        {
          qLengths: [40, 0, 5],
          kLengths: [40, 0, 130],
          heads: 2,
          kvHeads: 1,
          headDim: 16,
          blockSize: 16,
          dtype: 'f32',
        },
      ],
      [
        'blocks of an odd size, queries without keys',
        { qLengths: [6, 3], kLengths: [2, 100], heads: 2, kvHeads: 2, headDim: 20, blockSize: 5, dtype: 'f32' },
      ],
      [
        'bf16, eight query heads to a key head',
        { qLengths: [9, 1], kLengths: [200, 40], heads: 8, kvHeads: 1, headDim: 64, blockSize: 16, dtype: 'bf16' },
      ],
    ])('has the bits of keys that lie in a row: %s', async (_name, problem) => {
      const { q, k, v, bounds, pooledK, pooledV, pagedBounds } = build(device(), problem)
      for (const invariance of orders) {
        const logSumExps = [0, 1].map(() => Tensor.empty(device(), [q.shape[0] ?? 0, problem.heads], 'f32'))
        const [inRow, inBlocks] = logSumExps
        const expected = ops.attention(q, k, v, bounds, { invariance, ...(inRow && { logSumExp: inRow }) })
        const got = ops.attention(q, pooledK, pooledV, pagedBounds, {
          invariance,
          ...(inBlocks && { logSumExp: inBlocks }),
        })
        if (invariance === 'none' && deviceName !== 'cpu') {
          // Without a promise a GPU may have another kernel for keys that lie in a row.
          expectClose('out', await got.readFloats(), await expected.readFloats(), { relativeL2: 1e-2 })
          continue
        }
        expect(await got.readBytes()).toEqual(await expected.readBytes())
        expect(await inBlocks?.readBytes()).toEqual(await inRow?.readBytes())
      }
    })

    it.each([
      ['a block beyond the pool', [0, 5], [20]],
      ['a block that is missing', [0, -1], [20]],
      ['more keys than the table has', [0, 1], [33]],
    ])('%s: an error at the next read, and the device goes on', async (_name, table, kEnd) => {
      const ints = (values: number[]): Tensor => Tensor.from(device(), Int32Array.from(values))
      const q = Tensor.zeros(device(), [1, 1, 8], 'f32')
      const pool = Tensor.zeros(device(), [5 * 16, 1, 8], 'f32')
      const bounds = (entries: number[]): ops.SequenceBounds => ({
        cuSeqlensQ: ints([0, 1]),
        kBegin: ints([0]),
        kEnd: ints(kEnd),
        blocks: { table: Tensor.from(device(), Int32Array.from(entries), [1, entries.length]), size: 16 },
      })
      await expectError(() => ops.attention(q, pool, pool, bounds(table)).read(), 'ERR_ALMA_DEVICE', /attention: /)
      expect((await ops.attention(q, pool, pool, bounds([0, 1, 2])).readFloats()).every((x) => x === 0)).toBe(true)
    })

    it('has no backward pass, and needs the bounds of the keys', async () => {
      const q = Tensor.zeros(device(), [1, 1, 8], 'f32')
      const table = Tensor.zeros(device(), [1, 1], 'i32')
      const cuSeqlensQ = Tensor.from(device(), Int32Array.of(0, 1))
      const bounds = { cuSeqlensQ, blocks: { table, size: 16 } }
      await expectError(() => ops.attention(q, q, q, bounds), 'ERR_ALMA_SHAPE', /blocks need kBegin and kEnd/)
      const saved = { q, k: q, v: q, out: q, logSumExp: Tensor.zeros(device(), [1, 1], 'f32') }
      await expectError(
        () => ops.attentionBackward(q, saved, bounds),
        'ERR_ALMA_SHAPE',
        /not defined for keys in blocks/,
      )
    })
  })

  describe('with invariance', () => {
    it.each(['manyRows', 'fewRows'] as const)('attention of a token is that of the token alone: %s', async (order) => {
      for (const [heads, kvHeads, headDim] of [
        [4, 2, 24],
        [8, 1, 64],
      ] as const) {
        const lengths = [150, 1, 37]
        const shape = { heads, kvHeads, headDim, blockSize: 16, dtype: 'f32' as const }
        const { q, pooledK, pooledV, pagedBounds } = build(device(), { qLengths: lengths, kLengths: lengths, ...shape })
        const all = await ops.attention(q, pooledK, pooledV, pagedBounds, { invariance: order }).readFloats()
        const width = heads * headDim
        for (const token of [0, 1, 70, 149]) {
          // The last `count` tokens up to this one, as a chunk of a prompt or as a decoding step.
          for (const count of [1, 2, 9].filter((n) => n <= token + 1)) {
            const ints = (...values: number[]): Tensor => Tensor.from(device(), Int32Array.from(values))
            const bounds = {
              cuSeqlensQ: ints(0, count),
              kBegin: ints(0),
              kEnd: ints(token + 1),
              blocks: pagedBounds.blocks,
            }
            using part = q.rows(token + 1 - count, token + 1)
            using out = ops.attention(part, pooledK, pooledV, bounds, { invariance: order })
            const got = await out.readFloats()
            const expected = all.subarray((token + 1 - count) * width, (token + 1) * width)
            expect([...got], `${count} tokens up to ${token}`).toEqual([...expected])
          }
        }
      }
    })

    it.each(['manyRows', 'fewRows'] as const)('a row of a product is that of the row alone: %s', async (invariance) => {
      for (const [dtypeA, dtypeB] of [
        ['f32', 'f32'],
        ['f32', 'bf16'],
        ['bf16', 'bf16'],
      ] as const) {
        for (const [n, k] of [
          [35, 50],
          [300, 530],
        ] as const) {
          const random = new TestRandom(n)
          const rows = 77
          const a = Tensor.from(device(), random.normals(rows * k), [rows, k], dtypeA)
          const b = Tensor.from(device(), random.normals(n * k), [n, k], dtypeB)
          const product = async (begin: number, end: number): Promise<Float32Array> => {
            using part = a.rows(begin, end)
            using c = ops.matmul(part, b, { layout: 'nt', invariance })
            return c.readFloats()
          }
          const all = await product(0, rows)
          for (const m of [1, 2, 3, 4, 5, 8, 9, 16, 31, 32, 33, 40]) {
            const begin = (m * 13) % (rows - m)
            const got = await product(begin, begin + m)
            expect([...got], `${m} rows from ${begin}`).toEqual([...all.subarray(begin * n, (begin + m) * n)])
          }
        }
      }
    })

    it('a product is right for any number of rows, and refused where it is not defined', async () => {
      const a = Tensor.from(device(), new TestRandom(1).normals(70 * 40), [70, 40])
      const b = Tensor.from(device(), new TestRandom(2).normals(30 * 40), [30, 40])
      const plain = await ops.matmul(a, b, { layout: 'nt' }).readFloats()
      for (const invariance of ['manyRows', 'fewRows'] as const) {
        const got = await ops.matmul(a, b, { layout: 'nt', invariance }).readFloats()
        expect(Math.max(...got.map((x, i) => Math.abs(x - (plain[i] ?? 0))))).toBeLessThan(1e-5)
        await expectError(
          () =>
            ops.matmul(a, b, {
              layout: 'nt',
              invariance,
              accumulate: true,
              out: Tensor.zeros(device(), [70, 30], 'f32'),
            }),
          'ERR_ALMA_SHAPE',
          /Matmul: invariance is for 'nt'/,
        )
      }
    })
  })
})
