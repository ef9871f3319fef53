/** The generated corpus as files, as a user's own data would be, and a tokenizer trained on it. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFileAtomic } from '../lib/files/atomic.js'
import { saveTrainedTokenizer, trainBpeTokenizer } from '../lib/text/index.js'
import { type Corpus, generateCorpus, type Pair } from './corpus/generate.js'
import type { QuickstartSettings } from './settings.js'

export interface QuickstartData {
  readonly corpus: Corpus
  readonly monolingual: { readonly de: string; readonly en: string }
  /** Paths of JSON Lines in ALMA's format. */
  readonly train: string
  readonly validation: string
  /** Folder with the tokenizer. */
  readonly tokenizer: string
}

const jsonLines = (pairs: readonly Pair[]): string =>
  pairs.map((translation) => `${JSON.stringify({ translation })}\n`).join('')

/** Writes everything below `folder`. The same seed gives the same files. */
export async function writeData(folder: string, settings: QuickstartSettings, seed: number): Promise<QuickstartData> {
  const { trainPairs, heldOutPairs, validationPairs, monolingualSentences, vocabSize } = settings
  const minimumOccurrences = Math.max(1, Math.round(trainPairs / 800))
  const corpus = generateCorpus({
    seed,
    trainPairs,
    heldOutPairs,
    validationPairs,
    monolingualSentences,
    minimumOccurrences,
  })
  await mkdir(folder, { recursive: true })
  const path = (name: string): string => join(folder, name)
  const data = {
    corpus,
    monolingual: { de: path('monolingual.de.txt'), en: path('monolingual.en.txt') },
    train: path('train.de-en.jsonl'),
    validation: path('valid.de-en.jsonl'),
    tokenizer: path('tokenizer'),
  }
  await writeFileAtomic(data.monolingual.de, `${corpus.monolingual.de.join('\n')}\n`)
  await writeFileAtomic(data.monolingual.en, `${corpus.monolingual.en.join('\n')}\n`)
  await writeFileAtomic(data.train, jsonLines(corpus.train))
  await writeFileAtomic(data.validation, jsonLines(corpus.validation))
  await writeFileAtomic(path('held-out.de-en.jsonl'), jsonLines(corpus.heldOut))

  const prompts = [
    'Translate this from German to English:\nGerman:\nEnglish:',
    'Translate this from English to German:',
  ]
  const text = [
    ...corpus.train.flatMap(({ de, en }) => [de, en]),
    ...corpus.monolingual.de,
    ...corpus.monolingual.en,
    // As often as in training, so that the prompt's words become single pieces.
    ...corpus.train.flatMap(() => prompts),
  ]
  await saveTrainedTokenizer(data.tokenizer, trainBpeTokenizer(text, { vocabSize }))
  return data
}
