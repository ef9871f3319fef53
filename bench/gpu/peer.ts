/** PyTorch on the same GPU, as a child process that is asked in turns with the figures of ours: bench/peers/torch_peer.py. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export interface PeerRequest {
  readonly op: string
  readonly [argument: string]: number | string | boolean
}

export interface PeerAnswer {
  /** What was run, for the table: `torch.matmul 2.8`. */
  readonly name: string
  /** Of one call; null: it has no such thing, and `reason` says why. */
  readonly seconds: number | null
  readonly reason?: string
}

// This program is compiled into dist/bench/gpu; Python's stays where its source is.
const program = fileURLToPath(new URL('../../../bench/peers/torch_peer.py', import.meta.url))

export class TorchPeer implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #answers: AsyncIterator<string>
  #reason: string | undefined

  constructor(python = process.env.ALMA_PYTHON ?? 'python3') {
    this.#child = spawn(python, ['-u', program], { stdio: ['pipe', 'pipe', 'inherit'] })
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
  async ask(request: PeerRequest): Promise<PeerAnswer> {
    const none = (reason: string): PeerAnswer => ({ name: 'PyTorch', seconds: null, reason })
    if (this.#reason !== undefined) return none(this.#reason)
    this.#child.stdin?.write(`${JSON.stringify(request)}\n`)
    const { value, done } = await this.#answers.next()
    if (done === true) return none(this.#reason ?? 'PyTorch has ended')
    try {
      return JSON.parse(value) as PeerAnswer
    } catch {
      return none(`not an answer: ${value}`)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin?.end()
    if (this.#child.exitCode === null && this.#reason === undefined) {
      await new Promise((resolve) => this.#child.once('exit', resolve))
    }
  }
}
