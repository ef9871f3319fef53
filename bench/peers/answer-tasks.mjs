// How a process that continues prompts answers task-peer.ts, a JSON request and an answer a line:
//   {"prompts": [[…], …], "room": 36}   what is continued from now on, by at most `room` tokens
//   {"count": 36}                       continues it by so many; {"name", "seconds", "tokens": [[…], …]}
// `open(prompts, room)` gives { run(count) → tokens, close() }; both may take their time.
import { createInterface } from 'node:readline'

export async function answerTasks(name, open) {
  let task
  for await (const line of createInterface({ input: process.stdin })) {
    const { prompts, room, count } = JSON.parse(line)
    const answer = { name, seconds: 0 }
    if (prompts !== undefined) {
      await task?.close()
      task = await open(prompts, room)
    } else {
      const begin = performance.now()
      answer.tokens = await task.run(count)
      answer.seconds = (performance.now() - begin) / 1000
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`)
  }
  // Threads of a library would keep the process alive.
  process.exit(0)
}
