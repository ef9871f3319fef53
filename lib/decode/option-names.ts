/** Options as users give them: names are checked, so that a misspelt one is an error and not silently without effect. */
import { AlmaError } from '../errors.js'
import { describe } from '../files/json.js'

/**
 * @param where names the call in the message, e.g. `translate`.
 * @throws AlmaError ERR_ALMA_OPTION naming the option that is meant, or all that there are.
 */
export function requireKnownOptions(where: string, options: object, known: readonly string[]): void {
  if (typeof options !== 'object' || options === null) {
    throw new AlmaError('ERR_ALMA_OPTION', `${where}: expected an object with options, got ${describe(options)}`)
  }
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue
    const meant = nearestName(name, known)
    const hint = meant === undefined ? `the options are ${known.join(', ')}` : `did you mean "${meant}"?`
    throw new AlmaError('ERR_ALMA_OPTION', `${where}: unknown option "${name}"; ${hint}`)
  }
}

export function optionError(name: string, expected: string, got: unknown): AlmaError {
  return new AlmaError('ERR_ALMA_OPTION', `${name}: expected ${expected}, got ${describe(got)}`)
}

export function requireInteger(name: string, value: unknown, least: number, most = Number.MAX_SAFE_INTEGER): number {
  if (Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most) return value as number
  const range = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`
  throw optionError(name, `an integer ${range}`, value)
}

export function requireBoolean(name: string, value: unknown): boolean {
  if (typeof value === 'boolean') return value
  throw optionError(name, 'true or false', value)
}

export function requireNumber(name: string, value: unknown, is: (value: number) => boolean, expected: string): number {
  if (typeof value === 'number' && Number.isFinite(value) && is(value)) return value
  throw optionError(name, expected, value)
}

/** The known name that `name` was meant to be: the same in another spelling (`max_new_tokens`), or few letters off. */
function nearestName(name: string, known: readonly string[]): string | undefined {
  const plain = (text: string): string => text.toLowerCase().replaceAll(/[_-]/g, '')
  const wanted = plain(name)
  const [best] = known
    .map((candidate) => ({ candidate, distance: distance(wanted, plain(candidate)) }))
    .sort((a, b) => a.distance - b.distance)
  return best !== undefined && best.distance <= Math.max(1, Math.floor(wanted.length / 3)) ? best.candidate : undefined
}

/** Levenshtein distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1]
    for (let j = 1; j <= b.length; j++) {
      const substituted = (row[j - 1] ?? 0) + (letter === b[j - 1] ? 0 : 1)
      next.push(Math.min(substituted, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
