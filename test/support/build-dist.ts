/** Before all tests: what runs in child processes is compiled JavaScript, and must not be older than its sources. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

export default function setup(): void {
  const script = fileURLToPath(new URL('../../scripts/run-built.mjs', import.meta.url))
  const { status, stderr } = spawnSync(process.execPath, [script, 'dist/lib/cli/main.js', '--version'], {
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`the library does not compile or does not start:\n${stderr}`)
}
