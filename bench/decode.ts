/** Greedy decoding: tokens/s, and the bytes of weights that it reads for them beside what the memory can deliver. */
import { generateTokens, resolveDecoding } from '../lib/decode/index.js'
import { createLlama, type LlamaForCausalLM } from '../lib/model/index.js'
import { type BenchContext, ceilingOf, figure } from './harness.js'
import { model110M, syntheticIds } from './models.js'

const promptLength = 16
const [few, many] = [4, 36] as const

export async function decodeBench({ device, report }: BenchContext): Promise<void> {
  report.section('decode: 110 million weights, 12 layers × 768, greedy')
  for (const dtype of ['f32', 'bf16'] as const) {
    const model = createLlama(device, model110M, { dtype })
    try {
      const bandwidth = await ceilingOf(device, 'read')
      const bytes = weightBytes(model)
      for (const sequences of [1, 8]) {
        const seconds = await secondsPerStep(model, sequences)
        const shape = `${sequences} × ${promptLength} + ${many} tokens, ${dtype}`
        const ceiling = (bandwidth / bytes) * sequences
        const value = sequences / seconds
        report.add(figure({ name: 'decode', shape, value, unit: 'tokens/s', ceiling }), sequences === 1 ? '≥ 50 %' : '')
        const read = bytes / seconds / 1e9
        report.add(figure({ name: 'decode, weights read', shape, value: read, unit: 'GB/s', ceiling: bandwidth / 1e9 }))
      }
    } finally {
      model.dispose()
    }
  }
}

/** Weights that every token passes: all of them, as the embedding is the output layer too. */
function weightBytes(model: LlamaForCausalLM): number {
  let bytes = 0
  for (const [, tensor] of model.namedParameters()) bytes += tensor.byteLength
  return bytes
}

/** A long answer less a short one leaves the tokens between them, without prompt and set-up. The best of three. */
async function secondsPerStep(model: LlamaForCausalLM, sequences: number): Promise<number> {
  const prompts = Array.from({ length: sequences }, (_, i) => syntheticIds(model.config, promptLength, i + 1))
  const seconds = async (maxNewTokens: number): Promise<number> => {
    const decoding = resolveDecoding({ maxNewTokens, eosTokenId: [] }, model.config)
    const begin = performance.now()
    await generateTokens(model, prompts, decoding)
    return (performance.now() - begin) / 1000
  }
  await seconds(few)
  let [short, long] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]
  for (let i = 0; i < 3; i++) {
    short = Math.min(short, await seconds(few))
    long = Math.min(long, await seconds(many))
  }
  return (long - short) / (many - few)
}
