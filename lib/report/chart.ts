/** Line charts as SVG: readable without scripts, by screen readers and in print; the script of the page adds a cursor. */
import { html, jsonForScript, type Markup } from './html.js'
import { type Point, rangeOf, type Series, ticks } from './series.js'

export interface Chart {
  readonly title: string
  /** What it shows in words, for those who do not see it. */
  readonly description: string
  readonly series: readonly Series[]
  /** Of the values: 'nats', 'tokens/s'. */
  readonly unit?: string
  /** Let the axis begin at 0. */
  readonly fromZero?: boolean
  /** Steps in which something happened. */
  readonly marks?: readonly { readonly x: number; readonly text: string }[]
}

const [width, height] = [640, 260] as const
const plot = { left: 54, right: 628, top: 12, bottom: 226 } as const

/** A figure with the chart, or undefined when there is nothing to show. */
export function chartFigure(chart: Chart): Markup | undefined {
  const series = chart.series.filter(({ points }) => points.some(({ y }) => Number.isFinite(y)))
  const range = rangeOf(series)
  if (range === undefined) return undefined
  const xs = series.flatMap(({ points }) => points.map(({ x }) => x))
  const [firstX, lastX] = [xs.reduce((a, b) => Math.min(a, b)), xs.reduce((a, b) => Math.max(a, b))]
  const yTicks = ticks(chart.fromZero ? Math.min(0, range.low) : range.low, range.high, 5)
  const xTicks = ticks(firstX, Math.max(lastX, firstX + 1), 6).filter(
    (x) => x >= firstX && x <= Math.max(lastX, firstX + 1),
  )
  const [low, high] = [yTicks[0] ?? 0, yTicks.at(-1) ?? 1]
  const toX = (x: number): number => plot.left + ((x - firstX) / Math.max(1, lastX - firstX)) * (plot.right - plot.left)
  const toY = (y: number): number => plot.bottom - ((y - low) / (high - low)) * (plot.bottom - plot.top)
  const marks = (chart.marks ?? []).filter(({ x }) => x >= firstX && x <= lastX)
  const drawing = html`<svg class="chart" viewBox="0 0 ${width} ${height}" role="img" tabindex="0" aria-label="${chart.title}. ${chart.description}">
<g class="grid">${yTicks.map((y) => html`<line x1="${plot.left}" x2="${plot.right}" y1="${round(toY(y))}" y2="${round(toY(y))}"/>`)}</g>
<g class="axis">${yTicks.map((y) => html`<text x="${plot.left - 8}" y="${round(toY(y) + 4)}" text-anchor="end">${label(y)}</text>`)}
${xTicks.map((x) => html`<text x="${round(toX(x))}" y="${plot.bottom + 18}" text-anchor="middle">${label(x)}</text>`)}
<text x="${plot.right}" y="${height - 2}" text-anchor="end">step</text></g>
${marks.map(({ x, text }) => html`<line class="mark" x1="${round(toX(x))}" x2="${round(toX(x))}" y1="${plot.top}" y2="${plot.bottom}"><title>${text}</title></line>`)}
${series.map((line) => seriesMarkup(line, toX, (y) => Math.max(plot.top, Math.min(plot.bottom, toY(y)))))}
<g class="cursor" hidden><line y1="${plot.top}" y2="${plot.bottom}"/></g>
</svg>`
  const data = {
    unit: chart.unit ?? '',
    plot,
    x: [firstX, Math.max(lastX, firstX + 1)],
    y: [low, high],
    series: series.map(({ name, color, points }) => ({ name, color, points: points.map(compact) })),
  }
  return html`<figure><figcaption>${chart.title}${chart.unit !== undefined && html` <span class="unit">${chart.unit}</span>`}</figcaption>
<div class="plot">${drawing}<div class="tip" role="status" hidden></div><script type="application/json">${jsonForScript(data)}</script></div>
${legend(series)}</figure>`
}

function seriesMarkup({ points, color, look }: Series, toX: (x: number) => number, toY: (y: number) => number): Markup {
  const single = points.length === 1
  const dots = look === 'dots' || single
  return html`<g class="series c${color}${look !== undefined && ` ${look}`}"><path d="${pathOf(points, toX, toY)}"/>${
    dots &&
    points
      .filter(({ y }) => Number.isFinite(y))
      .map(({ x, y }) => html`<circle cx="${round(toX(x))}" cy="${round(toY(y))}" r="3.5"/>`)
  }</g>`
}

/** Straight lines; a point that is not finite breaks the line. */
function pathOf(points: readonly Point[], toX: (x: number) => number, toY: (y: number) => number): string {
  let drawing = false
  const parts: string[] = []
  for (const { x, y } of points) {
    if (!Number.isFinite(y)) drawing = false
    else {
      parts.push(`${drawing ? 'L' : 'M'}${round(toX(x))} ${round(toY(y))}`)
      drawing = true
    }
  }
  return parts.join('')
}

function legend(series: readonly Series[]): Markup | undefined {
  if (series.length < 2) return undefined
  return html`<ul class="legend">${series.map(
    ({ name, color, look }) => html`<li class="c${color}${look === 'faint' ? ' faint' : ''}"><span></span>${name}</li>`,
  )}</ul>`
}

const compact = ({ x, y }: Point): readonly [number, number | null] => [
  x,
  Number.isFinite(y) ? Number(y.toPrecision(6)) : null,
]

const round = (value: number): number => Math.round(value * 10) / 10

/** A number as an axis shows it: 12,000 as 12k, 0.00002 as 2e-5. */
export function label(value: number): string {
  const size = Math.abs(value)
  if (size >= 1e9) return `${shorten(value / 1e9)}G`
  if (size >= 1e6) return `${shorten(value / 1e6)}M`
  if (size >= 1e4) return `${shorten(value / 1e3)}k`
  if (size > 0 && size < 1e-3) return value.toExponential().replace(/(\.\d\d)\d+e/, '$1e')
  return shorten(value)
}

const shorten = (value: number): string => String(Number(value.toPrecision(4)))
