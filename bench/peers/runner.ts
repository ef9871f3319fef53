/** A peer that is measured in turns: it has figures until it fails, and a reason from then on. */
import type { LinePeer } from './lines.js'

export interface PeerRun {
  readonly seconds: number
  /** Of what continues prompts: the tokens of each. */
  readonly tokens: readonly (readonly number[])[]
}

export class PeerRunner implements AsyncDisposable {
  readonly #label: string
  readonly #program: LinePeer | undefined
  readonly #hint: string
  #name: string
  #reason: string | undefined

  /** @param program or why there is none. @param hint what is said behind the reason of a failure. */
  constructor(label: string, program: LinePeer | string, hint = '') {
    this.#label = label
    this.#name = label
    this.#program = typeof program === 'string' ? undefined : program
    this.#reason = typeof program === 'string' ? program : undefined
    this.#hint = hint
  }

  /** With its version, once it has answered. */
  get name(): string {
    return this.#name
  }

  /** Why there are no figures, or no more of them; for people. */
  get reason(): string | undefined {
    return this.#reason === undefined ? undefined : `${this.#label}: ${this.#reason}`
  }

  /** Never throws. `undefined`: there is a reason. */
  protected async ask(request: Readonly<Record<string, unknown>>): Promise<PeerRun | undefined> {
    if (this.#reason !== undefined || this.#program === undefined) return undefined
    const { name, seconds, reason, tokens = [] } = await this.#program.ask(request)
    if (seconds === null) {
      this.#reason = `no figures, ${reason ?? 'no reason given'}${this.#hint}`
      return undefined
    }
    this.#name = name
    return { seconds, tokens }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#program?.[Symbol.asyncDispose]()
  }
}
