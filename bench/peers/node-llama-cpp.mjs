// A peer of the decoding benchmark, in a process of its own: node-llama-cpp on the same weights, threads and prompts.
//   node node-llama-cpp.mjs FOLDER-WITH-node_modules THREADS MODEL.gguf
// answers as answer-tasks.mjs says.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { answerTasks } from './answer-tasks.mjs'

const [folder, threadsText, modelPath] = process.argv.slice(2)
const threads = Number(threadsText)
const entry = createRequire(join(folder, 'package.json')).resolve('node-llama-cpp')
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(entry).href)
const version = JSON.parse(readFileSync(join(dirname(entry), '..', 'package.json'), 'utf8')).version

const llama = await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error, maxThreads: threads })
const model = await llama.loadModel({ modelPath })

await answerTasks(`node-llama-cpp ${version}`, async (prompts, room) => {
  const contextSize = Math.max(...prompts.map((prompt) => prompt.length)) + room + 8
  const context = await model.createContext({ contextSize, sequences: prompts.length, threads, batchSize: 512 })
  const sequences = prompts.map(() => context.getSequence())
  const options = { temperature: 0, yieldEogToken: true }
  return {
    async run(count) {
      await Promise.all(sequences.map((sequence) => sequence.clearHistory()))
      return await Promise.all(
        sequences.map(async (sequence, i) => {
          const tokens = []
          for await (const token of sequence.evaluate(prompts[i], options)) if (tokens.push(token) >= count) break
          return tokens
        }),
      )
    },
    close: () => context.dispose(),
  }
})
