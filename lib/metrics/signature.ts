/** Signatures as sacreBLEU prints them, so that scores can be compared with published ones. */

/** The release whose numbers and signatures these are. */
export const sacreBleuVersion = '2.6.0'

/** Number of references of every line, or `var` when it differs. */
export type ReferenceCount = number | 'var'

/** "nrefs:1|case:mixed|…|version:2.6.0"; booleans as yes and no. */
export function signature(
  references: ReferenceCount,
  fields: Readonly<Record<string, string | number | boolean>>,
): string {
  const shown = Object.entries(fields).map(([name, value]) => {
    return `${name}:${typeof value === 'boolean' ? (value ? 'yes' : 'no') : value}`
  })
  return [`nrefs:${references}`, ...shown, `version:${sacreBleuVersion}`].join('|')
}
