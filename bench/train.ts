/** A training step: tokens/s, GFLOP/s beside the processor's best, and the memory it takes beside what it cannot do without. */
import { createLlama, defaultLora, type LlamaConfig, type LlamaForCausalLM, LoraAdapter } from '../lib/model/index.js'
import { type Device, Tensor } from '../lib/runtime/index.js'
import { Optimizer } from '../lib/train/index.js'
import { type BenchContext, figure, productCeilingOf } from './harness.js'
import { model15M, model110M, syntheticIds } from './models.js'
import { TorchLlama } from './peers/torch-llama.js'
import { costsInTurns, type Run } from './turns.js'

const [sequences, length] = [4, 256] as const

interface Problem {
  readonly name: string
  readonly config: LlamaConfig
  readonly repeats: number
}

const problems: readonly Problem[] = [
  { name: '15 million weights, 6 layers × 288', config: model15M, repeats: 4 },
  { name: '110 million weights, 12 layers × 768', config: model110M, repeats: 3 },
]

interface Variant {
  readonly dtype: 'f32' | 'bf16'
  readonly lora: boolean
}

const variants: readonly Variant[] = [
  { dtype: 'f32', lora: false },
  { dtype: 'bf16', lora: false },
  { dtype: 'f32', lora: true },
]

export async function trainBench(context: BenchContext): Promise<void> {
  for (const problem of context.quick ? problems.slice(0, 1) : problems) {
    context.report.section(`train: ${problem.name}, AdamW`)
    for (const variant of variants) await trainModel(context, problem, variant)
  }
}

async function trainModel(
  { device, report }: BenchContext,
  { config, repeats }: Problem,
  { dtype, lora }: Variant,
): Promise<void> {
  await using torch =
    device.name === 'cpu' && !lora
      ? new TorchLlama(device, config, { op: 'train', dtype, sequences, length })
      : undefined
  const run = new TrainingRun(device, config, { dtype, lora })
  try {
    await run.step()
    device.resetPeakMemory()
    const peakFlops = await productCeilingOf(device, dtype)
    const ours = async (): Promise<Run> => {
      const begin = performance.now()
      await run.step()
      return { seconds: (performance.now() - begin) / 1000 }
    }
    const contestants = torch === undefined ? [ours] : [ours, () => torch.run()]
    const [cost, theirs] = await costsInTurns(contestants, { few: 0, many: 1, repeats })
    const best = cost?.seconds ?? Number.NaN
    const peers =
      theirs === undefined ? [] : [{ name: torch?.name ?? '', value: (sequences * length) / theirs.seconds }]
    if (torch?.reason !== undefined) report.note(torch.reason)
    const tokens = sequences * length
    const name = lora ? 'training step, LoRA of rank 16 in all modules' : 'training step'
    const shape = `${sequences} × ${length} tokens, ${dtype === 'f32' ? 'f32' : 'bf16 weights, f32 master'}`
    const flops = stepFlops(run.model)
    const ceiling = (peakFlops / flops) * tokens
    report.add(
      figure({ name, shape, value: tokens / best, unit: 'tokens/s', ceiling, peers }),
      lora ? '' : dtype === 'f32' ? '≥ 1.25 × PyTorch' : '≥ 1.3 × PyTorch',
    )
    const gflops = flops / best / 1e9
    report.add(
      figure({ name, shape, value: gflops, unit: 'GFLOP/s', ceiling: peakFlops / 1e9 }),
      config === model110M && dtype === 'f32' && !lora ? '≥ 68 %' : '',
    )
    if (dtype === 'bf16') return
    const needed = neededBytes(run.model) / 2 ** 20
    const peak = device.memory().peak / 2 ** 20
    const memory = lora ? 'peak memory, LoRA' : 'peak memory'
    report.add(
      figure({ name: memory, shape, value: peak, unit: 'MiB', ceiling: needed, smallerIsBetter: true }),
      '≥ 83 % (1.2 ×)',
    )
  } finally {
    await run.dispose()
  }
}

/** A model with optimizer and one batch, over and over. */
export class TrainingRun {
  /** With low-rank updates, if asked for. */
  readonly model: LlamaForCausalLM
  readonly #base: LlamaForCausalLM
  readonly #optimizer: Optimizer
  readonly #gradScale: Tensor
  readonly #lossSum: Tensor
  readonly #batch: { readonly inputIds: number[][]; readonly labels: number[][] }

  constructor(
    device: Device,
    config: LlamaConfig,
    { dtype = device.defaultDtype, lora = false }: Partial<Variant> = {},
  ) {
    this.#base = createLlama(device, config, { dtype })
    this.model = lora
      ? this.#base.withAdapter(
          LoraAdapter.create(this.#base, { ...defaultLora, dropout: 0, targetModules: 'all-linear' }, 1),
        )
      : this.#base
    this.#optimizer = new Optimizer(this.model)
    const inputIds = Array.from({ length: sequences }, (_, i) => syntheticIds(config, length, i + 1))
    this.#batch = { inputIds, labels: inputIds }
    this.#gradScale = Tensor.from(device, [1 / (sequences * (length - 1))])
    this.#lossSum = Tensor.zeros(device, [1], 'f32')
  }

  /** Gradients, clipping, AdamW; waits for the loss (nats, summed). */
  async step(): Promise<number> {
    this.#optimizer.zeroGradients()
    this.#lossSum.write([0])
    this.model.forwardBackward(this.#batch, this.#gradScale, this.#lossSum)
    this.#optimizer.step(1e-4)
    const [loss = Number.NaN] = await this.#lossSum.readFloats()
    return loss
  }

  async dispose(): Promise<void> {
    this.#optimizer.dispose()
    this.model.dispose()
    this.model.adapter?.dispose()
    this.#base.dispose()
    this.#gradScale.dispose()
    this.#lossSum.dispose()
    await this.#base.device.synchronize()
  }
}

/**
 * Multiply-adds of the matrix products, forward once and backward twice, and of causal attention. With low-rank updates the weights have no
 * gradient, so their products go forward once and backward once, and the updates are computed as well.
 */
function stepFlops(model: LlamaForCausalLM): number {
  const { hiddenSize, numHiddenLayers, numAttentionHeads, headDim } = model.config
  const matrices = model.parameterCount - (2 * numHiddenLayers + 1) * hiddenSize
  const updates = trainedCount(model)
  const products = (model.adapter === undefined ? 6 * matrices : 4 * matrices + 6 * updates) * sequences * length
  const pairs = (sequences * length * (length + 1)) / 2
  return products + 7 * 2 * pairs * numAttentionHeads * headDim * numHiddenLayers
}

const trainedCount = (model: LlamaForCausalLM): number =>
  [...model.parameters()].reduce((sum, { tensor }) => sum + tensor.count, 0)

/**
 * Weights, gradients, two moments, and what the forward pass must hand to the backward pass: of each layer the two sums and their
 * norms, queries, keys, values, attention's result, gate and up; behind the layers the logits, and the last sum and its norm.
 */
function neededBytes(model: LlamaForCausalLM): number {
  const { config, parameterCount } = model
  const { hiddenSize, intermediateSize, numHiddenLayers, numAttentionHeads, numKeyValueHeads, headDim, vocabSize } =
    config
  const layer =
    4 * hiddenSize + 2 * intermediateSize + 2 * (numAttentionHeads + numKeyValueHeads) * headDim + numAttentionHeads + 2
  const activations = sequences * length * (numHiddenLayers * layer + 2 * hiddenSize + vocabSize)
  const trained = trainedCount(model)
  const weights = model.adapter === undefined ? parameterCount : parameterCount + trained
  return 4 * (weights + 3 * trained + activations)
}
