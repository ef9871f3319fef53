// docs/performance.md from bench/results/*.json. `node scripts/performance-table.mjs` writes it.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './project.mjs'

const introduction = `# Performance on GPUs

Figures of \`npm run gpu:verify\`, which writes this page: each beside its ceiling and beside PyTorch on the same GPU, measured in turns.
Ceilings: for products the maker's dense bf16 peak; for what memory bounds, a device copy (bytes read plus written) in the same run;
for decoding, the weights' bytes at the measured rate of reading. "not yet measured" means that no such GPU has run it.
docs/kernels.md has the kernels with their registers and shared memory.
`

function cell(value, unit) {
  if (value === null || value === undefined) return 'not yet measured'
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value) || 1)))
  return `${value.toFixed(Math.min(digits, 6))} ${unit}`
}

const percent = (ratio) => (ratio === null ? '' : ` (${Math.round(ratio * 100)} %)`)

export function performanceTable() {
  const folder = join(root, 'bench', 'results')
  const parts = readdirSync(folder)
    .filter((name) => name.endsWith('.json'))
    .sort()
    .map((name) => {
      const { commit, date, gpu, driver, cuda, figures } = JSON.parse(readFileSync(join(folder, name), 'utf8'))
      const when =
        date === null
          ? 'not yet measured'
          : `${date.slice(0, 10)}, commit ${commit?.slice(0, 10)}, driver ${driver}, CUDA ${cuda}`
      const rows = figures.map(
        ({ name: figure, shape, value, unit, ceiling, ratioToCeiling, peer, peerValue, ratioToPeer }) => {
          const beside =
            peer === null || peerValue === null ? '' : `${peer}: ${cell(peerValue, unit)}${percent(ratioToPeer)}`
          const best = ceiling === null ? '' : `${cell(ceiling, unit)}${percent(ratioToCeiling)}`
          return `| ${figure} | ${shape} | ${cell(value, unit)} | ${best} | ${beside} |`
        },
      )
      return `\n## ${gpu}\n\n${when}\n\n| figure | shape | ours | ceiling (ours of it) | peer (ours of it) |\n|---|---|---|---|---|\n${rows.join('\n')}\n`
    })
  return introduction + parts.join('')
}

if (process.argv[1] === import.meta.filename) writeFileSync(join(root, 'docs', 'performance.md'), performanceTable())
