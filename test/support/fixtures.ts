/** Where the reference numbers are, and how a test enumerates them: no test names a case of its own. */
import { existsSync, readdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const own = join(dirname(fileURLToPath(import.meta.url)), '..', 'fixtures')

/** `$ALMA_FIXTURES`, or else the small numeric fixtures that the project carries. */
export const fixturesRoot: string = process.env.ALMA_FIXTURES ?? own

/** The folder of one kind (`model`, `ops/attention`, …), or undefined when the root has none: then the test skips, visibly. */
export function fixtureFolder(kind: string): string | undefined {
  const folder = join(fixturesRoot, kind)
  return existsSync(folder) && statSync(folder).isDirectory() ? folder : undefined
}

/** The sub-folders of a kind, sorted by name; empty when the kind is absent. */
export function fixtureCases(kind: string): { name: string; folder: string }[] {
  const root = fixtureFolder(kind)
  if (root === undefined) return []
  return readdirSync(root, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => ({ name: entry.name, folder: join(root, entry.name) }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}
