// A peer of the decoding benchmark, in a process of its own: node-llama-cpp on the same weights, threads and prompts.
//   node node-llama-cpp.mjs FOLDER-WITH-node_modules MODEL.gguf '{"threads":2,"tasks":[{"prompts":[[…]],"few":4,"many":36,"repeats":3}]}'
// prints {"version":"…","tasks":[{"seconds":…,"tokens":[[…]]}]}, as measure-task.mjs measures.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { measureTask } from './measure-task.mjs'

const [folder, modelPath, json] = process.argv.slice(2)
const { threads, tasks } = JSON.parse(json)
const entry = createRequire(join(folder, 'package.json')).resolve('node-llama-cpp')
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(entry).href)
const version = JSON.parse(readFileSync(join(dirname(entry), '..', 'package.json'), 'utf8')).version

const llama = await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error, maxThreads: threads })
const model = await llama.loadModel({ modelPath })

async function measure(task) {
  const { prompts, many } = task
  const contextSize = Math.max(...prompts.map((prompt) => prompt.length)) + many + 8
  const context = await model.createContext({ contextSize, sequences: prompts.length, threads, batchSize: 512 })
  const sequences = prompts.map(() => context.getSequence())

  async function run(count) {
    await Promise.all(sequences.map((sequence) => sequence.clearHistory()))
    const begin = performance.now()
    const tokens = await Promise.all(
      sequences.map(async (sequence, i) => {
        const out = []
        const options = { temperature: 0, yieldEogToken: true }
        for await (const token of sequence.evaluate(prompts[i], options)) if (out.push(token) >= count) break
        return out
      }),
    )
    return { seconds: (performance.now() - begin) / 1000, tokens }
  }

  const result = await measureTask(task, run)
  await context.dispose()
  return result
}

const results = []
for (const task of tasks) results.push(await measure(task))
process.stdout.write(`${JSON.stringify({ version, tasks: results })}\n`)
// Its threads would keep the process alive.
process.exit(0)
