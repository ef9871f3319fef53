import { resolveDecoding } from '../decode/index.js'
import { translateDocuments } from './documents.js'
import { decodingOptions, requireText, type TranslateOptions, type Translation } from './options.js'
import { promptIds, type Translator } from './translate.js'

/** Batches that a window of texts fills: enough to sort by length, few enough to keep memory and delay small. */
const WINDOW_BATCHES = 4

/** How long a window waits for one more text, ms: a slow source, such as a person at a terminal, gets its answers at once. */
const PATIENCE = 10

/**
 * Translates what a source delivers, window by window, in order. In memory are one window and the one text that is being waited for.
 */
export async function* translateSource(
  translator: Translator,
  texts: Iterable<string> | AsyncIterable<string>,
  options: TranslateOptions,
): AsyncGenerator<Translation, void, undefined> {
  const decoding = resolveDecoding(decodingOptions(options), translator.model.config)
  const budget = WINDOW_BATCHES * decoding.batchTokens
  const source = new Lookahead(texts, options.signal)
  let firstIndex = 0
  try {
    for (;;) {
      const window: string[] = []
      let tokens = 0
      while (tokens < budget) {
        const next = window.length === 0 ? await source.next() : await source.nextWithin(PATIENCE)
        if (next === undefined) break
        const text = requireText('texts', next)
        window.push(text)
        tokens += promptIds(translator, text, options).length + decoding.maxNewTokens
      }
      if (window.length === 0) return
      yield* await translateDocuments(translator, window, options, firstIndex)
      firstIndex += window.length
    }
  } finally {
    source.close()
  }
}

/** An iterator whose next element can be waited for with a limit. */
class Lookahead {
  readonly #iterator: Iterator<string> | AsyncIterator<string>
  readonly #signal: AbortSignal | undefined
  #pending: Promise<IteratorResult<string>> | undefined
  #ended = false

  constructor(texts: Iterable<string> | AsyncIterable<string>, signal: AbortSignal | undefined) {
    this.#iterator = Symbol.asyncIterator in texts ? texts[Symbol.asyncIterator]() : texts[Symbol.iterator]()
    this.#signal = signal
  }

  /** The next element; undefined at the end. */
  async next(): Promise<string | undefined> {
    return this.#take(await this.#race(undefined))
  }

  /** The next element if it comes within so many milliseconds; otherwise undefined, and it is kept for the next call. */
  async nextWithin(milliseconds: number): Promise<string | undefined> {
    const result = await this.#race(milliseconds)
    return result === undefined ? undefined : this.#take(result)
  }

  close(): void {
    if (this.#ended) return
    this.#ended = true
    // Not waited for: an async generator answers return() only after the next() that is pending, which may never come.
    const closing = Promise.resolve(this.#iterator.return?.())
    closing.catch(() => {})
    this.#pending?.catch(() => {})
  }

  #take(result: IteratorResult<string> | undefined): string | undefined {
    this.#pending = undefined
    if (result === undefined || result.done === true) {
      this.#ended = true
      return undefined
    }
    return result.value
  }

  async #race(milliseconds: number | undefined): Promise<IteratorResult<string> | undefined> {
    const signal = this.#signal
    signal?.throwIfAborted()
    if (this.#ended) return { done: true, value: undefined }
    this.#pending ??= Promise.resolve(this.#iterator.next())
    let timer: NodeJS.Timeout | undefined
    let onAbort: (() => void) | undefined
    const others: Promise<undefined>[] = []
    if (milliseconds !== undefined) {
      others.push(
        new Promise((resolve) => {
          timer = setTimeout(resolve, milliseconds, undefined)
        }),
      )
    }
    if (signal !== undefined) {
      others.push(
        new Promise((_, reject) => {
          onAbort = () => reject(signal.reason)
          signal.addEventListener('abort', onAbort, { once: true })
        }),
      )
    }
    try {
      return await Promise.race([this.#pending, ...others])
    } catch (error) {
      // A source that failed is over; closing it is its own business.
      if (signal?.aborted !== true) this.#ended = true
      throw error
    } finally {
      clearTimeout(timer)
      if (onAbort !== undefined) signal?.removeEventListener('abort', onAbort)
    }
  }
}
