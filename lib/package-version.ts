import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { packageRoot } from './runtime/load-addon.js'

/** Of this package, from its package.json. */
export function packageVersion(): string {
  const root = packageRoot(dirname(fileURLToPath(import.meta.url)))
  if (root === undefined) return 'unknown'
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version?: string }
  return version ?? 'unknown'
}
