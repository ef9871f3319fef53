import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { IGNORE_INDEX } from '../../lib/ignore-index.js'
import { countTargets, loadLlama, type TrainingBatch } from '../../lib/model/index.js'
import { Device, ops, Tensor } from '../../lib/runtime/index.js'
import { learningRateAt, Optimizer } from '../../lib/train/index.js'
import type { ScheduleName } from '../../lib/train/stages.js'
import { fixtureCases, fixturesRoot } from '../support/fixtures.js'
import { loadTensors } from '../support/safetensors.js'

interface Trajectory {
  readonly model: string
  readonly hyperparameters: {
    readonly learning_rate: number
    readonly beta1: number
    readonly beta2: number
    readonly eps: number
    readonly weight_decay: number
    readonly max_grad_norm: number
    readonly warmup_steps: number
    readonly total_steps: number
    readonly schedule: ScheduleName
    readonly optimizer_steps: number
    readonly gradient_accumulation: number
    readonly loss_normalisation: 'mean_of_means' | 'token_mean'
  }
  readonly steps: readonly {
    readonly lr: number
    readonly micro_losses: readonly number[]
    readonly step_loss: number
    readonly grad_norm: number
  }[]
}

const cases = fixtureCases('optimizer')

describe.skipIf(cases.length === 0)('optimizer trajectories', () => {
  for (const { name, folder } of cases) {
    test(name, async () => {
      const trajectory: Trajectory = JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8'))
      const inputs = loadTensors(join(folder, 'inputs.safetensors'))
      const expected = loadTensors(join(folder, 'expected.safetensors'))
      const modelFolder = join(fixturesRoot, trajectory.model)
      const initial = loadTensors(join(modelFolder, 'model.safetensors'))
      const h = trajectory.hyperparameters
      const device = Device.open(process.env.ALMA_DEVICE ?? 'cpu')
      const model = await loadLlama(device, modelFolder, { dtype: 'f32' })
      const optimizer = new Optimizer(model, {
        betas: [h.beta1, h.beta2],
        epsilon: h.eps,
        weightDecay: h.weight_decay,
        maxGradNorm: h.max_grad_norm,
      })
      using gradScale = Tensor.zeros(device, [1], 'f32')
      using lossSum = Tensor.zeros(device, [1], 'f32')

      for (const [s, step] of trajectory.steps.entries()) {
        const micro = Array.from({ length: h.gradient_accumulation }, (_, m) => batchOf(inputs, `step${s}.micro${m}`))
        const targets = micro.map(countTargets)
        const total = targets.reduce((sum, count) => sum + count, 0)
        const losses: number[] = []
        optimizer.zeroGradients()
        for (const [m, batch] of micro.entries()) {
          const denominator = h.loss_normalisation === 'token_mean' ? total : (targets[m] ?? 0)
          const share = h.loss_normalisation === 'token_mean' ? 1 : micro.length
          gradScale.write([1 / denominator / share])
          ops.fill(lossSum, 0)
          model.forwardBackward(batch, gradScale, lossSum)
          losses.push(((await lossSum.readFloats())[0] ?? Number.NaN) / denominator)
        }
        const learningRate = learningRateAt(s, {
          schedule: h.schedule,
          learningRate: h.learning_rate,
          warmupSteps: h.warmup_steps,
          totalSteps: h.total_steps,
        })
        expect(learningRate).toBeCloseTo(step.lr, 12)
        optimizer.step(learningRate)
        const [norm = Number.NaN] = await optimizer.gradNorm.readFloats()
        for (const [m, loss] of losses.entries())
          expect(Math.abs(loss - (step.micro_losses[m] ?? 0))).toBeLessThan(1e-5)
        expect(Math.abs(norm / step.grad_norm - 1)).toBeLessThan(1e-5)
      }

      let compared = 0
      for (const [key, tensor] of optimizer.state()) {
        const got = await tensor.readFloats()
        tensor.dispose()
        const want = expected.get(key)?.data
        if (want === undefined) throw new Error(`${name}: no expected ${key}`)
        compared++
        if (key.startsWith('param.')) {
          const before = initial.get(key.slice('param.'.length))?.data ?? []
          const moved = got.map((value, i) => value - Number(before[i]))
          const wanted = Float64Array.from(want, (value, i) => Number(value) - Number(before[i]))
          expect(largest(got, want), key).toBeLessThan(3e-5)
          expect(relative(moved, wanted), key).toBeLessThan(5e-5)
        } else {
          expect(relative(got, want), key).toBeLessThan(key.startsWith('exp_avg_sq.') ? 1e-4 : 3e-5)
        }
      }
      expect(compared).toBe(expected.size)
      optimizer.dispose()
      await device.dispose()
    })
  }
})

/** The ragged sequences of a right-padded micro-batch. */
function batchOf(inputs: ReturnType<typeof loadTensors>, prefix: string): TrainingBatch {
  const field = (key: string): { shape: readonly number[]; data: ArrayLike<number> } => {
    const found = inputs.get(`${prefix}.${key}`)
    if (found === undefined) throw new Error(`no ${prefix}.${key}`)
    return found as { shape: readonly number[]; data: ArrayLike<number> }
  }
  const [ids, mask, labels] = [field('input_ids'), field('attention_mask'), field('labels')]
  const [rows = 0, columns = 0] = ids.shape
  const sequences: number[][] = []
  const targets: number[][] = []
  for (let row = 0; row < rows; row++) {
    const real = Array.from({ length: columns }, (_, t) => row * columns + t).filter((at) => mask.data[at] === 1)
    sequences.push(real.map((at) => Number(ids.data[at])))
    targets.push(real.map((at, t) => (t === 0 ? IGNORE_INDEX : Number(labels.data[at]))))
  }
  return { inputIds: sequences, labels: targets }
}

function relative(got: ArrayLike<number>, want: ArrayLike<number>): number {
  let [difference, norm] = [0, 0]
  for (let i = 0; i < want.length; i++) {
    difference += (Number(got[i]) - Number(want[i])) ** 2
    norm += Number(want[i]) ** 2
  }
  return Math.sqrt(difference / norm)
}

function largest(got: ArrayLike<number>, want: ArrayLike<number>): number {
  let most = 0
  for (let i = 0; i < want.length; i++) most = Math.max(most, Math.abs(Number(got[i]) - Number(want[i])))
  return most
}
