/**
 * The text of the experiment, from the folder of ALMA's data: German and English pairs, and monolingual text made of the German side
 * of de-en and the English sides of every pair. No sentence of the validation and test sets is trained on.
 */
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { AlmaError, ioError } from '../../lib/errors.js'
import { writeFileAtomic } from '../../lib/files/atomic.js'
import { Random, readParallel, saveTrainedTokenizer, trainBpeTokenizer } from '../../lib/text/index.js'
import type { RecipeSettings } from './settings.js'

export interface Pair {
  readonly de: string
  readonly en: string
}

export interface RecipeData {
  readonly train: string
  readonly validation: string
  readonly monolingual: { readonly de: string; readonly en: string }
  /** Documents of each language. */
  readonly documents: { readonly de: number; readonly en: number }
  readonly tokenizer: string
  readonly trainPairs: readonly Pair[]
  readonly test: { readonly 'de-en': readonly Pair[]; readonly 'en-de': readonly Pair[] }
}

/** Reads `alma` (ALMA's `train.X-en`, `valid.X-en` and `test.X-Y` files) and writes what is trained on below `folder`. */
export async function prepareData(
  alma: string,
  folder: string,
  settings: RecipeSettings,
  seed: number,
): Promise<RecipeData> {
  const names = await namesIn(alma)
  const file = (stem: string): string => {
    const name = names.find((candidate) => candidate.startsWith(`${stem}.`))
    if (name === undefined) throw new AlmaError('ERR_ALMA_CORPUS', `${alma}: has no file ${stem}.jsonl(.gz)`)
    return join(alma, name)
  }
  const test = { 'de-en': await pairsOf(file('test.de-en')), 'en-de': await pairsOf(file('test.en-de')) }
  const validation = await pairsOf(file('valid.de-en'))
  const heldOut = new Set([...test['de-en'], ...test['en-de'], ...validation].flatMap(({ de, en }) => [de, en]))
  const clean = (text: string): boolean => text.trim() !== '' && !heldOut.has(text)

  const all = (await pairsOf(file('train.de-en'))).filter(({ de, en }) => clean(de) && clean(en))
  const train = all.filter(({ de, en }) => Math.max(de.length, en.length) <= settings.longestSide)
  const german = new Set(all.map(({ de }) => de))
  const english = new Set(all.map(({ en }) => en))
  for (const name of names.filter((candidate) => /^train\.[a-z]{2}-en\./.test(candidate))) {
    const from = name.slice('train.'.length, 'train.xx'.length)
    for await (const { source, target } of readParallel(join(alma, name), { from, to: 'en' })) {
      if (clean(source) && clean(target)) english.add(target)
    }
  }

  await mkdir(folder, { recursive: true })
  const path = (name: string): string => join(folder, name)
  const random = new Random(seed)
  // Shuffled here, so that any beginning of the stream is a sample of the whole.
  const documents = { de: shuffle([...german], random), en: shuffle([...english], random) }
  const lines = (texts: readonly string[]): string =>
    `${texts.map((text) => text.replaceAll(/\s+/g, ' ')).join('\n')}\n`
  await writeFileAtomic(path('monolingual.de.txt'), lines(documents.de))
  await writeFileAtomic(path('monolingual.en.txt'), lines(documents.en))
  await writeFileAtomic(path('train.de-en.jsonl'), jsonLines(train))
  await writeFileAtomic(path('valid.de-en.jsonl'), jsonLines(validation.slice(0, settings.testSentences)))
  // As many characters of both languages, and the words of the prompt.
  const sample = [...documents.de, ...documents.en.slice(0, documents.de.length), ...train.map(() => prompt)]
  await saveTrainedTokenizer(path('tokenizer'), trainBpeTokenizer(sample, { vocabSize: settings.vocabSize }))
  const first = (pairs: readonly Pair[]): Pair[] => shuffle(pairs, new Random(seed)).slice(0, settings.testSentences)
  return {
    train: path('train.de-en.jsonl'),
    validation: path('valid.de-en.jsonl'),
    monolingual: { de: path('monolingual.de.txt'), en: path('monolingual.en.txt') },
    documents: { de: documents.de.length, en: documents.en.length },
    tokenizer: path('tokenizer'),
    trainPairs: train,
    test: { 'de-en': first(test['de-en']), 'en-de': first(test['en-de']) },
  }
}

const prompt = 'Translate this from German to English:\nGerman:\nEnglish:'

const jsonLines = (pairs: readonly Pair[]): string =>
  pairs.map(({ de, en }) => `${JSON.stringify({ translation: { de, en } })}\n`).join('')

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    throw ioError('read', folder, error)
  }
}

async function pairsOf(path: string): Promise<Pair[]> {
  const pairs: Pair[] = []
  for await (const { source, target } of readParallel(path, { from: 'de', to: 'en' })) {
    pairs.push({ de: source, en: target })
  }
  return pairs
}

export function shuffle<T>(items: readonly T[], random: Random): T[] {
  const shuffled = [...items]
  for (let i = shuffled.length - 1; i > 0; i--) {
    const other = random.below(i + 1)
    const moved = shuffled[i] as T
    shuffled[i] = shuffled[other] as T
    shuffled[other] = moved
  }
  return shuffled
}
