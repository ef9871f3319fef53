/**
 * Decoding: tokens/s of prompts, single sentences, batches and beams, beside what memory and arithmetic allow, and beside other programs
 * on the same weights, threads and prompts; and which part of a step the JavaScript thread computes.
 */
import { createLlama, type LlamaConfig, type LlamaForCausalLM } from '../lib/model/index.js'
import { type Lengths, promptSeconds, type StepCost, stepCost } from './decode-cost.js'
import { type BenchContext, ceilingOf, figure, type PeerFigure } from './harness.js'
import { model1B, model15M, model110M, syntheticIds } from './models.js'
import { nodeLlamaCpp } from './peers/node-llama-cpp.js'
import { askTasks, type PeerTask } from './peers/task-peer.js'
import { askTorch, installTorch } from './peers/torch-llama.js'
import { transformersJs } from './peers/transformers-js.js'

const [promptLength, longPrompt] = [16, 512] as const

interface Problem {
  readonly name: string
  readonly config: LlamaConfig
  readonly lengths: Lengths
  readonly batches: readonly number[]
  readonly goals: { readonly single: string; readonly beams: string }
}

const problems: readonly Problem[] = [
  {
    name: '110 million weights, 12 layers × 768',
    config: model110M,
    lengths: { few: 4, many: 36, repeats: 3 },
    batches: [1, 4, 8, 16],
    goals: { single: '≥ 2 × node-llama-cpp (bf16), ≥ 50 %', beams: '≤ 2 ×' },
  },
  {
    name: '1.1 billion weights, 22 layers × 2048',
    config: model1B,
    lengths: { few: 2, many: 12, repeats: 2 },
    batches: [1, 8],
    goals: { single: '≥ 1.05 × node-llama-cpp (bf16), ≥ 50 %', beams: '≤ 1.5 ×' },
  },
]

const smallProblem: Problem = {
  name: '15 million weights, 6 layers × 288',
  config: model15M,
  lengths: { few: 2, many: 6, repeats: 1 },
  batches: [1, 8],
  goals: { single: '', beams: '' },
}

export async function decodeBench(context: BenchContext): Promise<void> {
  for (const problem of context.quick ? [smallProblem] : problems) {
    context.report.section(`decode: ${problem.name}`)
    for (const dtype of ['bf16', 'f32'] as const) {
      const model = createLlama(context.device, problem.config, { dtype })
      try {
        await decodeModel(context, problem, model, dtype)
      } finally {
        model.dispose()
      }
    }
  }
}

async function decodeModel(
  { device, report }: BenchContext,
  problem: Problem,
  model: LlamaForCausalLM,
  dtype: 'f32' | 'bf16',
): Promise<void> {
  const { config, lengths, batches, goals } = problem
  const { many } = lengths
  const prompt = syntheticIds(config, longPrompt)
  const others = await peersOf({ device, report }, problem, model, dtype)

  const bandwidth = await ceilingOf(device, 'read')
  const flops = Math.max(await ceilingOf(device, 'fma'), dtype === 'bf16' ? await ceilingOf(device, 'bf16dot') : 0)
  const { bytes, multiplied } = passOf(model)
  // What memory and arithmetic allow at best: weights are read once a step, and every row multiplies with all of them.
  const bestStep = (rows: number): number => Math.max(bytes / bandwidth, (2 * multiplied * rows) / flops)

  const seconds = await promptSeconds(model, prompt, lengths.repeats)
  report.add(
    figure({
      name: 'prompt',
      shape: `${longPrompt} tokens, ${dtype}`,
      value: longPrompt / seconds,
      unit: 'tokens/s',
      ceiling: longPrompt / promptSecondsAtBest(model, flops),
      peers: others.prompt,
    }),
    dtype === 'bf16' ? '≥ 2 × node-llama-cpp' : '≥ 1.0 × the others',
  )

  const shapeOf = (sequences: number, more = ''): string =>
    `${sequences} × ${promptLength} + ${many} tokens, ${dtype}${more}`
  let single: StepCost | undefined
  for (const sequences of batches) {
    const step = await stepCost(model, promptsOf(model, sequences), lengths)
    const shape = shapeOf(sequences)
    report.add(
      figure({
        name: 'greedy',
        shape,
        value: sequences / step.seconds,
        unit: 'tokens/s',
        ceiling: sequences / bestStep(sequences),
        peers: others.batches.get(sequences) ?? [],
      }),
      sequences === 1 ? goals.single : sequences === 8 && dtype === 'bf16' ? '≥ 4 × node-llama-cpp' : '',
    )
    if (single === undefined) {
      single = step
      const read = bytes / step.seconds / 1e9
      report.add(figure({ name: 'greedy, weights read', shape, value: read, unit: 'GB/s', ceiling: bandwidth / 1e9 }))
      report.add(figure({ name: 'JavaScript, part of a step', shape, value: 100 * step.busy, unit: '%' }), '< 3 %')
    } else {
      const gain = (sequences * single.seconds) / step.seconds
      const goal = sequences === 16 ? '≥ 4 ×' : ''
      report.add(figure({ name: 'tokens/s beside batch 1', shape, value: gain, unit: '×', ceiling: sequences }), goal)
    }
  }
  const beams = await stepCost(model, promptsOf(model, 1), lengths, { numBeams: 5 })
  const cost = beams.seconds / (single?.seconds ?? Number.NaN)
  const ceiling = bestStep(5) / bestStep(1)
  const shape = shapeOf(1, ', 5 beams')
  report.add(
    figure({ name: 'beam step beside greedy', shape, value: cost, unit: '×', ceiling, smallerIsBetter: true }),
    goals.beams,
  )
  report.add(figure({ name: 'JavaScript, part of a step', shape, value: 100 * beams.busy, unit: '%' }), '< 3 %')
}

interface Others {
  readonly prompt: readonly PeerFigure[]
  /** Sequences decoded together to tokens/s in all. */
  readonly batches: ReadonlyMap<number, readonly PeerFigure[]>
}

async function peersOf(
  { device, report }: BenchContext,
  { config, lengths, batches: all }: Problem,
  model: LlamaForCausalLM,
  dtype: 'f32' | 'bf16',
): Promise<Others> {
  const prompt: PeerFigure[] = []
  const batches = new Map<number, PeerFigure[]>()
  if (device.name !== 'cpu') return { prompt, batches }
  const measured = all.filter((sequences) => sequences === 1 || sequences === 8)
  const tasks: PeerTask[] = [
    { prompts: [syntheticIds(config, longPrompt)], few: 0, many: 1, repeats: lengths.repeats },
    ...measured.map((sequences) => ({ prompts: promptsOf(model, sequences), ...lengths })),
  ]
  for (const peer of [nodeLlamaCpp, transformersJs]) {
    if (!peer.dtypes.includes(dtype)) continue
    const answer = await askTasks(peer, model, dtype, device.threads, tasks)
    if ('reason' in answer) report.note(answer.reason)
    const [first, ...steps] = answer.results
    if (first !== undefined) prompt.push({ name: first.name, value: longPrompt / first.seconds })
    for (const [index, { name, seconds }] of steps.entries()) {
      const sequences = measured[index] ?? 1
      batches.set(sequences, [...(batches.get(sequences) ?? []), { name, value: sequences / seconds }])
    }
  }
  const request = { op: 'prompt', dtype, length: longPrompt, repeats: lengths.repeats } as const
  const { name, seconds, reason } = await askTorch(device, config, request)
  if (seconds !== null) prompt.push({ name, value: longPrompt / seconds })
  else report.note(`PyTorch: no figures, ${reason}; ${installTorch}`)
  return { prompt, batches }
}

function promptsOf(model: LlamaForCausalLM, sequences: number): number[][] {
  return Array.from({ length: sequences }, (_, i) => syntheticIds(model.config, promptLength, i + 1))
}

/** What every token passes: all weights but the embedding, of which it needs one row; unless that is the output layer too. */
function passOf(model: LlamaForCausalLM): { bytes: number; multiplied: number } {
  let [bytes, multiplied] = [0, 0]
  for (const [name, tensor] of model.namedParameters()) {
    if (name === 'model.embed_tokens.weight' && !model.config.tieWordEmbeddings) continue
    bytes += tensor.byteLength
    multiplied += tensor.count
  }
  return { bytes, multiplied }
}

/** Products with the layers' weights for every token, with the output layer for one, and causal attention. */
function promptSecondsAtBest(model: LlamaForCausalLM, flops: number): number {
  const { vocabSize, hiddenSize, numAttentionHeads, headDim, numHiddenLayers } = model.config
  const output = vocabSize * hiddenSize
  const pairs = (longPrompt * (longPrompt + 1)) / 2
  const attention = 2 * 2 * pairs * numAttentionHeads * headDim * numHiddenLayers
  return (2 * (passOf(model).multiplied - output) * longPrompt + 2 * output + attention) / flops
}
