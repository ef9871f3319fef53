// A peer of the decoding benchmark, in a process of its own: transformers.js (onnxruntime) on the same weights, threads and prompts.
//   node transformers-js.mjs FOLDER-WITH-node_modules MODEL-FOLDER '{"threads":2,"tasks":[{"prompts":[[…]],"few":4,"many":36,"repeats":3}]}'
// prints what node-llama-cpp.mjs prints. Prompts of a task are equally long: nothing is padded.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { measureTask } from './measure-task.mjs'

const [folder, modelFolder, json] = process.argv.slice(2)
const { threads, tasks } = JSON.parse(json)
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
  session_options: { intraOpNumThreads: threads, interOpNumThreads: 1 },
})

async function measure(task) {
  const { prompts } = task
  const shape = [prompts.length, prompts[0].length]
  if (prompts.some((prompt) => prompt.length !== shape[1])) throw new Error('prompts of different lengths')
  const inputs = new Tensor('int64', BigInt64Array.from(prompts.flat(), BigInt), shape)
  const attention_mask = new Tensor('int64', new BigInt64Array(inputs.size).fill(1n), shape)

  async function run(count) {
    const begin = performance.now()
    const all = await model.generate({ inputs, attention_mask, max_new_tokens: count, do_sample: false })
    const seconds = (performance.now() - begin) / 1000
    return { seconds, tokens: all.tolist().map((sequence) => sequence.slice(shape[1]).map(Number)) }
  }

  return measureTask(task, run)
}

const results = []
for (const task of tasks) results.push(await measure(task))
process.stdout.write(`${JSON.stringify({ version, tasks: results })}\n`)
// Its threads would keep the process alive.
process.exit(0)
