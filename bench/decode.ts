/**
 * Decoding: tokens/s, and the bytes of weights that it reads for them beside what the memory can deliver; what batches and beams
 * cost beside a single row; and how much of a step the JavaScript thread is busy.
 */
import { performance } from 'node:perf_hooks'
import { type GenerateOptions, generateTokens, resolveDecoding } from '../lib/decode/index.js'
import { createLlama, type LlamaForCausalLM } from '../lib/model/index.js'
import { type BenchContext, ceilingOf, figure } from './harness.js'
import { model110M, syntheticIds } from './models.js'
import { NodeLlamaCpp } from './peers/node-llama-cpp.js'

const promptLength = 16
const [few, many] = [4, 36] as const

/** One more token for every row. */
interface StepCost {
  readonly seconds: number
  /** Part of it in which the JavaScript thread was not idle. */
  readonly busy: number
}

export async function decodeBench({ device, report }: BenchContext): Promise<void> {
  report.section('decode: 110 million weights, 12 layers × 768')
  for (const dtype of ['f32', 'bf16'] as const) {
    const model = createLlama(device, model110M, { dtype })
    const peer = device.name === 'cpu' ? await NodeLlamaCpp.open(model, dtype) : undefined
    try {
      const bandwidth = await ceilingOf(device, 'read')
      const flops = await ceilingOf(device, 'fma')
      const bytes = weightBytes(model)
      const shapeOf = (sequences: number, more = ''): string =>
        `${sequences} × ${promptLength} + ${many} tokens, ${dtype}${more}`
      // What memory and arithmetic allow at best: weights are read once a step, and every row multiplies with all of them.
      const bestStep = (rows: number): number => Math.max(bytes / bandwidth, (2 * model.parameterCount * rows) / flops)
      let single: StepCost | undefined
      for (const sequences of [1, 4, 16]) {
        const step = await stepCost(model, sequences, {})
        const value = sequences / step.seconds
        const ceiling = sequences / bestStep(sequences)
        const shape = shapeOf(sequences)
        const prompts = promptsOf(model, sequences)
        const other = await peer?.run({ threads: device.threads, prompts, few, many })
        const beside = other && { peer: { name: other.name, value: sequences / other.secondsPerStep } }
        report.add(
          figure({ name: 'greedy', shape, value, unit: 'tokens/s', ceiling, ...beside }),
          sequences === 1 ? '≥ 50 %' : '',
        )
        if (single === undefined) {
          single = step
          const read = bytes / step.seconds / 1e9
          report.add(
            figure({ name: 'greedy, weights read', shape, value: read, unit: 'GB/s', ceiling: bandwidth / 1e9 }),
          )
          const busy = 100 * step.busy
          report.add(figure({ name: 'JavaScript, part of a step', shape, value: busy, unit: '%' }), '< 3 %')
        } else {
          const gain = (sequences * single.seconds) / step.seconds
          const goal = sequences === 16 ? '≥ 4 ×' : ''
          report.add(
            figure({ name: 'tokens/s beside batch 1', shape, value: gain, unit: '×', ceiling: sequences }),
            goal,
          )
        }
      }
      const beams = await stepCost(model, 1, { numBeams: 5 })
      const cost = beams.seconds / (single?.seconds ?? Number.NaN)
      const ceiling = bestStep(5) / bestStep(1)
      const shape = shapeOf(1, ', 5 beams')
      report.add(
        figure({ name: 'beam step beside greedy', shape, value: cost, unit: '×', ceiling, smallerIsBetter: true }),
        '≤ 2 ×',
      )
      report.add(figure({ name: 'JavaScript, part of a step', shape, value: 100 * beams.busy, unit: '%' }), '< 3 %')
    } finally {
      model.dispose()
      await peer?.close()
    }
  }
}

function promptsOf(model: LlamaForCausalLM, sequences: number): number[][] {
  return Array.from({ length: sequences }, (_, i) => syntheticIds(model.config, promptLength, i + 1))
}

/** Weights that every token passes: all of them, as the embedding is the output layer too. */
function weightBytes(model: LlamaForCausalLM): number {
  let bytes = 0
  for (const [, tensor] of model.namedParameters()) bytes += tensor.byteLength
  return bytes
}

/** A long answer less a short one leaves the tokens between them, without prompt and set-up. The best of three. */
async function stepCost(model: LlamaForCausalLM, sequences: number, options: GenerateOptions): Promise<StepCost> {
  const prompts = promptsOf(model, sequences)
  const run = async (maxNewTokens: number): Promise<{ seconds: number; busy: number }> => {
    const decoding = resolveDecoding({ maxNewTokens, eosTokenId: [], ...options }, model.config)
    const [begin, idle] = [performance.now(), performance.eventLoopUtilization()]
    await generateTokens(model, prompts, decoding)
    const { active } = performance.eventLoopUtilization(idle)
    return { seconds: (performance.now() - begin) / 1000, busy: active / 1000 }
  }
  await run(few)
  const fewest = { seconds: Number.POSITIVE_INFINITY, busy: Number.POSITIVE_INFINITY }
  const [short, long] = [{ ...fewest }, { ...fewest }]
  for (let i = 0; i < 3; i++) {
    for (const [best, tokens] of [
      [short, few],
      [long, many],
    ] as const) {
      const { seconds, busy } = await run(tokens)
      best.seconds = Math.min(best.seconds, seconds)
      best.busy = Math.min(best.busy, busy)
    }
  }
  const seconds = long.seconds - short.seconds
  return { seconds: seconds / (many - few), busy: (long.busy - short.busy) / seconds }
}
