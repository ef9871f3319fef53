/** The figures of a GPU: ops, decoding and training at the size of LLaMA-7B, beside the GPU's ceilings and PyTorch. */
import { generateTokens, resolveDecoding } from '../../lib/decode/index.js'
import { createLlama, normalizeConfig } from '../../lib/model/index.js'
import { type Device, ops, Tensor } from '../../lib/runtime/index.js'
import { Optimizer } from '../../lib/train/index.js'
import { type BenchContext, ceilingOf, type Figure, figure } from '../harness.js'
import { syntheticIds } from '../models.js'
import { gpuCases, type Scale } from './cases.js'
import { TorchPeer } from './peer.js'

/** Dense bf16 products at the boost clock, TFLOP/s, as the maker states them. */
const tensorPeaks: readonly (readonly [name: RegExp, teraflops: number])[] = [
  [/H100 PCIe/, 756],
  [/H100|H200|GH200/, 989],
  [/B200/, 2250],
  [/A100/, 312],
  [/L40S/, 362],
  [/RTX 4090/, 165],
  [/RTX 5090/, 210],
]

const rounds = 5

export async function gpuBench({ device, report }: BenchContext): Promise<void> {
  const scale: Scale = device.name.startsWith('cuda') ? 'full' : 'tiny'
  await using peer = new TorchPeer()
  const peak = tensorPeaks.find(([name]) => name.test(device.description))?.[1]
  report.section('ops, bf16')
  for (const { name, shape, work, unit, goal, peer: request, prepare } of gpuCases(scale)) {
    const perUnit = unit === 'TFLOP/s' ? 1e12 : 1e9
    const prepared = prepare(device)
    try {
      const ours: number[] = []
      const theirs: number[] = []
      let peerName: string | undefined
      // In turns: the GPU's clock follows its temperature, and neither shall have the cool half.
      for (let round = 0; round < (scale === 'full' ? rounds : 1); round++) {
        ours.push(await secondsOf(device, prepared.run, scale))
        const answer = await peer.ask(request)
        if (answer.seconds !== null) theirs.push(answer.seconds)
        peerName = answer.name
      }
      const ceiling = unit === 'GB/s' ? (await ceilingOf(device, 'copy')) / 1e9 : peak
      const value = work / median(ours) / perUnit
      const peerValue = theirs.length > 0 ? work / median(theirs) / perUnit : undefined
      report.add(figureOf(name, shape, value, unit, ceiling, peerName, peerValue), goal)
    } finally {
      prepared.dispose()
    }
  }
  await decodeBench({ device, report }, peer, scale)
  await trainBench({ device, report }, peer, scale)
}

function figureOf(
  name: string,
  shape: string,
  value: number,
  unit: string,
  ceiling: number | undefined,
  peer: string | undefined,
  peerValue: number | undefined,
): Figure {
  return figure({
    name,
    shape,
    value,
    unit,
    ...(ceiling !== undefined && { ceiling }),
    ...(peer !== undefined && peerValue !== undefined && { peer: { name: peer, value: peerValue } }),
  })
}

/** Seconds of one call: many behind one another, so that neither the launch nor the way back counts. */
async function secondsOf(device: Device, run: () => void, scale: Scale): Promise<number> {
  const timed = async (calls: number): Promise<number> => {
    const begin = performance.now()
    for (let i = 0; i < calls; i++) run()
    await device.synchronize()
    return (performance.now() - begin) / 1000
  }
  if (scale === 'tiny') return timed(1)
  await timed(3)
  const once = (await timed(10)) / 10
  const calls = Math.min(2000, Math.max(10, Math.ceil(0.15 / once)))
  return (await timed(calls)) / calls
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

const shapes = {
  full: { vocabSize: 32_000, hiddenSize: 4096, intermediateSize: 11_008, numAttentionHeads: 32 },
  tiny: { vocabSize: 128, hiddenSize: 64, intermediateSize: 96, numAttentionHeads: 2 },
} as const

/** Greedy decoding of a model of 7 billion random weights: every token reads all of them but the embedding. */
async function decodeBench({ device, report }: BenchContext, peer: TorchPeer, scale: Scale): Promise<void> {
  const layers = scale === 'full' ? 32 : 1
  const config = normalizeConfig({ ...shapes[scale], numHiddenLayers: layers, tieWordEmbeddings: false })
  report.section(`decode, ${layers} layers × ${config.hiddenSize}, bf16`)
  const model = createLlama(device, config, { dtype: 'bf16' })
  try {
    let bytes = 0
    for (const [name, { byteLength }] of model.namedParameters())
      if (!name.includes('embed_tokens')) bytes += byteLength
    const [few, many] = scale === 'full' ? [8, 136] : [1, 3]
    for (const sequences of scale === 'full' ? [1, 8] : [1]) {
      const prompts = Array.from({ length: sequences }, (_, i) =>
        syntheticIds(config, scale === 'full' ? 64 : 4, i + 1),
      )
      const timed = async (maxNewTokens: number): Promise<number> => {
        const begin = performance.now()
        await generateTokens(model, prompts, resolveDecoding({ maxNewTokens, eosTokenId: [] }, config))
        return (performance.now() - begin) / 1000
      }
      await timed(few)
      const seconds = ((await timed(many)) - (await timed(few))) / (many - few)
      const answer = await peer.ask({ op: 'decode', scale, layers, sequences, ...shapes[scale] })
      const ceiling = ((await ceilingOf(device, 'read')) / bytes) * sequences
      const theirs = answer.seconds === null ? undefined : sequences / answer.seconds
      const shape = `${sequences} × ${many} tokens`
      report.add(
        figureOf('decode', shape, sequences / seconds, 'tokens/s', ceiling, answer.name, theirs),
        sequences === 1 ? '≥ 75 %' : '',
      )
    }
  } finally {
    model.dispose()
  }
}

/** A training step at the width of 7B. Four of its 32 layers, so that this model and PyTorch's fit on one GPU together. */
async function trainBench({ device, report }: BenchContext, peer: TorchPeer, scale: Scale): Promise<void> {
  const layers = scale === 'full' ? 4 : 1
  const [sequences, length] = scale === 'full' ? [8, 512] : [1, 8]
  const config = normalizeConfig({ ...shapes[scale], numHiddenLayers: layers, tieWordEmbeddings: false })
  report.section(`training step, ${layers} layers × ${config.hiddenSize}, bf16 with f32 master`)
  const model = createLlama(device, config, { dtype: 'bf16' })
  const optimizer = new Optimizer(model)
  const inputIds = Array.from({ length: sequences }, (_, i) => syntheticIds(config, length, i + 1))
  using gradScale = Tensor.from(device, [1 / (sequences * (length - 1))])
  using lossSum = Tensor.zeros(device, [1], 'f32')
  try {
    const step = async (): Promise<number> => {
      const begin = performance.now()
      optimizer.zeroGradients()
      ops.fill(lossSum, 0)
      model.forwardBackward({ inputIds, labels: inputIds }, gradScale, lossSum)
      optimizer.step(1e-5)
      await lossSum.readFloats()
      return (performance.now() - begin) / 1000
    }
    const ours: number[] = []
    for (let i = 0; i < (scale === 'full' ? 8 : 1); i++) ours.push(await step())
    const answer = await peer.ask({ op: 'train', scale, layers, sequences, length, ...shapes[scale] })
    const tokens = sequences * length
    const flops = 6 * (model.parameterCount - config.vocabSize * config.hiddenSize) * tokens
    const peak = tensorPeaks.find(([name]) => name.test(device.description))?.[1]
    const ceiling = peak === undefined ? undefined : (peak * 1e12 * tokens) / flops
    const theirs = answer.seconds === null ? undefined : tokens / answer.seconds
    const value = tokens / median(ours)
    const shape = `${sequences} × ${length} tokens`
    report.add(figureOf('training step', shape, value, 'tokens/s', ceiling, answer.name, theirs), '≥ 45 % of the peak')
  } finally {
    optimizer.dispose()
    model.dispose()
  }
}
