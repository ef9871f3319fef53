/** The ragged sequences of a model fixture, and what is expected of each token. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { LoadedTensor } from './safetensors.js'
import { loadTensors } from './safetensors.js'

export interface ModelExpectation {
  /** `inputs.safetensors`, or `inputs_2.safetensors`, … */
  readonly file: string
  readonly inputIds: number[][]
  readonly labels: number[][]
  /** Of the real tokens, sequence after sequence: [tokens × vocabSize]. */
  readonly logits: Float32Array
  /** Of each sequence: log P(token t | tokens before t), 0 for the first. */
  readonly tokenLogprobs: number[][]
  readonly loss: number
  readonly gradients: ReadonlyMap<string, Float32Array>
}

/** Every pair of inputs*.safetensors and expected*.safetensors in a folder, in the right-padded layout. */
export function* modelExpectations(folder: string): Generator<ModelExpectation> {
  const files = readdirSync(folder).filter((name) => /^inputs.*\.safetensors$/.test(name))
  for (const file of files.sort()) {
    const inputs = loadTensors(join(folder, file))
    const expected = loadTensors(join(folder, file.replace('inputs', 'expected')))
    const mask = rows(tensorOf(inputs, 'right.attention_mask'))
    const real = (name: string, source = inputs): number[][] =>
      rows(tensorOf(source, name)).map((row, r) => row.filter((_, t) => mask[r]?.[t] === 1))
    const gradients = new Map<string, Float32Array>()
    for (const [name, { data }] of expected) {
      if (name.startsWith('grad.')) gradients.set(name.slice('grad.'.length), data as Float32Array)
    }
    const logits = tensorOf(expected, 'right.logits')
    const vocab = logits.shape[2] ?? 0
    const flatMask = mask.flat()
    yield {
      file,
      inputIds: real('right.input_ids'),
      labels: real('right.labels'),
      logits: (logits.data as Float32Array).filter((_, i) => flatMask[Math.floor(i / vocab)] === 1),
      tokenLogprobs: real('right.token_logprobs', expected),
      loss: tensorOf(expected, 'loss').data[0] ?? Number.NaN,
      gradients,
    }
  }
}

function tensorOf(tensors: ReadonlyMap<string, LoadedTensor>, name: string): LoadedTensor {
  const found = tensors.get(name)
  if (found === undefined) throw new Error(`the fixture has no tensor ${name}`)
  return found
}

function rows({ shape, data }: LoadedTensor): number[][] {
  const [count = 0, length = 0] = shape
  return Array.from({ length: count }, (_, r) => [...data.subarray(r * length, (r + 1) * length)])
}
