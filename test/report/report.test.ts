import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { writeReport } from '../../lib/report/report.js'
import { tinyAlma, tinyData } from '../train/support.js'
import { type Line, runFolder, runLine, stepLine, validationLine } from './run.js'

const hostile = `</script><script>document.title='taken'</script><img src=x onerror=document.title=1><script>document.title=2</script>&lt;b&gt;'"\u0000\ud800`

const lines = (translation: string): Line[] => [
  runLine('monolingual', 'parallel'),
  { type: 'stage', stage: 0, steps: 3, resumedAt: 0 },
  ...[1, 2, 3].map((step) => stepLine(0, step, 5 - step)),
  { type: 'stageEnd', stage: 0, report: {} },
  { type: 'stage', stage: 1, steps: 900, resumedAt: 0 },
  validationLine(1, 0, 4, 'before'),
  ...Array.from({ length: 900 }, (_, i) => stepLine(1, i + 1, i === 5 ? null : 3 + Math.sin(i))),
  { type: 'data', stage: 1, report: dataReport(translation) },
  validationLine(1, 900, 2, translation),
]

const dataReport = (path: string): object => ({
  files: [
    {
      path,
      languages: 'de-en',
      read: 10,
      complete: true,
      kept: 18,
      findings: [{ finding: 'identicalSides', dropped: true, count: 1, lines: [7] }],
      warnings: ['the sides may be exchanged'],
    },
  ],
})

describe('the report', () => {
  test('says what the log says', async () => {
    const page = readFileSync(await writeReport(runFolder(lines('after all'))), 'utf8')
    for (const text of [
      'Stage 1: monolingual',
      'Stage 2: parallel',
      '900 of 900 steps',
      'before',
      'after all',
      'Good day',
    ]) {
      expect(page).toContain(text)
    }
    expect(page).toMatch(/identical sides<\/td><td>left out/)
    expect(page).toContain('the sides may be exchanged')
    // Loss, by language, chrF, BLEU, norm, rate, throughput, memory; stage 1 has no evaluations.
    expect(page.match(/<svg/g)).toHaveLength(5 + 8)
    expect(page).toMatch(/validation loss<\/dt><dd>2\.000 <small>from 4\.000/)
    const markup = page.replaceAll(/<script>[\s\S]*?<\/script>/g, '')
    expect(markup).not.toMatch(/undefined|NaN|\[object/)
  })

  test('needs nothing from elsewhere', async () => {
    const page = readFileSync(await writeReport(runFolder(lines('x'))), 'utf8')
    expect(page.match(/(?:src|href|url)\s*[=(]/g)).toBeNull()
    expect(page).not.toMatch(/@import|fetch\(|XMLHttpRequest/)
    expect(page).toMatch(/default-src 'none'|default-src &#39;none&#39;/)
  })

  test('text of a corpus stays text', async () => {
    const page = readFileSync(await writeReport(runFolder(lines(hostile))), 'utf8')
    expect(page).toContain('&lt;/script&gt;&lt;script&gt;document.title=&#39;taken&#39;')
    // The scripts are those of the report: one for the page, one of data for every chart.
    expect(page.match(/<script/g)).toHaveLength(1 + 13)
    expect(page.match(/<img/g)).toBeNull()
    expect(page).not.toContain('\u0000')
    expect(Buffer.from(page, 'utf8').toString('utf8')).toBe(page)
  })

  test('of a run that has only begun, and of one without a single finite loss', async () => {
    const begun = readFileSync(await writeReport(runFolder([runLine('parallel')])), 'utf8')
    expect(begun).toContain('not begun')
    const lost = readFileSync(await writeReport(runFolder([runLine('parallel'), stepLine(0, 1, null)])), 'utf8')
    expect(lost).toContain('in progress')
  })

  test('a file that cannot be written is named, and the run stays as it was', async () => {
    const folder = runFolder(lines('x'))
    await expect(writeReport(folder, join(folder, 'nowhere', 'report.html'))).rejects.toMatchObject({
      code: 'ERR_ALMA_IO',
      message: expect.stringContaining('nowhere'),
    })
    expect(existsSync(join(folder, 'training-log.jsonl'))).toBe(true)
  })
})

describe('reports of real runs', () => {
  test('are written at the end, and when a run is stopped', async () => {
    const data = await tinyData()
    try {
      const stage = {
        kind: 'parallel',
        pairs: [{ path: data.train, from: 'de', to: 'en' }],
        validation: [{ path: data.validation, from: 'de', to: 'en' }],
        predictWithGenerate: true,
        maxNewTokens: 8,
        batchSize: 8,
        maxSteps: 4,
      } as const
      await using alma = await tinyAlma(data)
      const output = join(data.folder, 'run')
      const controller = new AbortController()
      await expect(
        alma.finetune(stage, {
          output,
          signal: controller.signal,
          onProgress: (event) =>
            event.type === 'step' && event.record.step === 2 && controller.abort(new Error('stop')),
        }),
      ).rejects.toThrow('stop')
      expect(readFileSync(join(output, 'report.html'), 'utf8')).toContain('not finished')
      await alma.finetune(stage, { output, resume: true })
      const page = readFileSync(join(output, 'report.html'), 'utf8')
      expect(page).toContain('4 of 4 steps')
      expect(page).not.toContain('not finished')
      expect(page).toContain('<title>resumed</title>')
    } finally {
      rmSync(data.folder, { recursive: true, force: true })
    }
  })
})

const browser = ['chromium', 'chromium-browser', 'google-chrome', 'chrome'].find(
  (name) => spawnSync(name, ['--version'], { stdio: 'ignore' }).status === 0,
)

/** What the page is after its script has run. */
function rendered(file: string, profile: string): string {
  const flags = [
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    `--user-data-dir=${profile}`,
    '--virtual-time-budget=2000',
  ]
  const { stdout } = spawnSync(browser ?? '', [...flags, '--dump-dom', `file://${file}`], { encoding: 'utf8' })
  return stdout
}

// Skipped where no Chromium is installed: `apt install chromium`.
describe.skipIf(browser === undefined)(`in a browser (${browser ?? 'none found'})`, () => {
  const profile = mkdtempSync(join(tmpdir(), 'alma-browser-'))
  afterAll(() => rmSync(profile, { recursive: true, force: true }))

  test('the script runs, charts answer to the keyboard, and hostile text runs nothing', async () => {
    const path = await writeReport(runFolder(lines(hostile)))
    // The probe is a second script, which the page's policy would rightly refuse: the copy goes without the policy, and so shows as
    // well that it is the escaping that keeps the text from running.
    const page = readFileSync(path, 'utf8').replace(/<meta http-equiv[^>]*>/, '')
    const probe = `<script>
      const svg = document.querySelectorAll('svg')[5]
      svg.focus()
      svg.dispatchEvent(new KeyboardEvent('keydown', { key: 'End' }))
      const tip = svg.parentElement.querySelector('.tip')
      document.body.dataset.tip = tip.hidden ? 'hidden' : tip.textContent
      svg.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape' }))
      document.body.dataset.after = String(tip.hidden)
      document.body.dataset.title = document.title
    </script></body>`
    const probed = join(profile, 'probed.html')
    writeFileSync(
      probed,
      page.replace('</body>', () => probe),
    )
    const dom = rendered(probed, profile)
    expect(dom).toMatch(/data-tip="step 900each step [\d.]+ nats a token.*validation 2 nats a token"/)
    expect(dom).toMatch(/data-after="true"/)
    expect(dom).toMatch(/data-title="alma-report-\w+ – training report"/)
  })

  test('the policy of the page lets its own script run', async () => {
    const path = await writeReport(runFolder(lines('x')))
    const marked = join(profile, 'marked.html')
    writeFileSync(marked, readFileSync(path, 'utf8'))
    expect(rendered(marked, profile)).toContain('data-ready')
  })
})
