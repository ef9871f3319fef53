/**
 * Decoding: tokens/s of prompts, single sentences, batches and beams, beside what memory and arithmetic allow, and beside other programs
 * on the same weights, threads and prompts; and which part of a step the JavaScript thread computes.
 */
import { createLlama, type LlamaConfig, type LlamaForCausalLM } from '../lib/model/index.js'
import { DecodeComparison, longPrompt, numBeams, promptLength } from './decode-comparison.js'
import { type BenchContext, ceilingOf, figure, productCeilingOf } from './harness.js'
import { model1B, model15M, model110M } from './models.js'
import { nodeLlamaCpp } from './peers/node-llama-cpp.js'
import { transformersJs } from './peers/transformers-js.js'
import type { Lengths } from './turns.js'

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
    lengths: { few: 4, many: 36, repeats: 5 },
    batches: [1, 4, 8, 16],
    goals: { single: '≥ 2 × node-llama-cpp (bf16), ≥ 50 %', beams: '≤ 2 ×' },
  },
  {
    name: '1.1 billion weights, 22 layers × 2048',
    config: model1B,
    lengths: { few: 2, many: 12, repeats: 4 },
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
  const { lengths, batches, goals } = problem
  const { bytes, multiplied } = passOf(model)
  // Before and after the others: the best that was seen counts.
  const ceilings = async (): Promise<{ bandwidth: number; flops: number }> => ({
    bandwidth: await ceilingOf(device, 'read'),
    flops: await productCeilingOf(device, dtype),
  })
  await ceilings()
  const comparison = new DecodeComparison(model, lengths)
  await comparison.alone(batches)
  if (device.name === 'cpu') {
    const reasons = []
    for (const peer of [nodeLlamaCpp, transformersJs])
      if (peer.dtypes.includes(dtype)) reasons.push(await comparison.beside(peer, dtype))
    reasons.push(await comparison.besideTorch(dtype))
    for (const reason of reasons) if (reason !== undefined) report.note(reason)
  }
  const { bandwidth, flops } = await ceilings()
  // What memory and arithmetic allow at best: weights are read once a step, and every row multiplies with all of them.
  const bestStep = (rows: number): number => Math.max(bytes / bandwidth, (2 * multiplied * rows) / flops)

  report.add(
    figure({
      name: 'prompt',
      shape: `${longPrompt} tokens, ${dtype}`,
      value: comparison.tokensPerSecond('prompt'),
      unit: 'tokens/s',
      ceiling: longPrompt / promptSecondsAtBest(model, flops),
      peers: comparison.others('prompt'),
    }),
    dtype === 'bf16' ? '≥ 2 × node-llama-cpp' : '≥ 1.0 × the others',
  )

  const shapeOf = (sequences: number, more = ''): string =>
    `${sequences} × ${promptLength} + ${lengths.many} tokens, ${dtype}${more}`
  for (const sequences of batches) {
    const shape = shapeOf(sequences)
    const value = comparison.tokensPerSecond(sequences)
    report.add(
      figure({
        name: 'greedy',
        shape,
        value,
        unit: 'tokens/s',
        ceiling: sequences / bestStep(sequences),
        peers: comparison.others(sequences),
      }),
      sequences === 1 ? goals.single : sequences === 8 && dtype === 'bf16' ? '≥ 4 × node-llama-cpp' : '',
    )
    if (sequences === 1) {
      const read = (bytes * value) / 1e9
      report.add(figure({ name: 'greedy, weights read', shape, value: read, unit: 'GB/s', ceiling: bandwidth / 1e9 }))
      const busy = 100 * comparison.busy(1)
      report.add(figure({ name: 'JavaScript, part of a step', shape, value: busy, unit: '%' }), '< 3 %')
    } else {
      const gain = sequences / comparison.besideSingle(sequences)
      const goal = sequences === 16 ? '≥ 4 ×' : ''
      report.add(figure({ name: 'tokens/s beside batch 1', shape, value: gain, unit: '×', ceiling: sequences }), goal)
    }
  }
  const cost = comparison.besideSingle('beams')
  const ceiling = bestStep(numBeams) / bestStep(1)
  const shape = shapeOf(1, `, ${numBeams} beams`)
  report.add(
    figure({ name: 'beam step beside greedy', shape, value: cost, unit: '×', ceiling, smallerIsBetter: true }),
    goals.beams,
  )
  const busy = 100 * comparison.busy('beams')
  report.add(figure({ name: 'JavaScript, part of a step', shape, value: busy, unit: '%' }), '< 3 %')
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
