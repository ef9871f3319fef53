/** Numbers made ready for a chart: thinned out, smoothed, and scaled to ticks that people count in. */

export interface Point {
  readonly x: number
  /** NaN makes a gap. */
  readonly y: number
}

export interface Series {
  readonly name: string
  readonly points: readonly Point[]
  /** Index of its colour; see style.ts. */
  readonly color: number
  /** 'faint': drawn behind the others and left out of the legend's marks; 'dots': with a mark at every point. */
  readonly look?: 'faint' | 'dots' | 'line'
}

/** More points than a chart has pixels only make the file large. */
export const MOST_POINTS = 400

/** At most `most` points, each the mean of its neighbours (NaNs left out); x is that of the last of them. */
export function thinned(points: readonly Point[], most: number = MOST_POINTS): Point[] {
  if (points.length <= most) return [...points]
  const result: Point[] = []
  for (let i = 0; i < most; i++) {
    const group = points.slice(Math.floor((i * points.length) / most), Math.floor(((i + 1) * points.length) / most))
    const finite = group.filter(({ y }) => Number.isFinite(y))
    const mean = finite.reduce((sum, { y }) => sum + y, 0) / finite.length
    result.push({ x: group.at(-1)?.x ?? 0, y: finite.length === 0 ? Number.NaN : mean })
  }
  return result
}

/** The mean of about `span` points around each one, which lags behind nothing; NaNs stay and count nothing. */
export function smoothed(points: readonly Point[], span: number): Point[] {
  const half = Math.floor(span / 2)
  // Sums up to each point, so that a long run takes no longer than its length.
  const sums = [0]
  const counts = [0]
  for (const [i, { y }] of points.entries()) {
    const counted = Number.isFinite(y)
    sums.push((sums[i] ?? 0) + (counted ? y : 0))
    counts.push((counts[i] ?? 0) + (counted ? 1 : 0))
  }
  const between = (values: readonly number[], from: number, to: number): number =>
    (values[to] ?? 0) - (values[from] ?? 0)
  return points.map(({ x, y }, i) => {
    // As far to both sides: at the ends of the curve a one-sided mean would bend it.
    const reach = Math.min(half, i, points.length - 1 - i)
    const [from, to] = [i - reach, i + reach + 1]
    return { x, y: Number.isFinite(y) ? between(sums, from, to) / between(counts, from, to) : y }
  })
}

/** About `count` round values that span `low` to `high`; the first and last enclose them. */
export function ticks(low: number, high: number, count: number): number[] {
  const span = high > low ? high - low : Math.abs(high) || 1
  const rough = span / count
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = power * ([1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough * 0.999) ?? 10)
  const first = Math.floor(low / step + 1e-9)
  const last = Math.max(first + 1, Math.ceil(high / step - 1e-9))
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)))
}

/** The range of what is finite, without the few spikes that would flatten everything else. */
export function rangeOf(series: readonly Series[]): { readonly low: number; readonly high: number } | undefined {
  const main = series.filter(({ look }) => look !== 'faint')
  const values = (main.length > 0 ? main : series)
    .flatMap(({ points }) => points.map(({ y }) => y))
    .filter(Number.isFinite)
    .sort((a, b) => a - b)
  const [low, high] = [values[0], values.at(-1)]
  if (low === undefined || high === undefined) return undefined
  if (values.length < 50) return { low, high }
  const typical = values[Math.floor(values.length * 0.98)] ?? high
  return { low, high: high - low > 4 * (typical - low) && typical > low ? typical : high }
}
