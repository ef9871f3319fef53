/** Mixes several sources by given probabilities: ALMA's ratios of languages in stage 1. */
import { AlmaError } from '../errors.js'
import { Random, type RandomState } from './random.js'

/** Opens a source for its n-th pass, from 0, so that each pass can be shuffled with a seed of its own. */
export type RepeatableSource<T> = (pass: number) => AsyncIterable<T>

export interface InterleaveOptions {
  /** One for each source, in any unit: only their ratios count. Default: all equal. */
  readonly probabilities?: readonly number[]
  readonly seed: number
  /** Goes on after the last item of the run whose {@link Interleaved.state} this is. */
  readonly state?: InterleaveState
}

/** Plain data for a checkpoint. */
export interface InterleaveState {
  readonly random: RandomState
  /** Of each source: passes begun before this one, and items taken in this pass. */
  readonly sources: readonly { readonly pass: number; readonly taken: number }[]
}

/**
 * An endless-looking mix that ends when every source has come to its end at least once, as the stopping strategy
 * `all_exhausted` of Hugging Face datasets; sources that end earlier begin again. Iterate it once.
 */
export class Interleaved<T> implements AsyncIterable<{ readonly source: number; readonly item: T }> {
  readonly #sources: readonly RepeatableSource<T>[]
  readonly #cumulative: readonly number[]
  readonly #random: Random
  readonly #positions: { pass: number; taken: number }[]

  constructor(sources: readonly RepeatableSource<T>[], options: InterleaveOptions) {
    if (sources.length === 0) throw new AlmaError('ERR_ALMA_OPTION', 'interleave: expected at least one source')
    this.#sources = sources
    this.#cumulative = cumulativeProbabilities(options.probabilities ?? sources.map(() => 1), sources.length)
    const { state } = options
    if (state !== undefined && state.sources.length !== sources.length)
      throw new AlmaError(
        'ERR_ALMA_OPTION',
        `interleave: the saved state is of ${state.sources.length} sources, but there are ${sources.length}`,
      )
    this.#random = state === undefined ? new Random(options.seed) : Random.fromState(state.random)
    this.#positions = sources.map((_, i) => ({ pass: 0, taken: 0, ...state?.sources[i] }))
  }

  /** The position after the last item that was handed out. */
  state(): InterleaveState {
    return { random: this.#random.state(), sources: this.#positions.map((position) => ({ ...position })) }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<{ readonly source: number; readonly item: T }> {
    const open: (AsyncIterator<T> | undefined)[] = this.#sources.map(() => undefined)
    try {
      for (;;) {
        const source = this.#choose()
        const position = this.#positions[source] as { pass: number; taken: number }
        const iterator = open[source] ?? (await this.#open(source, position))
        open[source] = iterator
        let next = await iterator.next()
        if (next.done === true) {
          position.pass++
          position.taken = 0
          if (this.#positions.every(({ pass }) => pass > 0)) return
          const again = await this.#open(source, position)
          open[source] = again
          next = await again.next()
          if (next.done === true) throw new AlmaError('ERR_ALMA_CORPUS', `interleave: source ${source} has no items`)
        }
        position.taken++
        yield { source, item: next.value }
      }
    } finally {
      for (const iterator of open) await iterator?.return?.()
    }
  }

  #choose(): number {
    const at = this.#random.float()
    const index = this.#cumulative.findIndex((bound) => at < bound)
    return index < 0 ? this.#cumulative.length - 1 : index
  }

  async #open(source: number, { pass, taken }: { pass: number; taken: number }): Promise<AsyncIterator<T>> {
    const factory = this.#sources[source] as RepeatableSource<T>
    const iterator = factory(pass)[Symbol.asyncIterator]()
    for (let i = 0; i < taken; i++) {
      if ((await iterator.next()).done === true)
        throw new AlmaError(
          'ERR_ALMA_CORPUS',
          `interleave: source ${source} has become shorter than ${taken} items since the state was saved`,
        )
    }
    return iterator
  }
}

/** Mixes `sources` by probability; see {@link Interleaved}. */
export function interleave<T>(sources: readonly RepeatableSource<T>[], options: InterleaveOptions): Interleaved<T> {
  return new Interleaved(sources, options)
}

function cumulativeProbabilities(probabilities: readonly number[], count: number): number[] {
  if (probabilities.length !== count)
    throw new AlmaError(
      'ERR_ALMA_OPTION',
      `probabilities: expected ${count}, one for each source, got ${probabilities.length}`,
    )
  const wrong = probabilities.find((p) => !Number.isFinite(p) || p <= 0)
  // A source that is never chosen would never end, and neither would the mix.
  if (wrong !== undefined)
    throw new AlmaError('ERR_ALMA_OPTION', `probabilities: expected positive numbers, got ${wrong}`)
  const total = probabilities.reduce((sum, p) => sum + p, 0)
  let sum = 0
  return probabilities.map((p) => {
    sum += p / total
    return sum
  })
}
