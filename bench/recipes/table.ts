/** The results as a table in Markdown. */
import type { DirectionResult, RecipeResult } from './measure.js'

const heading = [
  '',
  'loss de→en',
  'BLEU',
  'chrF',
  'loss en→de',
  'BLEU',
  'chrF',
  'tokens of stage 1',
  'of stage 2',
  'of CPO',
]

export function markdownTable(results: readonly RecipeResult[]): string {
  const rows = results.map((result) => {
    const tokens = (kind: string): string =>
      millions(result.stages.filter((stage) => stage.kind === kind).reduce((sum, stage) => sum + stage.tokens, 0))
    const scores = [result['de-en'], result['en-de']].flatMap(cells)
    return [result.name, ...scores, tokens('monolingual'), tokens('parallel'), tokens('preference')]
  })
  return [heading, heading.map(() => '---'), ...rows].map((cellsOfRow) => `| ${cellsOfRow.join(' | ')} |`).join('\n')
}

function cells({ loss, bleu, chrf }: DirectionResult): string[] {
  return [loss === undefined ? '–' : loss.toFixed(3), bleu.toFixed(1), chrf.toFixed(1)]
}

const millions = (count: number): string => (count === 0 ? '–' : `${(count / 1e6).toFixed(2)} M`)
