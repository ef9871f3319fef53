// docs/performance.md from bench/results/*.json. `node scripts/performance-table.mjs` writes it.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './project.mjs'

const introduction = `# Performance

Written by \`node scripts/performance-table.mjs\` from the files in bench/results. Each figure stands beside its ceiling, measured on the same
machine in the same run, and beside other programs on the same weights, threads and prompts. "not yet measured" means just that.
`

const onProcessors = `
## Processors

\`npm run bench:cpu\` measures everything here and writes this page: minutes on an idle machine, and on a busy one the figures mean little.
\`npm run bench -- --help\` says how to get the other programs; each runs in a process of its own, in turns with ours.
Figures are the best of several runs, as are those of the others.

Ceilings: for products, prompts and training the multiply-adds that all threads do in registers (of bf16 the pair products, where the
processor has them); for decoding, reading every weight once a step at the measured rate, or the multiply-adds where they take longer; for
calls an empty N-API call; for the event loop's delay an idle one; for loading, reading the file once
(a file's first load searches its weights for NaN, later ones know that there is none).
The part of a step that JavaScript takes is its thread's processor time, on Linux; elsewhere the time in which the thread is not idle.
Rates per second are better when larger, times, multiples of greedy and bytes when smaller; a percentage is good at 100 and above either way.

Models have random weights. 15M: 6 layers × 288; 110M: 12 × 768; 1.1B: 22 × 2048, 32 query heads on 4 key heads; vocabulary 32000.
Activations are f32 on processors; "bf16" means the weights, which stay bf16 in memory. With AVX512-BF16 prompts and training round activations
to bf16 where they meet such weights; decoding does not. PyTorch's bf16 figures have bf16 activations throughout.
PyTorch's models are bench/peers/torch_llama_peer.py: transformers' LLaMA without transformers. Those of transformers.js are ONNX files
that bench/peers/onnx writes with the operators of the published ones; it stands beside f32 alone, since onnxruntime has no bf16 products
for processors.
`

const onGpus = `
## GPUs

Figures of \`npm run gpu:verify\`, which writes this page too: each beside its ceiling and beside PyTorch on the same GPU, measured in turns.
Ceilings: for products the maker's dense bf16 peak; for what memory bounds, a device copy (bytes read plus written) in the same run;
for decoding, the weights' bytes at the measured rate of reading. docs/kernels.md has the kernels with their registers and shared memory.
`

function cell(value, unit) {
  if (value === null || value === undefined) return 'not yet measured'
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value) || 1)))
  return `${value.toFixed(Math.min(digits, 6))} ${unit}`
}

const percent = (ratio) => (ratio === null ? '' : ` (${Math.round(ratio * 100)} %)`)

const row = (
  { name, shape, value, unit, ceiling, ratioToCeiling, peer, peerValue, ratioToPeer, ...more },
  withGoal,
) => {
  const { otherPeers = [], goal = '' } = more
  const others = otherPeers.map((other) => `; ${other.name}: ${cell(other.value, unit)}`).join('')
  const beside =
    peer === null || peerValue === null ? '' : `${peer}: ${cell(peerValue, unit)}${percent(ratioToPeer)}${others}`
  const best = ceiling === null ? '' : `${cell(ceiling, unit)}${percent(ratioToCeiling)}`
  return `| ${name} | ${shape} | ${cell(value, unit)} | ${best} | ${beside} |${withGoal ? ` ${goal} |` : ''}`
}

function processorPart({ processor, description, node, date, commit, command, notes, figures }) {
  const when = `${date.slice(0, 10)}, commit ${commit?.slice(0, 10)}; ${description}; Node.js ${node}; \`${command.trim()}\``
  const head =
    '| figure | shape | ours | ceiling (ours of it) | others (ours of the best) | goal |\n|---|---|---|---|---|---|'
  const remarks = notes.map((note) => `\n- ${note}`).join('')
  const rows = figures.map((figure) => row(figure, true)).join('\n')
  return `\n### ${processor}: ${description.split(', ')[1]}\n\n${when}\n${remarks === '' ? '' : `${remarks}\n`}\n${head}\n${rows}\n`
}

function gpuPart({ commit, date, gpu, driver, cuda, figures }) {
  const when =
    date === null
      ? 'not yet measured'
      : `${date.slice(0, 10)}, commit ${commit?.slice(0, 10)}, driver ${driver}, CUDA ${cuda}`
  const head = '| figure | shape | ours | ceiling (ours of it) | peer (ours of it) |\n|---|---|---|---|---|'
  return `\n### ${gpu}\n\n${when}\n\n${head}\n${figures.map((figure) => row(figure, false)).join('\n')}\n`
}

export function performanceTable() {
  const folder = join(root, 'bench', 'results')
  const results = readdirSync(folder)
    .filter((name) => name.endsWith('.json'))
    .sort()
    .map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')))
  const processors = results.filter(({ processor }) => processor !== undefined).map(processorPart)
  const gpus = results.filter(({ gpu }) => gpu !== undefined).map(gpuPart)
  const measured = processors.length === 0 ? '\nnot yet measured\n' : processors.join('')
  return introduction + onProcessors + measured + onGpus + gpus.join('')
}

if (process.argv[1] === import.meta.filename) writeFileSync(join(root, 'docs', 'performance.md'), performanceTable())
