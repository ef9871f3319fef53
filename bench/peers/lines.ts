/** A peer as a child process that is asked in turns with the figures of ours: a JSON request a line, a JSON answer a line. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { messageOf } from '../../lib/errors.js'

export interface PeerAnswer {
  /** What was run, for the table: `torch.matmul 2.8`. */
  readonly name: string
  /** Of one call; null: it has no such thing, and `reason` says why. */
  readonly seconds: number | null
  readonly reason?: string
  /** Of what continues prompts: the tokens of each. */
  readonly tokens?: readonly (readonly number[])[]
}

export interface LinePeerOptions {
  readonly environment?: NodeJS.ProcessEnv
  /** Seconds. A peer that takes longer for an answer is ended, and has no figure. Default 120. */
  readonly patience?: number
  /** Seconds for which its threads may wait for more work in a loop, where the system does not tell (but Linux). Default 0.25. */
  readonly rest?: number
}

/** Seconds. Who computes for longer without being asked is not waited for. */
const longestRest = 10

/** A program of bench/peers. This file may be compiled, in dist/bench/peers; they stay where their source is. */
export function peerProgram(file: string): string {
  const beside = fileURLToPath(new URL(file, import.meta.url))
  return existsSync(beside) ? beside : fileURLToPath(new URL(`../../../bench/peers/${file}`, import.meta.url))
}

export class LinePeer implements AsyncDisposable {
  readonly #name: string
  readonly #patience: number
  readonly #rest: number
  readonly #child: ChildProcess
  readonly #answers: AsyncIterator<string>
  readonly #ended: Promise<void>
  /** What it said last besides answers. */
  #said = ''
  #reason: string | undefined

  /** `name` is what an answer is called that never came. */
  constructor(
    name: string,
    command: string,
    args: readonly string[],
    { environment = {}, patience = 120, rest = 0.25 }: LinePeerOptions = {},
  ) {
    this.#name = name
    this.#patience = patience
    this.#rest = rest
    const child = spawn(command, args, { stdio: 'pipe', env: { ...process.env, ...environment } })
    this.#child = child
    this.#ended = new Promise((resolve) => {
      child.on('error', (error) => {
        this.#reason ??= error.message
        resolve()
      })
      child.on('close', (code, signal) => {
        this.#reason ??= howItEnded(code, signal, this.#said)
        resolve()
      })
    })
    // Writing to a process that has ended is an error of the pipe, and no news.
    child.stdin.on('error', () => {})
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#said = (this.#said + text).slice(-10_000)
    })
    this.#answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  }

  /**
   * Comes back when the peer is idle again: threads of some libraries wait for more work in a loop, onnxruntime's for seconds, and would slow down
   * what is measured next. Never throws: a peer that is missing or that fails has no figure.
   */
  async ask(request: Readonly<Record<string, unknown>>): Promise<PeerAnswer> {
    const answer = await this.#answer(request)
    if (answer.seconds !== null) await this.#settle()
    return answer
  }

  async #answer(request: Readonly<Record<string, unknown>>): Promise<PeerAnswer> {
    if (this.#reason !== undefined) return this.#none()
    this.#child.stdin?.write(`${JSON.stringify(request)}\n`)
    const late = setTimeout(() => {
      this.#reason = `no answer within ${this.#patience} s`
      this.#child.kill('SIGKILL')
    }, this.#patience * 1000)
    try {
      while (true) {
        const { value, done } = await this.#answers.next()
        if (done === true) {
          await this.#ended
          return this.#none()
        }
        // Some libraries greet on stdout.
        if (value.startsWith('{')) return JSON.parse(value) as PeerAnswer
      }
    } catch (error) {
      this.#reason ??= `not an answer: ${messageOf(error)}`
      return this.#none()
    } finally {
      clearTimeout(late)
    }
  }

  async #settle(): Promise<void> {
    const processorTime = (): number | undefined => ticksOf(this.#child.pid)
    let last = processorTime()
    if (last === undefined) return await wait(this.#rest * 1000)
    const end = performance.now() + longestRest * 1000
    while (performance.now() < end) {
      await wait(50)
      const now = processorTime()
      if (now === last) return
      last = now
    }
  }

  #none(): PeerAnswer {
    return { name: this.#name, seconds: null, reason: this.#reason ?? 'no reason given' }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin?.end()
    await this.#ended
  }
}

/** Processor time of all threads of a process, in hundredths of a second; `undefined` where the system does not tell. */
function ticksOf(pid: number | undefined): number | undefined {
  try {
    // Behind the name, which may be anything in parentheses; utime and stime are the 14th and 15th field.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(')').at(-1)?.trim().split(' ') ?? []
    return Number(fields[11]) + Number(fields[12])
  } catch {
    return undefined
  }
}

/** With the last line of `said` that names an error, or the last one. */
function howItEnded(code: number | null, signal: string | null, said: string): string {
  const lines = said.split('\n').filter((line) => line.trim() !== '')
  const last = lines.findLast((line) => /error/i.test(line)) ?? lines.at(-1) ?? ''
  return `${signal === null ? `exit status ${code}` : `ended by ${signal}`}${last === '' ? '' : `: ${last.trim()}`}`
}
