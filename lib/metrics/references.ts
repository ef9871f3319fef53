/** The checks that every metric makes on its texts and options, and the references sorted by line. */
import { AlmaError } from '../errors.js'
import type { ReferenceCount } from './signature.js'

/** One stream of references, or several; null where a line has no reference in that stream. */
export type References = readonly string[] | readonly (readonly (string | null)[])[]

export interface ReferenceSets {
  /** The references of each line, at least one. */
  readonly lines: readonly (readonly string[])[]
  readonly count: ReferenceCount
}

/**
 * @throws AlmaError ERR_ALMA_OPTION when there is no hypothesis, a stream has another length, or a line no reference
 */
export function referenceSets(hypotheses: readonly string[], references: References): ReferenceSets {
  if (hypotheses.length === 0) throw new AlmaError('ERR_ALMA_OPTION', 'there are no hypotheses to score')
  const streams = isSingleStream(references) ? [references] : references
  if (streams.length === 0) throw new AlmaError('ERR_ALMA_OPTION', 'there are no references to score against')
  for (const [index, stream] of streams.entries()) {
    if (stream.length !== hypotheses.length) {
      const sizes = `has ${stream.length} lines, but there are ${hypotheses.length} hypotheses`
      throw new AlmaError('ERR_ALMA_OPTION', `reference stream ${index} ${sizes}`)
    }
  }
  const lines = hypotheses.map((hypothesis, line) => {
    requireText(hypothesis, `hypothesis ${line}`)
    const present: string[] = []
    for (const stream of streams) {
      const reference = stream[line]
      if (reference === null || reference === undefined) continue
      requireText(reference, `reference ${line}`)
      present.push(reference)
    }
    if (present.length === 0) throw new AlmaError('ERR_ALMA_OPTION', `line ${line} has no reference`)
    return present
  })
  const first = lines[0]?.length ?? 0
  return { lines, count: lines.every((line) => line.length === first) ? first : 'var' }
}

function isSingleStream(references: References): references is readonly string[] {
  return typeof references[0] === 'string'
}

function requireText(text: unknown, what: string): void {
  if (typeof text !== 'string') throw new AlmaError('ERR_ALMA_OPTION', `${what} is not a string but ${typeof text}`)
}

/** The references of one sentence as streams of one line. */
export function sentenceStreams(references: string | readonly string[]): readonly (readonly string[])[] {
  return typeof references === 'string' ? [[references]] : references.map((reference) => [reference])
}

/** @throws AlmaError ERR_ALMA_OPTION that names an option which the metric does not have */
export function requireKnownOptions(metric: string, options: object, known: readonly string[]): void {
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue
    throw new AlmaError('ERR_ALMA_OPTION', `${metric} has no option ${name}; its options are ${known.join(', ')}`)
  }
}

/** @throws AlmaError ERR_ALMA_OPTION */
export function requireInteger(name: string, value: number, least: number): void {
  if (!Number.isInteger(value) || value < least) {
    throw new AlmaError('ERR_ALMA_OPTION', `${name} must be an integer of at least ${least}, not ${value}`)
  }
}
