/** Preference pairs from the training text: the reference is chosen, what the model itself makes of the source is rejected. */
import { writeFileAtomic } from '../../lib/files/atomic.js'
import type { Alma } from '../../lib/index.js'
import { Random } from '../../lib/text/index.js'
import { type RecipeData, shuffle } from './data.js'
import type { RecipeSettings } from './settings.js'

export async function writePreferenceData(
  alma: Alma,
  { trainPairs }: RecipeData,
  { preference: { pairs }, maxNewTokens }: RecipeSettings,
  { path, seed, signal }: { readonly path: string; readonly seed: number; readonly signal: AbortSignal },
): Promise<void> {
  const drawn = shuffle(trainPairs, new Random(seed)).slice(0, pairs)
  const rows: string[] = []
  for (const [from, to] of [
    ['de', 'en'],
    ['en', 'de'],
  ] as const) {
    const sources = drawn.map((pair) => pair[from])
    const translations = await alma.translate(sources, { from, to, maxNewTokens, split: 'none', signal })
    for (const [index, { text }] of translations.entries()) {
      // A preference row needs something to reject.
      if (text.trim() === '') continue
      const row = { source: sources[index], chosen: drawn[index]?.[to], rejected: text, from, to }
      rows.push(`${JSON.stringify(row)}\n`)
    }
  }
  await writeFileAtomic(path, rows.join(''))
}
