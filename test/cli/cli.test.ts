import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runCli } from '../../lib/cli/run.js'
import { Alma, metrics } from '../../lib/index.js'
import { defaultLora, LoraAdapter, saveAdapter } from '../../lib/model/index.js'
import { device, tinyAlma } from '../alma/tiny-model.js'

interface Result {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

class TextSink extends Writable {
  text = ''
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString()
    // Later, as a real stream: commands must wait for it.
    setImmediate(done)
  }
}

async function cli(args: readonly string[], input = '', signal = new AbortController().signal): Promise<Result> {
  const [stdout, stderr] = [new TextSink({ highWaterMark: 16 }), new TextSink()]
  const code = await runCli(args, { stdin: Readable.from([Buffer.from(input)]), stdout, stderr, signal })
  return { code, stdout: stdout.text, stderr: stderr.text }
}

const lines = ['Guten Morgen!', '', 'Das Haus ist grün.', '   ', 'Wie geht es dir heute?']

describe('the command line', () => {
  let folder: string
  let model: string
  let expected: string[]
  let direction: string[]
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'alma-cli-'))
    model = join(folder, 'model')
    await using alma = await tinyAlma()
    await alma.save(model)
    expected = (await alma.translate(lines, { from: 'de', to: 'en', maxNewTokens: 10 })).map(({ text }) => text)
    direction = ['--model', model, '--device', device, '--from', 'de', '--to', 'en', '--max-new-tokens', '10']
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  describe('translate', () => {
    it('writes a line for every line', async () => {
      const result = await cli(['translate', ...direction], lines.join('\r\n'))
      expect(result).toEqual({ code: 0, stdout: `${expected.join('\n')}\n`, stderr: '' })
      expect(expected.filter((text) => text !== '').length).toBeGreaterThan(1)
      expect((await cli(['translate', ...direction], '')).stdout).toBe('')
    })

    it('uses an adapter, and convert merges it', async () => {
      const [adapter, merged] = [join(folder, 'adapter'), join(folder, 'merged')]
      await using alma = await Alma.load(model, { device, dtype: 'f32' })
      const lora = LoraAdapter.create(alma.model, { ...defaultLora, targetModules: 'all-linear' }, 1)
      for (const { b } of lora.pairs.values()) b.tensor.write(new Float32Array(b.tensor.count).fill(0.3))
      await saveAdapter(lora, adapter)
      lora.dispose()
      const adapted = await cli(['translate', ...direction, '--adapter', adapter], lines.join('\n'))
      expect(adapted.code).toBe(0)
      expect(adapted.stdout.split('\n').length).toBe(lines.length + 1)
      expect(adapted.stdout).not.toBe(`${expected.join('\n')}\n`)
      const convert = ['convert', '--model', model, '--adapter', adapter, '--output', merged, '--dtype', 'f32']
      expect((await cli(convert)).stdout).toMatch(/merged: \d+ weights as f32/)
      const whole = ['--model', merged, ...direction.slice(2)]
      expect((await cli(['translate', ...whole], lines.join('\n'))).stdout).toBe(adapted.stdout)
      const missing = await cli(['translate', ...direction, '--adapter', join(folder, 'nowhere')])
      expect(missing.code).not.toBe(0)
      expect(missing.stderr).toMatch(/nowhere.*adapter_config\.json: no such file/)
    })

    it('reads and writes files', async () => {
      const [input, output] = [join(folder, 'in.txt.gz'), join(folder, 'out.txt')]
      await writeFile(input, gzipSync(`\uFEFF${lines.join('\n')}\n`))
      const result = await cli(['translate', ...direction, '--input', input, '--output', output])
      expect(result).toEqual({ code: 0, stdout: '', stderr: '' })
      expect(await readFile(output, 'utf8')).toBe(`${expected.join('\n')}\n`)
    })

    it('goes on where it was interrupted', async () => {
      const [input, output] = [join(folder, 'resume-in.txt'), join(folder, 'resume-out.txt')]
      await writeFile(input, `${lines.join('\n')}\n`)
      const args = ['translate', ...direction, '--input', input, '--output', output, '--resume']
      // Two lines and a half: the half one is written again.
      await writeFile(output, `FIRST\n\n${expected[2]?.slice(0, 2)}`)
      expect(await cli(args)).toEqual({ code: 0, stdout: '', stderr: '' })
      const whole = `FIRST\n${expected.slice(1).join('\n')}\n`
      expect(await readFile(output, 'utf8')).toBe(whole)
      // Nothing is left to do.
      expect((await cli(args)).code).toBe(0)
      expect(await readFile(output, 'utf8')).toBe(whole)
      await rm(output)
      expect((await cli(args)).code).toBe(0)
      expect(await readFile(output, 'utf8')).toBe(`${expected.join('\n')}\n`)
      await writeFile(output, 'x\n'.repeat(9))
      expect((await cli(args)).stderr).toMatch(/resume-out.txt: has 9 lines already, but .*resume-in.txt has 5/)
      expect((await cli(['translate', ...direction, '--resume'])).stderr).toMatch(/--resume: needs --output/)
    })

    it('shows examples and the terms of a glossary', async () => {
      const [examples, glossary] = [join(folder, 'examples.tsv'), join(folder, 'glossary.tsv')]
      await writeFile(examples, 'Hallo!\tHello!\n')
      await writeFile(glossary, 'Haus\thouse\nWald\tforest\n')
      const shown = ['--examples', examples, '--glossary', glossary]
      const { stdout } = await cli(['translate', ...direction, ...shown], lines.join('\n'))
      await using alma = await Alma.load(model, { device })
      const results = await alma.translate(lines, {
        from: 'de',
        to: 'en',
        maxNewTokens: 10,
        examples: [{ source: 'Hallo!', target: 'Hello!' }],
        glossary: [{ source: 'Haus', target: 'house' }],
      })
      expect(stdout).toBe(`${results.map(({ text }) => text).join('\n')}\n`)
    })

    it('gives JSON lines', async () => {
      const { stdout } = await cli(['translate', ...direction, '--json'], lines.join('\n'))
      const records = stdout.trimEnd().split('\n')
      expect(records.map((line) => JSON.parse(line))).toEqual(
        lines.map((source, index) => ({
          source,
          text: expected[index],
          score: expect.any(Number),
          tokens: source.trim() === '' ? 0 : expect.any(Number),
          finishReason: expect.stringMatching(/^(eos|length)$/),
        })),
      )
    })

    it('names the line that is too long', async () => {
      const input = `Guten Morgen!\n\n${'Haus '.repeat(300)}\n`
      const { code, stderr } = await cli(['translate', ...direction, '--split', 'lines'], input)
      expect([code, stderr]).toEqual([1, expect.stringMatching(/ERR_ALMA_CONTEXT: stdin: line 3: .* 256 tokens\n$/)])
    })

    it('ends with 130 when it is interrupted while waiting for input', async () => {
      const controller = new AbortController()
      const stdin = new Readable({ read() {} })
      stdin.push('Guten Morgen!\n')
      const [stdout, stderr] = [new TextSink(), new TextSink()]
      const running = runCli(['translate', ...direction], { stdin, stdout, stderr, signal: controller.signal })
      while (stdout.text === '') await new Promise((resolve) => setTimeout(resolve, 5))
      // A line at a time: the answer is there before the next line is.
      expect(stdout.text).toBe(`${expected[0]}\n`)
      controller.abort(new Error('SIGINT'))
      expect(await running).toBe(130)
      expect(stderr.text).toBe('')
    })
  })

  it('explains failures in one line, with exit code 1', async () => {
    const wrong: [string[], RegExp][] = [
      [['translate', ...direction, '--to', 'Inglish'], /ERR_ALMA_LANGUAGE: unknown language "Inglish".*English/],
      [['translate', ...direction, '--model', join(folder, 'none')], /ERR_ALMA_CONFIG: .*none.*no such file/],
      [
        ['translate', ...direction, '--num-beams', '100000'],
        /ERR_ALMA_OPTION: numBeams: expected an integer from 1 to/,
      ],
      [['translate', ...direction, '--device', 'abacus'], /ERR_ALMA_DEVICE: .*abacus/],
      [['translate', ...direction, '--input', join(folder, 'none')], /ERR_ALMA_IO: cannot read .*none/],
      [['translate', ...direction, '--output', join(folder, 'no', 'where')], /ERR_ALMA_IO: cannot write .*where/],
      [['evaluate', ...direction, '--test', join(folder, 'none')], /ERR_ALMA_IO: cannot read .*none/],
      [['score-text', '--hyp', join(folder, 'none'), '--ref', 'x'], /ERR_ALMA_IO: cannot read .*none/],
      [['train', join(folder, 'none.json')], /ERR_ALMA_IO: cannot read .*none/],
      [['convert', '--model', folder, '--output', 'x', '--dtype', 'f32'], /ERR_ALMA_CONFIG/],
    ]
    for (const [args, message] of wrong) {
      const { code, stdout, stderr } = await cli(args, 'Guten Morgen!\n')
      expect(stderr, args.join(' ')).toMatch(/^alma: .*\n$/)
      expect(stderr).toMatch(message)
      expect([code, stdout]).toEqual([1, ''])
    }
  })

  it('answers wrong usage with exit code 2', async () => {
    const wrong: [string[], RegExp][] = [
      [['translate', '--from', 'de', '--to', 'en'], /--model/],
      [['translate', ...direction, '--max-new-token', '5'], /--max-new-tokens/],
      [['translate', ...direction, '--max-new-tokens', 'five'], /Expected an integer/],
      [['translate', ...direction, '--dtype', 'f16'], /bf16, f32/],
      [['trainslate'], /translate/],
      [['convert', '--model', 'a', '--output', 'b', '--dtype', 'f32', '--max-shard-size', 'big'], /5GB/],
    ]
    for (const [args, message] of wrong) {
      const { code, stderr } = await cli(args)
      expect(stderr, args.join(' ')).toMatch(message)
      expect(code).toBe(2)
    }
    expect((await cli(['--help'])).stdout).toMatch(/translate[\s\S]*evaluate[\s\S]*info/)
    const { version } = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8'))
    expect(await cli(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' })
  })

  it('evaluates a test set', async () => {
    const [test, output] = [join(folder, 'test.tsv'), join(folder, 'hyp.txt')]
    await writeFile(test, 'Guten Morgen!\tGood morning!\nDas Haus ist grün.\tThe house is green.\n')
    const { code, stdout } = await cli(['evaluate', ...direction, '--test', test, '--output', output, '--json'])
    expect(code).toBe(0)
    const result = JSON.parse(stdout)
    const translations = [expected[0] ?? '', expected[2] ?? '']
    expect(result.chrf.score).toBe(metrics.chrf(translations, ['Good morning!', 'The house is green.']).score)
    expect(result).toMatchObject({ count: 2, loss: expect.any(Number), bleu: { score: expect.any(Number) } })
    expect(await readFile(output, 'utf8')).toBe(`${translations.join('\n')}\n`)
    expect((await cli(['evaluate', ...direction, '--test', test])).stdout).toMatch(/^BLEU .*\nchrF2 .*\nloss .*\n2 sen/)
  })

  it('scores texts', async () => {
    const [hyp, ref, short] = [join(folder, 'hyp'), join(folder, 'ref'), join(folder, 'short')]
    await writeFile(hyp, 'The house is green today.\nGood morning to you.\n')
    await writeFile(ref, 'The house is green today!\nGood morning to you.\n')
    await writeFile(short, 'one line\n')
    const { stdout } = await cli(['score-text', '--hyp', hyp, '--ref', ref, '--ter', '--json'])
    const hypotheses = ['The house is green today.', 'Good morning to you.']
    const references = ['The house is green today!', 'Good morning to you.']
    expect(JSON.parse(stdout)).toEqual(
      JSON.parse(
        JSON.stringify({
          bleu: metrics.bleu(hypotheses, [references]),
          chrf: metrics.chrf(hypotheses, [references]),
          ter: metrics.ter(hypotheses, [references]),
          count: 2,
        }),
      ),
    )
    expect((await cli(['score-text', '--hyp', hyp, '--ref', short])).stderr).toMatch(/short: has 1 lines, expected 2/)
  })

  it('compares systems: differences, intervals, p-values', async () => {
    const references = Array.from(
      { length: 40 },
      (_, i) => `The house number ${i} is green today, and so is tree ${i}.`,
    )
    const files = ['ref40', 'a40', 'b40', 'c40'].map((name) => join(folder, name))
    const [ref = '', a = '', b = '', c = ''] = files
    const damaged = (every: number): string[] => references.map((line, i) => (i % every ? line : line.slice(0, 20)))
    for (const [i, texts] of [references, damaged(5), damaged(2), damaged(5)].entries())
      await writeFile(files[i] ?? '', `${texts.join('\n')}\n`)
    const compare = ['score-text', '--ref', ref, '--compare', a, b, c]
    const { stdout } = await cli([...compare, '--json', '--ter', '--samples', '200'])
    const expected = await metrics.compare(
      [
        { name: 'a40', hypotheses: damaged(5) },
        { name: 'b40', hypotheses: damaged(2) },
        { name: 'c40', hypotheses: damaged(5) },
      ],
      references,
      { samples: 200, metrics: [new metrics.BleuMetric(), new metrics.ChrfMetric(), new metrics.TerMetric()] },
    )
    expect(JSON.parse(stdout)).toEqual(JSON.parse(JSON.stringify(expected)))
    expect(expected[0]?.systems[1]?.pValue).toBeLessThan(0.05)
    const table = (await cli([...compare, '--test', 'randomization', '--samples', '100', '--hyp', c])).stdout
    expect(table).toMatch(/^BLEU {2}nrefs:1\|ar:100\|seed:12345\|.*\n {2}.*c40 .* baseline\n/)
    expect(table).toMatch(/b40 +\d+\.\d\d {2}p = 0\.0\d+ {2}worse \*/)
    expect((await cli(['score-text', '--ref', ref])).stderr).toMatch(/--hyp or --compare/)
    const interval = (await cli(['score-text', '--ref', ref, '--hyp', a, '--confidence', '--samples', '50'])).stdout
    expect(interval).toMatch(/^BLEU +\d+\.\d\d \(\d+\.\d\d ± \d+\.\d\d\)/)
    const sentences = (await cli(['score-text', '--ref', ref, '--hyp', a, '--sentence-level'])).stdout
    expect(sentences.split('\n')[1]).toBe('BLEU 100.00\tchrF2 100.00')
    expect(sentences.trimEnd().split('\n')).toHaveLength(40)
  })

  it('tells about the machine', async () => {
    const { stdout } = await cli(['info', '--json'])
    expect(JSON.parse(stdout)).toMatchObject({
      node: process.versions.node,
      cpuInstructionSets: expect.arrayContaining(['portable']),
      devices: expect.arrayContaining([expect.objectContaining({ name: 'cpu' })]),
      memory: { total: expect.any(Number) },
      cudaNote: expect.any(String),
    })
    expect((await cli(['info'])).stdout).toMatch(/alma-native +\d[\s\S]*Node\.js[\s\S]*CUDA/)
  })

  it('converts a model', async () => {
    const [half, again] = [join(folder, 'half'), join(folder, 'again')]
    const arguments_ = ['--output', half, '--dtype', 'bf16', '--max-shard-size', '20KB']
    const { code, stdout } = await cli(['convert', '--model', model, ...arguments_])
    expect([code, stdout]).toEqual([0, expect.stringContaining('bf16')])
    expect(existsSync(join(half, 'model.safetensors.index.json'))).toBe(true)
    expect(JSON.parse(await readFile(join(half, 'config.json'), 'utf8'))).toMatchObject({ torch_dtype: 'bfloat16' })
    expect((await cli(['convert', '--model', half, '--output', again, '--dtype', 'f32'])).code).toBe(0)
    await using first = await Alma.load(half, { device, dtype: 'f32' })
    await using second = await Alma.load(again, { device })
    const options = { from: 'de', to: 'en', maxNewTokens: 10 }
    expect(await second.translate(lines, options)).toEqual(await first.translate(lines, options))
  })

  it('trains by a recipe', async () => {
    await writeFile(join(folder, 'train.tsv'), 'Guten Morgen!\tGood morning!\n'.repeat(4))
    const stages = [
      {
        kind: 'parallel',
        pairs: [{ path: 'train.tsv', from: 'de', to: 'en' }],
        maxSteps: 2,
        batchSize: 2,
        learningRate: 0.01,
      },
    ]
    const recipe = join(folder, 'recipe.json')
    await writeFile(recipe, JSON.stringify({ model: 'model', output: 'trained', stages }))
    const { code, stdout, stderr } = await cli(['train', recipe, '--device', device, '--json'])
    expect(stderr).not.toContain('ERR_ALMA')
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({ stages: [{ kind: 'parallel', steps: 2 }] })
    const result = await cli(['translate', ...direction, '--model', join(folder, 'trained')], 'Guten Morgen!\n')
    expect(result.code).toBe(0)
  })

  const main = fileURLToPath(new URL('../../dist/lib/cli/main.js', import.meta.url))
  describe.skipIf(!existsSync(main))('as a program', () => {
    function start(args: readonly string[]): {
      child: ReturnType<typeof spawn>
      ended: Promise<Result & { signal: string | null }>
      output: () => string
    } {
      const child = spawn(process.execPath, [main, ...args], { stdio: 'pipe' })
      let [stdout, stderr] = ['', '']
      child.stdout?.on('data', (chunk: Buffer) => {
        stdout += chunk
      })
      child.stderr?.on('data', (chunk: Buffer) => {
        stderr += chunk
      })
      const ended = new Promise<Result & { signal: string | null }>((resolve) => {
        child.on('close', (code, signal) => resolve({ code: code ?? -1, signal, stdout, stderr }))
      })
      return { child, ended, output: () => stdout }
    }

    it('translates stdin to stdout', async () => {
      const { child, ended } = start(['translate', ...direction])
      child.stdin?.end(lines.join('\n'))
      expect(await ended).toEqual({ code: 0, signal: null, stdout: `${expected.join('\n')}\n`, stderr: '' })
    })

    it('ends on Ctrl-C with 130 and without a stack', async () => {
      const { child, ended, output } = start(['translate', ...direction])
      child.stdin?.write('Guten Morgen!\n')
      while (output() === '') await new Promise((resolve) => setTimeout(resolve, 20))
      child.kill('SIGINT')
      expect(await ended).toMatchObject({ code: 130, signal: null, stderr: '' })
    })

    it('is quiet when nobody reads its output any more', async () => {
      const { child, ended } = start(['translate', ...direction])
      child.stdout?.destroy()
      child.stdin?.on('error', () => {})
      child.stdin?.end(`${lines.join('\n')}\n`.repeat(200))
      expect(await ended).toMatchObject({ code: 0, signal: null, stderr: '' })
    })
  })
})
