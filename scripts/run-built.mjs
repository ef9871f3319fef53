// `node scripts/run-built.mjs dist/quickstart/main.js …`: runs a compiled program, and compiles it first when dist is missing or older
// than its sources, so that the commands of the README work in a clone at any time.
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { newestLibrarySource, root, runBin, runNode } from './project.mjs'

const [entry, ...args] = process.argv.slice(2)
const program = join(root, entry)
if (!existsSync(program) || statSync(program).mtimeMs < newestLibrarySource()) {
  runBin('typescript', ['-p', 'tsconfig.json'], { bin: 'tsc' })
}
process.exitCode = runNode(program, args)
