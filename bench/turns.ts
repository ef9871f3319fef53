/** Figures that are compared, measured in turns: no machine stays equally fast, and each should meet it as the others do. */

/** What it took to continue prompts by some tokens. */
export interface Run {
  readonly seconds: number
  /** Seconds in which the JavaScript thread computed. */
  readonly busy?: number
}

/** Continues its prompts by so many tokens, and leaves the processors alone then. `undefined`: it can't, and will not again. */
export type Contestant = (tokens: number) => Promise<Run | undefined>

export interface Lengths {
  /** Tokens of a short and of a long answer; between them lie the steps that are measured. 0: the long answer is, with its prompt. */
  readonly few: number
  readonly many: number
  readonly repeats: number
}

/** Of a step, or of a whole answer where `few` is 0. */
export interface Cost {
  readonly seconds: number
  /** Part of it in which the JavaScript thread computed. */
  readonly busy: number
}

/**
 * A long answer less a short one leaves the tokens between them, without prompt and set-up; of each the best of the repeats. `undefined` where a
 * contestant had no answer.
 */
export async function costsInTurns(
  contestants: readonly Contestant[],
  { few, many, repeats }: Lengths,
): Promise<(Cost | undefined)[]> {
  const none = { seconds: Number.POSITIVE_INFINITY, busy: Number.POSITIVE_INFINITY }
  const best = contestants.map(() => ({ short: few > 0 ? none : { seconds: 0, busy: 0 }, long: none }))
  const failed = new Set<number>()
  for (let repeat = 0; repeat <= repeats; repeat++) {
    for (const [index, contestant] of contestants.entries()) {
      const lengths = repeat === 0 ? [Math.max(1, few)] : few > 0 ? [few, many] : [many]
      for (const tokens of lengths) {
        const run = failed.has(index) ? undefined : await contestant(tokens)
        if (run === undefined) failed.add(index)
        // The first one warms up.
        const of = best[index]
        if (run === undefined || of === undefined || repeat === 0) continue
        const which = tokens === many ? 'long' : 'short'
        of[which] = {
          seconds: Math.min(of[which].seconds, run.seconds),
          busy: Math.min(of[which].busy, run.busy ?? 0),
        }
      }
    }
  }
  return best.map(({ short, long }, index) => {
    if (failed.has(index)) return undefined
    const seconds = long.seconds - short.seconds
    return { seconds: few > 0 ? seconds / (many - few) : seconds, busy: (long.busy - short.busy) / seconds }
  })
}
