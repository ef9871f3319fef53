// What the compiler makes of the kernels of compute capability 9.0: `node scripts/kernel-counts.mjs [files of native/cuda]`, a table in
// Markdown. docs/hopper.md has it. Needs nvcc, no GPU. Files are compiled one after the other, some seconds each.
//
// Registers and spills are those that ptxas reports; of a kernel with setmaxnreg they are those at the start. Instructions are those of the
// PTX, a loop's body counted once.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fail, root } from './project.mjs'

const folder = join(root, 'native', 'cuda')
const decoding = ['norm_qkv', 'norm_gate_up', 'linear_add', 'matmul_skinny', 'attention_split_keys']

function run(program, args) {
  const { status, error, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', maxBuffer: 1 << 28 })
  if (error !== undefined) fail(`${program}: ${error.message}`)
  if (status !== 0) fail(`${program} ${args.join(' ')}\n${stderr}`)
  return stdout + stderr
}

const count = (text, pattern) => (text.match(pattern) ?? []).length

/** The wgmma shapes of a kernel, those with the left operand in registers apart: '4 m64n256k16'. */
function products(body) {
  const found = new Map()
  for (const [, shape, operands] of body.matchAll(/wgmma\.mma_async\.sync\.aligned\.(\w+?)\.f32\S*\s+([^;]*);/g)) {
    const name = shape + (/\}\s*,\s*\{/.test(operands) ? ' by registers' : '')
    found.set(name, (found.get(name) ?? 0) + 1)
  }
  const mma = count(body, /\bmma\.sync\./g)
  if (mma > 0) found.set('mma.sync', mma)
  return [...found].map(([name, times]) => `${times} ${name}`).join(', ')
}

/** Statements but for declarations and labels. */
const instructions = (body) =>
  body
    .replace(/\/\/.*$/gm, '')
    .split(/[;{}]\s*\n|;/)
    .filter((statement) => /^(?:\s*\$?\w+:)*\s*(?:@!?%?\w+\s+)?[a-z][\w.:]*(?:\s|$)/.test(statement.trim())).length

function short(name) {
  const plain = name
    .replace(/\(anonymous namespace\)::|alma::(?:\w+::)*/g, '')
    .replace(/\(MatmulLayout\)([012])/g, (_, layout) => ['nn', 'nt', 'tn'][layout])
    .replace(/^void /, '')
    .replace(/(\w+Epilogue)<MatmulConfig<[^>]*>(?:, )?(\d*) ?>/, (_, policy, size) => `${policy}${size && `<${size}>`}`)
  const open = plain.indexOf('(')
  return (open < 0 ? plain : plain.slice(0, open)).replace(/\((?:int|bool)\)/g, '')
}

function rowsOf(file, scratch) {
  const ptx = join(scratch, 'kernels.ptx')
  const options = ['-std=c++20', '--expt-relaxed-constexpr', `-I${folder}`]
  run('nvcc', [...options, '-arch=compute_90a', '-ptx', '-o', ptx, join(folder, file)])
  const report = run('ptxas', ['-arch=sm_90a', '-v', '-o', join(scratch, 'kernels.cubin'), ptx])
  if (/C75(?:08|10)/.test(report)) fail(`${file}: ${report}`)
  const rows = []
  for (const part of readFileSync(ptx, 'utf8')
    .split(/^\s*(?:\.visible\s+|\.weak\s+)?\.entry\s+/m)
    .slice(1)) {
    const [mangled] = part.match(/^\w+/) ?? []
    const [, properties = ''] = report.split(`Compiling entry function '${mangled}'`)
    const [, spills = '?'] = properties.match(/(\d+) bytes spill stores/) ?? []
    const [, registers = '?'] = properties.match(/Used (\d+) registers/) ?? []
    const body = part.slice(part.indexOf('{'))
    const multicasts = count(body, /multicast::cluster/g)
    const loads = count(body, /cp\.async\.bulk\.tensor\.\dd\.shared::cluster/g)
    rows.push([
      `\`${short(run('c++filt', [mangled]).trim())}\``,
      registers,
      spills,
      products(body),
      multicasts > 0 ? `${loads}, ${multicasts} of them multicast` : loads,
      count(body, /cp\.async\.bulk\.tensor\.\dd\.global/g),
      count(body, /stmatrix\./g),
      instructions(body),
    ])
  }
  return rows
}

const named = process.argv.slice(2)
const hopper = readdirSync(join(folder, 'hopper')).filter((name) => name.endsWith('.cu'))
const files =
  named.length > 0
    ? named
    : [...hopper.map((name) => `hopper/${name}`), ...decoding.map((name) => `portable/${name}.cu`)]
const scratch = mkdtempSync(join(tmpdir(), 'alma-native-counts-'))
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }))
const header = [
  'kernel',
  'registers',
  'bytes spilled',
  'products',
  'tensor loads',
  'tensor stores',
  'stmatrix',
  'instructions',
]
console.log(`| ${header.join(' | ')} |\n|${header.map(() => '---').join('|')}|`)
for (const file of files) for (const row of rowsOf(file, scratch)) console.log(`| ${row.join(' | ')} |`)
