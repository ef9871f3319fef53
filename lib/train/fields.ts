/** Checks of the fields of a recipe: each returns what it expected, or undefined when the value is right. */
export type FieldCheck = (value: unknown) => string | undefined
export type FieldChecks = Readonly<Record<string, FieldCheck>>

export const number =
  (what: string, holds: (value: number) => boolean): FieldCheck =>
  (value) =>
    typeof value === 'number' && Number.isFinite(value) && holds(value) ? undefined : what

export const positiveInteger = number('a positive integer', (value) => Number.isSafeInteger(value) && value > 0)

export const oneOf =
  (names: readonly string[]): FieldCheck =>
  (value) =>
    names.includes(value as string) ? undefined : `one of ${names.map((name) => `'${name}'`).join(', ')}`

export const flag: FieldCheck = (value) => (typeof value === 'boolean' ? undefined : 'true or false')

/** `; did you mean "learningRate"?`, or nothing when no known field is near. */
export function suggestion(key: string, known: object): string {
  const plain = (name: string): string => name.replaceAll(/[_-]/g, '').toLowerCase()
  const near = Object.keys(known)
    .map((name) => ({ name, distance: editDistance(plain(name), plain(key)) }))
    .sort((a, b) => a.distance - b.distance)[0]
  const most = Math.max(1, Math.floor(key.length / 3))
  return near === undefined || near.distance > most ? '' : `; did you mean "${near.name}"?`
}

/** Insertions, deletions, replacements and exchanged neighbours; names of fields are short, a longer key is compared by its beginning. */
function editDistance(a: string, b: string): number {
  const [x, y] = [a.slice(0, 64), b.slice(0, 64)]
  let before: number[] = []
  let row = Array.from({ length: y.length + 1 }, (_, j) => j)
  for (let i = 1; i <= x.length; i++) {
    const next = [i]
    for (let j = 1; j <= y.length; j++) {
      const change = (row[j - 1] ?? 0) + (x[i - 1] === y[j - 1] ? 0 : 1)
      const exchanged = i > 1 && j > 1 && x[i - 1] === y[j - 2] && x[i - 2] === y[j - 1]
      const exchange = exchanged ? (before[j - 2] ?? 0) + 1 : Infinity
      next.push(Math.min(change, exchange, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    before = row
    row = next
  }
  return row[y.length] ?? 0
}
