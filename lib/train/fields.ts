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
