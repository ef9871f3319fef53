import { setImmediate } from 'node:timers/promises'

/** Longest stretch of JavaScript work between two turns of the event loop, ms: an HTTP server in the same process keeps answering. */
const LONGEST_TURN = 4

/** Lets the event loop turn during long work that only awaits promises: those alone never give way to timers and sockets. */
export class EventLoopBudget {
  #begin = performance.now()

  async breathe(): Promise<void> {
    if (performance.now() - this.#begin < LONGEST_TURN) return
    await setImmediate()
    this.#begin = performance.now()
  }
}
