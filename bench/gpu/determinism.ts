/** `node dist/bench/gpu/determinism.js [--device NAME]`: every op twice, and training steps twice, from the same inputs: the same bits. */
import { parseArgs } from 'node:util'
import { createLlama, normalizeConfig } from '../../lib/model/index.js'
import { Device, ops, Tensor } from '../../lib/runtime/index.js'
import { Optimizer } from '../../lib/train/index.js'
import { syntheticIds } from '../models.js'
import { gpuCases } from './cases.js'

/** Elements of a tensor that are compared: enough to see every tile of any kernel. */
const compared = 16 * 2 ** 20

async function sameBits(name: string, body: () => Promise<readonly Uint8Array[]>): Promise<boolean> {
  const first = await body()
  const second = await body()
  const different = first.findIndex((bytes, i) => Buffer.compare(bytes, second[i] ?? new Uint8Array()) !== 0)
  process.stdout.write(`${different < 0 ? 'same bits' : `DIFFERENT (tensor ${different})`}  ${name}\n`)
  return different < 0
}

async function bytesOf(tensor: Tensor): Promise<Uint8Array> {
  const count = Math.min(tensor.count, compared)
  using part = tensor.view([count])
  return new Uint8Array((await part.read()).buffer)
}

async function trainingSteps(device: Device): Promise<readonly Uint8Array[]> {
  const full = device.name.startsWith('cuda')
  const config = normalizeConfig({
    vocabSize: full ? 32_000 : 64,
    hiddenSize: full ? 1024 : 64,
    intermediateSize: full ? 2816 : 96,
    numHiddenLayers: 2,
    numAttentionHeads: full ? 16 : 2,
    numKeyValueHeads: full ? 8 : 1,
  })
  const model = createLlama(device, config, { dtype: 'bf16' })
  const optimizer = new Optimizer(model)
  using gradScale = Tensor.from(device, [1e-3])
  using lossSum = Tensor.zeros(device, [1], 'f32')
  try {
    const inputIds = [full ? 300 : 9, full ? 512 : 14].map((length, i) => syntheticIds(config, length, i + 1))
    for (let step = 0; step < 2; step++) {
      optimizer.zeroGradients()
      ops.fill(lossSum, 0)
      model.forwardBackward({ inputIds, labels: inputIds }, gradScale, lossSum)
      optimizer.step(1e-3)
    }
    const results = [await bytesOf(lossSum)]
    for (const [, tensor] of model.namedParameters()) results.push(await bytesOf(tensor))
    return results
  } finally {
    optimizer.dispose()
    model.dispose()
  }
}

const { values } = parseArgs({ options: { device: { type: 'string', default: 'cuda' } } })
await using device = Device.open(values.device)
let failures = 0
for (const { name, shape, prepare } of gpuCases(device.name.startsWith('cuda') ? 'full' : 'tiny')) {
  const same = await sameBits(`${name}, ${shape}`, async () => {
    const prepared = prepare(device)
    try {
      prepared.run()
      const results: Uint8Array[] = []
      for (const tensor of prepared.tensors) results.push(await bytesOf(tensor))
      return results
    } finally {
      prepared.dispose()
    }
  })
  if (!same) failures++
}
if (!(await sameBits('two training steps', () => trainingSteps(device)))) failures++
process.stdout.write(`${failures === 0 ? 'all bits are the same' : `${failures} DIFFER`}\n`)
process.exitCode = failures === 0 ? 0 : 1
