/** What a stage minimises: enqueues the passes of a step, and knows what to divide their sums by. */
import type { LlamaForCausalLM } from '../model/index.js'
import { type Device, ops, Tensor } from '../runtime/index.js'
import type { MicroBatch } from './batches.js'
import { lossSettings } from './preference-stage.js'
import type { PreferenceResolved } from './sequence-files.js'
import type { ResolvedStage } from './stages.js'

/** The micro-batches of a step. */
export interface ObjectiveBatch {
  readonly micro: readonly MicroBatch[]
  readonly targets: number
}

export interface StepLoss {
  /** Nats. */
  readonly loss: number
  readonly metrics?: Readonly<Record<string, number>>
}

export interface Objective {
  /** f32 [1]: behind a step it is finite exactly if the step's loss is. */
  readonly lossSum: Tensor
  /** Enqueues forward and backward passes of all micro-batches. `beforeMicroBatch` is called in front of each. */
  enqueue(model: LlamaForCausalLM, batch: ObjectiveBatch, beforeMicroBatch: (index: number) => void): void
  /** Of the step that was enqueued last. */
  read(batch: ObjectiveBatch): Promise<StepLoss>
  dispose(): void
}

export function objectiveOf(device: Device, stage: ResolvedStage): Objective {
  return stage.kind === 'preference'
    ? new PreferenceObjective(device, stage)
    : new TokenObjective(device, stage.compat !== undefined)
}

/** The mean NLL of target tokens: over the step, or as a mean of the micro-batches' means. */
class TokenObjective implements Objective {
  readonly lossSum: Tensor
  readonly #gradScale: Tensor
  readonly #meanOfMeans: boolean

  constructor(device: Device, meanOfMeans: boolean) {
    this.lossSum = Tensor.zeros(device, [1], 'f32')
    this.#gradScale = Tensor.zeros(device, [1], 'f32')
    this.#meanOfMeans = meanOfMeans
  }

  enqueue(model: LlamaForCausalLM, batch: ObjectiveBatch, beforeMicroBatch: (index: number) => void): void {
    ops.fill(this.lossSum, 0)
    this.#gradScale.write([1 / Math.max(1, batch.targets)])
    for (const [index, micro] of batch.micro.entries()) {
      beforeMicroBatch(index)
      if (this.#meanOfMeans) this.#gradScale.write([1 / Math.max(1, micro.targets) / batch.micro.length])
      model.forwardBackward(micro, this.#gradScale, this.lossSum)
    }
  }

  async read({ targets }: ObjectiveBatch): Promise<StepLoss> {
    const [sum = Number.NaN] = await this.lossSum.readFloats()
    return { loss: sum / Math.max(1, targets) }
  }

  dispose(): void {
    this.lossSum.dispose()
    this.#gradScale.dispose()
  }
}

/** The mean loss of pairs, and cpoAlpha times the mean NLL of the chosen responses' tokens. */
class PreferenceObjective implements Objective {
  readonly lossSum: Tensor
  readonly #stage: PreferenceResolved
  readonly #weights: Tensor
  readonly #sums: Tensor

  constructor(device: Device, stage: PreferenceResolved) {
    this.#stage = stage
    this.lossSum = Tensor.zeros(device, [1], 'f32')
    this.#weights = Tensor.zeros(device, [2], 'f32')
    this.#sums = Tensor.zeros(device, [5], 'f32')
  }

  enqueue(model: LlamaForCausalLM, batch: ObjectiveBatch, beforeMicroBatch: (index: number) => void): void {
    const { cpoAlpha, compat } = this.#stage
    const settings = lossSettings(this.#stage)
    const weightsOf = (parts: readonly MicroBatch[], share: number): number[] => {
      const { pairs, chosenTargets } = countPairs(parts)
      return [share / Math.max(1, pairs), (share * cpoAlpha) / Math.max(1, chosenTargets)]
    }
    ops.fill(this.#sums, 0)
    this.#weights.write(weightsOf(batch.micro, 1))
    for (const [index, micro] of batch.micro.entries()) {
      beforeMicroBatch(index)
      if (compat !== undefined) this.#weights.write(weightsOf([micro], 1 / batch.micro.length))
      model.preferenceForwardBackward(micro, { weights: this.#weights, sums: this.#sums }, settings)
    }
    using losses = this.#sums.view([2])
    ops.reduceSum(losses, { out: this.lossSum })
  }

  async read({ micro }: ObjectiveBatch): Promise<StepLoss> {
    return preferenceLossOf(this.#stage, countPairs(micro), await this.#sums.readFloats())
  }

  dispose(): void {
    for (const tensor of [this.lossSum, this.#weights, this.#sums]) tensor.dispose()
  }
}

export interface PairCount {
  readonly pairs: number
  readonly chosenTargets: number
}

export function countPairs(parts: readonly PairCount[]): PairCount {
  return {
    pairs: parts.reduce((sum, { pairs }) => sum + pairs, 0),
    chosenTargets: parts.reduce((sum, { chosenTargets }) => sum + chosenTargets, 0),
  }
}

/** Loss and metrics, named as trl names them, from the sums of `ops.preferenceLoss`. */
export function preferenceLossOf(
  { beta, cpoAlpha }: Pick<PreferenceResolved, 'beta' | 'cpoAlpha'>,
  count: PairCount,
  sums: ArrayLike<number>,
): Required<StepLoss> {
  const pairs = Math.max(1, count.pairs)
  const sum = (index: number): number => sums[index] ?? Number.NaN
  const [losses, nll, chosen, rejected, accurate] = [sum(0), sum(1), sum(2), sum(3), sum(4)]
  const nllLoss = nll / Math.max(1, count.chosenTargets)
  return {
    // 0 · NaN would be NaN: without the term its value does not matter.
    loss: losses / pairs + (cpoAlpha === 0 ? 0 : cpoAlpha * nllLoss),
    metrics: {
      'rewards/chosen': (beta * chosen) / pairs,
      'rewards/rejected': (beta * rejected) / pairs,
      'rewards/accuracies': accurate / pairs,
      'rewards/margins': (beta * (chosen - rejected)) / pairs,
      'logps/chosen': chosen / pairs,
      'logps/rejected': rejected / pairs,
      nll_loss: nllLoss,
    },
  }
}
