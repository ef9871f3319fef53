import { describe, expect, it } from 'vitest'
import { ops, Tensor } from '../../lib/runtime/index.js'
import { expectClose, expectError } from '../support/compare.js'
import { onEachDevice } from '../support/devices.js'
import { TestRandom } from '../support/random.js'

type Settings = ops.PreferenceLossSettings

const settings: Settings = { loss: 'cpo', beta: 0.1, labelSmoothing: 0, simpoGamma: 0.5, relax1: 0.9, relax2: 0.4 }

/** Lengths of the chosen responses, then of the rejected ones; one is empty. Two rows of nothing follow. */
const lengths = [3, 5, 0, 2, 4, 1]
const pairs = 3
const cuRows = [1]
for (const length of lengths) cuRows.push((cuRows.at(-1) ?? 0) + length)
const rows = (cuRows.at(-1) ?? 0) + 2

interface Losses {
  readonly logps: number[]
  readonly losses: number[]
  readonly total: number
}

const logSigmoid = (x: number): number => -Math.log1p(Math.exp(-x))

function reference(
  nll: ArrayLike<number>,
  { loss, beta, ...rest }: Settings,
  weights: readonly [number, number],
): Losses {
  const sums = lengths.map((_, s) => {
    let sum = 0
    for (let row = cuRows[s] ?? 0; row < (cuRows[s + 1] ?? 0); row++) sum -= nll[row] ?? 0
    return sum
  })
  const mean = (s: number): number => (sums[s] ?? 0) / Math.max(1, lengths[s] ?? 0)
  const logps = loss === 'ipo' || loss === 'simpo' ? sums.map((_, s) => mean(s)) : sums
  const logistic = (z: number): number =>
    -(1 - rest.labelSmoothing) * logSigmoid(beta * z) - rest.labelSmoothing * logSigmoid(-beta * z)
  const losses = Array.from({ length: pairs }, (_, p) => {
    const c = logps[p] ?? 0
    const r = logps[pairs + p] ?? 0
    if (loss === 'hinge') return Math.max(0, 1 - beta * (c - r))
    if (loss === 'ipo') return (c - r - 1 / (2 * beta)) ** 2
    if (loss === 'simpo') return logistic(c - r - rest.simpoGamma / beta)
    if (loss === 'cpo') return logistic(c - r)
    const distance = Math.abs(mean(p) - mean(pairs + p))
    return logistic(c - Math.min(rest.relax1 * Math.exp(rest.relax2 * distance) - 1, 1) * r)
  })
  const chosen = sums.slice(0, pairs).reduce((sum, x) => sum - x, 0)
  return { logps, losses, total: weights[0] * losses.reduce((sum, x) => sum + x, 0) + weights[1] * chosen }
}

const cases: Settings[] = [
  settings,
  { ...settings, beta: 0.7, labelSmoothing: 0.2 },
  { ...settings, loss: 'simpo', beta: 2 },
  { ...settings, loss: 'hinge', beta: 0.3 },
  { ...settings, loss: 'ipo' },
  { ...settings, loss: 'arpo' },
  { ...settings, loss: 'arpo', relax1: 1, relax2: 1.5 },
]

onEachDevice((device) => {
  describe('preferenceLoss', () => {
    const tensorsOf = (nll: Float32Array, weights: readonly number[]): ops.PreferenceLossTensors => ({
      nll: Tensor.from(device(), nll),
      cuRows: Tensor.from(device(), Int32Array.from(cuRows)),
      weights: Tensor.from(device(), weights),
      rowScale: Tensor.from(device(), new Float32Array(rows).fill(9)),
      logps: Tensor.zeros(device(), [2 * pairs], 'f32'),
      losses: Tensor.zeros(device(), [pairs], 'f32'),
      sums: Tensor.from(device(), [1, 1, 1, 1, 1]),
    })

    it.each(cases.map((settings) => [JSON.stringify(settings), settings] as const))('%s', async (_name, settings) => {
      const nll = new TestRandom(7).normals(rows, 1.5).map((x) => Math.abs(x) + 0.1)
      const weights = [0.4, 0.03] as const
      const tensors = tensorsOf(nll, weights)
      ops.preferenceLoss(tensors, settings)
      const expected = reference(nll, settings, weights)
      expectClose('logps', await tensors.logps.read(), expected.logps, { relativeL2: 1e-6 })
      expectClose('losses', await tensors.losses.read(), expected.losses, { relativeL2: 1e-6 })
      const chosen = expected.logps.slice(0, pairs)
      const rejected = expected.logps.slice(pairs)
      const sum = (values: readonly number[]): number => values.reduce((total, x) => total + x, 0)
      const nllOfChosen = sum([...nll.slice(cuRows[0], cuRows[pairs])])
      const accuracy = chosen.filter((c, p) => c > (rejected[p] ?? 0)).length
      expectClose(
        'sums',
        await tensors.sums.read(),
        [sum(expected.losses), nllOfChosen, sum(chosen), sum(rejected), accuracy].map((x) => x + 1),
        { relativeL2: 1e-6 },
      )
      // The factor of a row is the slope of the weighted loss along that row's likelihood.
      const h = 1e-5
      const slopes = Float64Array.from({ length: rows }, (_, row) => {
        const at = (shift: number): number =>
          reference(
            Float64Array.from(nll, (x, i) => (i === row ? x + shift : x)),
            settings,
            weights,
          ).total
        return (at(h) - at(-h)) / (2 * h)
      })
      expectClose('rowScale', await tensors.rowScale.read(), slopes, { maxAbs: 2e-6 })
    })

    it('survives pairs that are far apart', async () => {
      const nll = new Float32Array(rows).fill(3e4)
      const tensors = tensorsOf(nll, [1, 0])
      ops.preferenceLoss(tensors, { ...settings, beta: 5 })
      for (const value of [...(await tensors.losses.readFloats()), ...(await tensors.rowScale.readFloats())]) {
        expect(Number.isFinite(value)).toBe(true)
      }
    })

    it('names bounds that are not in order, and settings that make no sense', async () => {
      const tensors = tensorsOf(new Float32Array(rows), [1, 0])
      await expectError(
        () => ops.preferenceLoss(tensors, { ...settings, beta: 0 }),
        'ERR_ALMA_SHAPE',
        /beta is not above 0/,
      )
      tensors.cuRows.write(Int32Array.of(0, 1, 2, 3, 2, 5, 6))
      ops.preferenceLoss(tensors, settings)
      await expectError(() => tensors.losses.read(), 'ERR_ALMA_DEVICE', /preference_?loss/i)
    })
  })
})
