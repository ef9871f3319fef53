/** Logs of training runs, made up for tests. */
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runLogName } from '../../lib/train/run-log.js'

export type Line = Readonly<Record<string, unknown>>

/** A folder with a log of these lines, each a second after the one before. */
export function runFolder(lines: readonly (Line | string)[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'alma-report-'))
  const start = Date.UTC(2026, 0, 5, 12)
  const text = lines.map((line, i) =>
    typeof line === 'string' ? line : JSON.stringify({ time: new Date(start + 1000 * i).toISOString(), ...line }),
  )
  writeFileSync(join(folder, runLogName), `${text.join('\n')}\n`)
  return folder
}

export const runLine = (...kinds: readonly string[]): Line => ({
  type: 'run',
  version: '0.1.0',
  model: { parameters: 1_234_567, dtype: 'f32', config: { hiddenSize: 64 } },
  device: { name: 'cpu', description: 'CPU, avx2, 2 threads' },
  stages: kinds.map((kind) => ({ kind, batchSize: 16, pairs: [{ path: 'train.jsonl', from: 'de', to: 'en' }] })),
})

export function stepLine(stage: number, step: number, loss: number | null): Line {
  const record = { step, loss, learningRate: 1e-3, gradNorm: 0.5, tokens: 1000 }
  return { type: 'step', stage, record, seconds: 0.5, memory: { allocated: 2 ** 20, peak: 2 ** 22 } }
}

export function validationLine(stage: number, step: number, loss: number, translation: string): Line {
  const sample = { direction: 'de-en', source: 'Guten Tag', reference: 'Good day', translation }
  const scores = { 'de-en': { bleu: 10 - loss, chrf: 50 - loss }, 'en-de': { bleu: 9 - loss, chrf: 45 - loss } }
  const losses = { 'de-en': loss, 'en-de': loss + 1 }
  const record = { step, loss, losses, bleu: 9.5 - loss, chrf: 47.5 - loss, scores, samples: [sample] }
  return { type: 'validation', stage, best: true, record }
}
