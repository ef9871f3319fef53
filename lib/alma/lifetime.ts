import { setMaxListeners } from 'node:events'
import { optionError } from '../decode/index.js'
import { AlmaError } from '../errors.js'

/** Ends all calls of one object when it is disposed, besides what each call's own signal does. */
export class Lifetime {
  readonly #what: string
  readonly #ended = new AbortController()

  /** @param what begins the message of ERR_ALMA_DISPOSED. */
  constructor(what: string) {
    this.#what = what
    // One for each call in progress, however many those are.
    setMaxListeners(0, this.#ended.signal)
  }

  get ended(): boolean {
    return this.#ended.signal.aborted
  }

  /** @throws AlmaError ERR_ALMA_DISPOSED after {@link end}. */
  check(): void {
    if (this.ended) throw this.#error()
  }

  end(): void {
    this.#ended.abort(this.#error())
  }

  /**
   * A signal that is aborted by the end of the lifetime or by `signal`, and what detaches it from both when the call is over:
   * AbortSignal.any() would leave an entry with each long-lived signal in some versions of Node.js 20.
   */
  call(signal: AbortSignal | undefined): { readonly signal: AbortSignal; [Symbol.dispose](): void } {
    this.check()
    if (signal !== undefined && !(signal instanceof AbortSignal)) throw optionError('signal', 'an AbortSignal', signal)
    signal?.throwIfAborted()
    const controller = new AbortController()
    const onEnd = (): void => controller.abort(this.#ended.signal.reason)
    const onAbort = (): void => controller.abort(signal?.reason)
    this.#ended.signal.addEventListener('abort', onEnd, { once: true })
    signal?.addEventListener('abort', onAbort, { once: true })
    return {
      signal: controller.signal,
      [Symbol.dispose]: () => {
        this.#ended.signal.removeEventListener('abort', onEnd)
        signal?.removeEventListener('abort', onAbort)
      },
    }
  }

  #error(): AlmaError {
    return new AlmaError('ERR_ALMA_DISPOSED', `${this.#what} was disposed`)
  }
}
