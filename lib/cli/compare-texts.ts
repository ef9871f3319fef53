/** Systems compared on a terminal: a table for each metric, the first system on top. */
import {
  type CompareOptions,
  type Comparison,
  compareSystems,
  type References,
  type SystemOutput,
  type SystemScore,
} from '../metrics/index.js'
import { type CliIo, StatusLine } from './io.js'

export async function compareTexts(
  io: CliIo,
  systems: readonly SystemOutput[],
  references: References,
  options: CompareOptions,
): Promise<Comparison[]> {
  const status = new StatusLine(io)
  status.show('resampling')
  try {
    return await compareSystems(systems, references, { ...options, signal: io.signal })
  } finally {
    status.clear()
  }
}

/** Below it a difference is marked as significant. */
const significance = 0.05

export function comparisonTable(comparisons: readonly Comparison[]): string {
  return comparisons.map(tableOf).join('\n')
}

function tableOf({ metric, signature, systems, higherIsBetter }: Comparison): string {
  const width = Math.max(...systems.map(({ name }) => name.length))
  const baseline = systems[0]?.score ?? 0
  const rows = systems.map((system) => {
    const { name, score, interval, pValue } = system
    const spread = interval === undefined ? '' : ` (${interval.mean.toFixed(2)} ± ${interval.margin.toFixed(2)})`
    const verdict =
      pValue === undefined ? '  baseline' : `  p = ${pValue.toFixed(4)}${verdictOf(system, baseline, higherIsBetter)}`
    return `  ${name.padEnd(width)}  ${score.toFixed(2).padStart(6)}${spread}${verdict}`
  })
  return `${metric}  ${signature}\n${rows.join('\n')}\n`
}

function verdictOf({ score, pValue = 1 }: SystemScore, baseline: number, higherIsBetter: boolean): string {
  if (pValue >= significance || score === baseline) return ''
  return score > baseline === higherIsBetter ? '  better *' : '  worse *'
}
