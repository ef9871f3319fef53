import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { readRun } from '../../lib/report/run-data.js'
import { runFolder, runLine, stepLine, validationLine } from './run.js'

describe('reading the log of a run', () => {
  test('steps, evaluations and ends of the stages', async () => {
    const run = await readRun(
      runFolder([
        runLine('monolingual', 'parallel'),
        { type: 'memory', stage: 0, plan: { need: { total: 4_000_000 } } },
        { type: 'stage', stage: 0, steps: 2, resumedAt: 0 },
        stepLine(0, 1, 4),
        stepLine(0, 2, 3.5),
        { type: 'stageEnd', stage: 0, report: { steps: 2, bestStep: 1 } },
        { type: 'stage', stage: 1, steps: 9, resumedAt: 0 },
        validationLine(1, 0, 3, 'x'),
        { type: 'skipped', stage: 1, step: 1, reason: 'loss NaN' },
        stepLine(1, 1, null),
      ]),
    )
    expect(run).toMatchObject({ parameters: 1_234_567, device: 'CPU, avx2, 2 threads', damagedLines: 0 })
    expect(run.updated - run.begun).toBe(9000)
    const [first, second] = run.stages
    expect(first).toMatchObject({
      kind: 'monolingual',
      plannedSteps: 2,
      plannedMemory: 4_000_000,
      ended: true,
      bestStep: 1,
    })
    expect(
      first?.steps.map(({ step, loss, tokens, seconds, peakMemory }) => [step, loss, tokens, seconds, peakMemory]),
    ).toEqual([
      [1, 4, 1000, 0.5, 2 ** 22],
      [2, 3.5, 1000, 0.5, 2 ** 22],
    ])
    expect(second).toMatchObject({ kind: 'parallel', plannedSteps: 9, ended: false })
    expect(second?.validation[0]).toMatchObject({ step: 0, loss: 3, chrf: 44.5, losses: { 'de-en': 3, 'en-de': 4 } })
    expect(second?.notes).toEqual([{ step: 1, text: 'skipped: loss NaN' }])
    expect(second?.steps[0]?.loss).toBeNaN()
  })

  test('steps behind the checkpoint of a resumed run count once, as they were in the end', async () => {
    const run = await readRun(
      runFolder([
        runLine('monolingual', 'parallel'),
        stepLine(0, 1, 4),
        stepLine(0, 2, 3),
        stepLine(0, 3, 2),
        { ...runLine('monolingual', 'parallel'), resumed: { stage: 0, step: 2 } },
        stepLine(0, 3, 2.5),
        stepLine(1, 1, 1),
      ]),
    )
    expect(run.stages[0]?.steps.map(({ loss }) => loss)).toEqual([4, 3, 2.5])
    expect(run.stages[0]?.notes).toEqual([{ step: 2, text: 'resumed' }])
    expect(run.stages[1]?.steps).toHaveLength(1)
  })

  test('a later run in the same folder replaces the earlier one', async () => {
    const run = await readRun(
      runFolder([runLine('monolingual'), stepLine(0, 1, 4), runLine('parallel'), stepLine(0, 1, 2)]),
    )
    expect(run.stages.map(({ kind, steps }) => [kind, steps.map(({ loss }) => loss)])).toEqual([['parallel', [2]]])
  })

  test('a line that was cut by a kill, and values of wrong types, are passed over', async () => {
    const run = await readRun(
      runFolder([
        runLine('parallel'),
        { type: 'step', stage: 0, record: { step: 'one', loss: {} } },
        { type: 'step', stage: 77, record: {} },
        { type: 'data', stage: 0, report: { files: [null, { path: 3, findings: [{ finding: '__proto__' }, 4] }] } },
        { type: 'validation', stage: 0, record: { samples: 'none', scores: [], losses: null } },
        '[1]',
        '{"type": "step", "sta',
      ]),
    )
    expect(run.damagedLines).toBe(2)
    expect(run.stages[0]?.steps[0]).toMatchObject({ step: 1, tokens: 0 })
    expect(run.stages[0]?.data?.files).toEqual([
      { path: '', languages: '', read: 0, complete: false, kept: 0, findings: [], warnings: [] },
    ])
  })

  test('a folder without a log, and a file that is none, are named', async () => {
    const empty = mkdtempSync(join(tmpdir(), 'alma-report-'))
    await expect(readRun(empty)).rejects.toMatchObject({ code: 'ERR_ALMA_IO', message: expect.stringContaining(empty) })
    await expect(readRun(runFolder(['nonsense']))).rejects.toMatchObject({
      code: 'ERR_ALMA_CORPUS',
      message: expect.stringContaining('training-log.jsonl'),
    })
  })
})
