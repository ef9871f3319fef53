/** The parts of the report. */
import { type DataReport, findingNames } from '../train/data-report.js'
import { type Chart, chartFigure, label } from './chart.js'
import { html, type Markup } from './html.js'
import type { RunData, StageData, StepData } from './run-data.js'
import { type Series, smoothed, thinned } from './series.js'

type Status = 'finished' | 'in progress' | 'not begun'

export function statusOf({ ended, steps, plannedSteps }: StageData): Status {
  return ended ? 'finished' : steps.length > 0 || plannedSteps !== undefined ? 'in progress' : 'not begun'
}

export function header(run: RunData): Markup {
  const ended = run.stages.every((stage) => stage.ended)
  const facts = [
    run.parameters !== undefined &&
      `${label(Number(run.parameters.toPrecision(3)))} weights${run.dtype === undefined ? '' : ` (${run.dtype})`}`,
    run.device,
    Number.isFinite(run.begun) && `begun ${dateOf(run.begun)}`,
    Number.isFinite(run.updated) && `last event ${dateOf(run.updated)}`,
  ]
  return html`<header><h1>${run.name}<span class="chip ${ended ? 'good' : 'warn'}">${ended ? 'finished' : 'not finished'}</span></h1>
<p class="sub">${facts.filter((fact) => typeof fact === 'string').join(' · ')}</p></header>`
}

export function tiles(run: RunData): Markup {
  const steps = run.stages.flatMap((stage) => stage.steps)
  const tokens = steps.reduce((sum, step) => sum + step.tokens, 0)
  const seconds = steps.reduce((sum, step) => sum + (Number.isFinite(step.seconds) ? step.seconds : 0), 0)
  const peak = steps
    .map(({ peakMemory }) => peakMemory)
    .filter(Number.isFinite)
    .reduce((a, b) => Math.max(a, b), 0)
  const evaluated = run.stages.filter(({ validation }) => validation.length > 0).at(-1)?.validation
  const translated = run.stages.flatMap(({ validation }) => validation).filter(({ chrf }) => chrf !== undefined)
  const [first, last] = [evaluated?.[0], evaluated?.at(-1)]
  const [firstScore, lastScore] = [translated[0], translated.at(-1)]
  const tile = (name: string, value: string | undefined, note?: string): Markup | undefined =>
    value === undefined
      ? undefined
      : html`<div><dt>${name}</dt><dd>${value}${note !== undefined && html` <small>${note}</small>`}</dd></div>`
  return html`<dl class="tiles">
${tile('validation loss', last?.loss.toFixed(3), first === last ? undefined : `from ${first?.loss.toFixed(3)}`)}
${tile('BLEU', lastScore?.bleu?.toFixed(1), `from ${firstScore?.bleu?.toFixed(1)}`)}
${tile('chrF', lastScore?.chrf?.toFixed(1), `from ${firstScore?.chrf?.toFixed(1)}`)}
${tile('steps', steps.length.toLocaleString('en'))}
${tile('tokens', label(Number(tokens.toPrecision(4))))}
${tile('in steps', durationOf(seconds), seconds > 0 ? `${label(Number((tokens / seconds).toPrecision(3)))} tokens/s` : undefined)}
${tile('peak memory', peak > 0 ? bytesOf(peak) : undefined)}
</dl>`
}

export function stageSection(stage: StageData, index: number): Markup {
  const status = statusOf(stage)
  const done = stage.steps.at(-1)?.step ?? 0
  const planned = stage.plannedSteps === undefined ? '' : ` of ${stage.plannedSteps.toLocaleString('en')}`
  const marks = stage.notes.filter(({ text }) => text === 'resumed').map(({ step, text }) => ({ x: step, text }))
  const notes = stage.notes.slice(-20)
  return html`<section><h2>Stage ${index + 1}: ${stage.kind}<span class="chip ${status === 'finished' ? 'good' : 'warn'}">${status}</span></h2>
<p class="sub">${done.toLocaleString('en')}${planned} steps${stage.bestStep !== undefined && `, ended with the weights of step ${stage.bestStep.toLocaleString('en')}`}</p>
<div class="charts">${chartsOf(stage).map((chart) => chartFigure({ ...chart, marks }))}</div>
${notes.length > 0 && html`<ul class="notes">${notes.map(({ step, text }) => html`<li>step ${step}: ${text}</li>`)}</ul>`}
${evaluationTable(stage)}
${samplesTable(stage)}
${stage.data !== undefined && dataTable(stage.data)}
</section>`
}

function chartsOf({ kind, steps, validation, plannedMemory }: StageData): Chart[] {
  const of = (value: (step: StepData) => number) => steps.map((step) => ({ x: step.step, y: value(step) }))
  const losses = of(({ loss }) => loss)
  const span = Math.max(1, Math.round(losses.length / 40))
  const charts: Chart[] = []
  const add = (title: string, description: string, series: Series[], more: Partial<Chart> = {}): void => {
    charts.push({ title, description, series, ...more })
  }
  const lossSeries: Series[] = [
    { name: 'each step', points: thinned(losses), color: 0, look: 'faint' },
    { name: span > 1 ? `mean of ${span} steps` : 'training', points: thinned(smoothed(losses, span)), color: 0 },
    { name: 'validation', points: validation.map(({ step, loss }) => ({ x: step, y: loss })), color: 1, look: 'dots' },
  ]
  add('Loss', spoken('training loss', losses.at(0)?.y, losses.at(-1)?.y), span > 1 ? lossSeries : lossSeries.slice(1), {
    unit: kind === 'preference' ? 'nats' : 'nats a token',
  })
  const groups = namesOf(validation.map(({ losses = {} }) => losses))
  if (groups.length > 1) {
    const series = groups.map((name, color) => ({
      name,
      color: color % 8,
      look: 'dots' as const,
      points: validation.map(({ step, losses = {} }) => ({ x: step, y: losses[name] ?? Number.NaN })),
    }))
    add('Validation loss by language', `one line each for ${groups.join(', ')}`, series, {
      unit: kind === 'preference' ? 'nats' : 'nats a token',
    })
  }
  const metric = (name: string) => of(({ metrics = {} }) => metrics[name] ?? Number.NaN)
  if (steps.some(({ metrics }) => metrics !== undefined)) {
    const rewards = ['rewards/chosen', 'rewards/rejected', 'rewards/margins'].map((name, color) => ({
      name: name.slice('rewards/'.length),
      color,
      points: thinned(smoothed(metric(name), span)),
    }))
    add('Rewards', 'beta times the log-probability of chosen and rejected responses, and the margin', rewards)
    const accuracies = metric('rewards/accuracies')
    add(
      'Reward accuracy',
      spoken('pairs whose chosen response is the likelier one', accuracies.at(0)?.y, accuracies.at(-1)?.y),
      [
        { name: 'training', points: thinned(smoothed(accuracies, span)), color: 0 },
        {
          name: 'validation',
          points: validation.map(({ step, metrics = {} }) => ({
            x: step,
            y: metrics['rewards/accuracies'] ?? Number.NaN,
          })),
          color: 1,
          look: 'dots',
        },
      ],
      { fromZero: true },
    )
  }
  const directions = namesOf(validation.map(({ scores = {} }) => scores))
  for (const [metric, title] of [
    ['chrf', 'chrF of greedy translations'],
    ['bleu', 'BLEU of greedy translations'],
  ] as const) {
    const series = directions.map((name, color) => ({
      name,
      color: color % 8,
      look: 'dots' as const,
      points: validation.map(({ step, scores = {} }) => ({ x: step, y: scores[name]?.[metric] ?? Number.NaN })),
    }))
    add(title, `one line each for ${directions.join(', ')}`, series, { fromZero: true })
  }
  const single = (name: string, color: number, value: (step: StepData) => number): Series[] => [
    { name, color, points: thinned(of(value)) },
  ]
  add(
    'Gradient norm',
    'before clipping',
    single('gradient norm', 2, ({ gradNorm }) => gradNorm),
    { fromZero: true },
  )
  add(
    'Learning rate',
    'by the schedule',
    single('learning rate', 3, ({ learningRate }) => learningRate),
    { fromZero: true },
  )
  const speed = ({ tokens, seconds }: StepData): number => (seconds > 0 ? tokens / seconds : Number.NaN)
  add('Throughput', 'input tokens a second, steps alone', single('tokens/s', 4, speed), {
    unit: 'tokens/s',
    fromZero: true,
  })
  const megabytes = (value: number): number => value / 2 ** 20
  const planned = (): number => megabytes(plannedMemory ?? Number.NaN)
  add(
    'Device memory',
    'in use behind each step, its highest value so far, and what was planned',
    [
      ...(plannedMemory === undefined
        ? []
        : [{ name: 'planned', color: 2, look: 'faint' as const, points: thinned(of(planned)) }]),
      { name: 'peak', color: 7, points: thinned(of(({ peakMemory }) => megabytes(peakMemory))) },
      { name: 'in use', color: 5, points: thinned(of(({ memory }) => megabytes(memory))) },
    ],
    { unit: 'MiB', fromZero: true },
  )
  return charts
}

function spoken(what: string, first: number | undefined, last: number | undefined): string {
  if (first === undefined || last === undefined) return what
  return `${what} from ${first.toFixed(3)} to ${last.toFixed(3)}`
}

/** The keys of all records, in the order of their first appearance. */
function namesOf(records: readonly object[]): string[] {
  return [...new Set(records.flatMap((record) => Object.keys(record)))]
}

const MOST_ROWS = 60

/** The figures of the charts, for those who read rather than see them. */
function evaluationTable({ validation, bestStep }: StageData): Markup | undefined {
  if (validation.length === 0) return undefined
  const rows = validation.slice(-MOST_ROWS)
  const groups = namesOf(rows.map(({ losses = {} }) => losses))
  const directions = namesOf(rows.map(({ scores = {} }) => scores))
  const cell = (value: number | undefined, digits: number): Markup =>
    html`<td class="n">${value === undefined || !Number.isFinite(value) ? '–' : value.toFixed(digits)}</td>`
  return html`<details><summary>Evaluations in figures</summary><div class="box"><table>
<thead><tr><th class="n">step</th><th class="n">loss</th>${groups.map((name) => html`<th class="n">loss ${name}</th>`)}
${directions.map((name) => html`<th class="n">BLEU ${name}</th><th class="n">chrF ${name}</th>`)}</tr></thead>
<tbody>${rows.map(
    ({
      step,
      loss,
      losses = {},
      scores = {},
    }) => html`<tr class="${step === bestStep && 'own'}"><td class="n">${step}</td>${cell(loss, 4)}
${groups.map((name) => cell(losses[name], 4))}${directions.map((name) => [cell(scores[name]?.bleu, 1), cell(scores[name]?.chrf, 1)])}</tr>`,
  )}</tbody></table></div></details>`
}

function samplesTable({ validation, bestStep }: StageData): Markup | undefined {
  const translated = validation.filter(({ samples = [] }) => samples.length > 0)
  const before = translated[0]
  const after = translated.find(({ step }) => step === bestStep) ?? translated.at(-1)
  if (before === undefined || after === undefined) return undefined
  const rows = (after.samples ?? []).map((sample, i) => ({ ...sample, before: before.samples?.[i]?.translation ?? '' }))
  return html`<h3>Translations of validation sentences</h3><div class="box"><table>
<thead><tr><th></th><th>source</th><th>step ${before.step}</th><th>step ${after.step}</th><th>reference</th></tr></thead>
<tbody>${rows.map(
    (row) =>
      html`<tr><td class="short">${row.direction.replace('-', ' → ')}</td>${[
        row.source,
        row.before,
        row.translation,
        row.reference,
      ].map((text, i) => html`<td class="text${i === 2 && ' own'}" dir="auto">${shortened(text)}</td>`)}</tr>`,
  )}</tbody></table></div>`
}

const LONGEST_TEXT = 600
const shortened = (text: string): string => (text.length > LONGEST_TEXT ? `${text.slice(0, LONGEST_TEXT)}…` : text)

function dataTable({ files }: DataReport): Markup {
  const findings = files.flatMap(({ path, findings: found }) => found.map((finding) => ({ path, ...finding })))
  const warnings = files.flatMap(({ path, warnings: texts }) => texts.map((text) => `${path}: ${text}`))
  return html`<h3>Data</h3><div class="box"><table>
<thead><tr><th>file</th><th></th><th class="n">read</th><th class="n">examples</th><th class="n">tokens</th><th class="n">left out</th></tr></thead>
<tbody>${files.map(
    ({ path, languages, read, complete, kept, tokens, findings: found }) =>
      html`<tr><td class="text">${path}</td><td>${languages}</td><td class="n">${complete ? '' : 'first '}${read.toLocaleString('en')}</td>
<td class="n">${kept.toLocaleString('en')}</td><td class="n">${tokens === undefined ? '–' : tokens.toLocaleString('en')}</td>
<td class="n">${found.reduce((sum, { dropped, count }) => sum + (dropped ? count : 0), 0).toLocaleString('en')}</td></tr>`,
  )}</tbody></table></div>
${warnings.length > 0 && html`<ul class="notes">${warnings.map((text) => html`<li>${text}</li>`)}</ul>`}
${
  findings.length > 0 &&
  html`<details><summary>What was left out or changed, and why</summary><div class="box"><table>
<thead><tr><th>file</th><th>why</th><th></th><th class="n">count</th><th>lines</th></tr></thead>
<tbody>${findings.map(
    ({ path, finding, dropped, count, lines }) =>
      html`<tr><td class="text">${path}</td><td>${findingNames[finding] ?? finding}</td><td>${dropped ? 'left out' : 'kept'}</td>
<td class="n">${count.toLocaleString('en')}</td><td>${lines.join(', ')}${count > lines.length && ', …'}</td></tr>`,
  )}</tbody></table></div></details>`
}`
}

export function recipeSection(run: RunData): Markup {
  const recipe = { model: run.config, stages: run.stages.map((stage) => stage.recipe) }
  const keys = namesOf(run.stages.map((stage) => stage.recipe)).filter((key) => key !== 'kind')
  return html`<section><h2>Recipe</h2><div class="box"><table>
<thead><tr><th></th>${run.stages.map(({ kind }, i) => html`<th>stage ${i + 1}: ${kind}</th>`)}</tr></thead>
<tbody>${keys.map(
    (key) =>
      html`<tr><th scope="row"><code>${key}</code></th>${run.stages.map(
        ({ recipe: fields }) => html`<td class="text">${shown(fields[key])}</td>`,
      )}</tr>`,
  )}</tbody></table></div>
<details><summary>As JSON, with the model’s configuration</summary><div class="box"><pre>${JSON.stringify(recipe, null, 2)}</pre></div></details></section>`
}

function shown(value: unknown): Markup | string {
  if (value === undefined) return '–'
  if (!Array.isArray(value) || value.every((entry) => typeof entry !== 'object')) {
    return typeof value === 'string' ? value : JSON.stringify(value)
  }
  return html`${value.map((entry: unknown) => html`<div>${fileText(entry)}</div>`)}`
}

function fileText(entry: unknown): string {
  const { path, ...fields } = (entry ?? {}) as Record<string, unknown>
  const rest = Object.entries(fields).map(([key, value]) => `${key} ${String(value)}`)
  return [typeof path === 'string' ? path : JSON.stringify(entry), ...(typeof path === 'string' ? rest : [])].join(
    ' · ',
  )
}

const dateOf = (time: number): string => `${new Date(time).toISOString().slice(0, 16).replace('T', ' ')} UTC`

function durationOf(seconds: number): string | undefined {
  if (!(seconds > 0)) return undefined
  if (seconds < 100) return `${seconds.toFixed(1)} s`
  const minutes = Math.round(seconds / 60)
  return minutes < 100 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`
}

function bytesOf(bytes: number): string {
  return bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${(bytes / 2 ** 20).toFixed(0)} MiB`
}
