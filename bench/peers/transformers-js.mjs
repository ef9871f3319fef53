// A peer of the decoding benchmark, in a process of its own: transformers.js (onnxruntime) on the same weights, threads and prompts.
//   node transformers-js.mjs FOLDER-WITH-node_modules THREADS MODEL-FOLDER
// answers as answer-tasks.mjs says. Prompts of a task are equally long: nothing is padded.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { answerTasks } from './answer-tasks.mjs'

const [folder, threads, modelFolder] = process.argv.slice(2)
const require = createRequire(join(folder, 'package.json'))
const versionOf = (entry) => JSON.parse(readFileSync(join(dirname(entry), '..', 'package.json'), 'utf8')).version
const entry = require.resolve('@huggingface/transformers')
const version = `${versionOf(entry)} (onnxruntime ${versionOf(createRequire(entry).resolve('onnxruntime-node'))})`

const { AutoModelForCausalLM, Tensor, env } = require('@huggingface/transformers')
env.allowRemoteModels = false
env.useFSCache = false
const model = await AutoModelForCausalLM.from_pretrained(modelFolder, {
  dtype: 'fp32',
  device: 'cpu',
  local_files_only: true,
  use_external_data_format: true,
  session_options: { intraOpNumThreads: Number(threads), interOpNumThreads: 1 },
})

await answerTasks(`transformers.js ${version}`, async (prompts) => {
  const shape = [prompts.length, prompts[0].length]
  if (prompts.some((prompt) => prompt.length !== shape[1])) throw new Error('prompts of different lengths')
  const inputs = new Tensor('int64', BigInt64Array.from(prompts.flat(), BigInt), shape)
  const attention_mask = new Tensor('int64', new BigInt64Array(inputs.size).fill(1n), shape)
  return {
    async run(count) {
      const all = await model.generate({ inputs, attention_mask, max_new_tokens: count, do_sample: false })
      return all.tolist().map((sequence) => sequence.slice(shape[1]).map(Number))
    },
    close() {},
  }
})
