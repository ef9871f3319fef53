/** A peer as a child process that is asked in turns with the figures of ours: a JSON request a line, a JSON answer a line. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export interface PeerAnswer {
  /** What was run, for the table: `torch.matmul 2.8`. */
  readonly name: string
  /** Of one call; null: it has no such thing, and `reason` says why. */
  readonly seconds: number | null
  readonly reason?: string
}

/** A program of bench/peers. This file may be compiled, in dist/bench/peers; they stay where their source is. */
export function peerProgram(file: string): string {
  const beside = fileURLToPath(new URL(file, import.meta.url))
  return existsSync(beside) ? beside : fileURLToPath(new URL(`../../../bench/peers/${file}`, import.meta.url))
}

/** A peer that takes longer for an answer is ended, and has no figure. */
const patience = 120_000

export class LinePeer implements AsyncDisposable {
  readonly #name: string
  readonly #child: ChildProcess
  readonly #answers: AsyncIterator<string>
  #reason: string | undefined

  /** `name` is what an answer is called that never came. */
  constructor(name: string, command: string, args: readonly string[], environment: NodeJS.ProcessEnv = {}) {
    this.#name = name
    this.#child = spawn(command, args, {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, ...environment },
    })
    this.#child.on('error', (error) => {
      this.#reason = error.message
    })
    // Writing to a process that has ended is an error of the pipe, and no news.
    this.#child.stdin?.on('error', () => {})
    const { stdout } = this.#child
    if (stdout === null) throw new Error('the peer has no output')
    this.#answers = createInterface({ input: stdout })[Symbol.asyncIterator]()
  }

  /** Never throws: a peer that is missing or that fails has no figure. */
  async ask(request: Readonly<Record<string, unknown>>): Promise<PeerAnswer> {
    const none = (reason: string): PeerAnswer => ({ name: this.#name, seconds: null, reason })
    if (this.#reason !== undefined) return none(this.#reason)
    this.#child.stdin?.write(`${JSON.stringify(request)}\n`)
    const late = setTimeout(() => {
      this.#reason = `no answer within ${patience / 1000} s`
      this.#child.kill('SIGKILL')
    }, patience)
    const { value, done } = await this.#answers.next()
    clearTimeout(late)
    if (done === true) return none(this.#reason ?? `${this.#name} has ended`)
    try {
      return JSON.parse(value) as PeerAnswer
    } catch {
      return none(`not an answer: ${value}`)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin?.end()
    if (this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null) {
      await new Promise((resolve) => this.#child.once('exit', resolve))
    }
  }
}
