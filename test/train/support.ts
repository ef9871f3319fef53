/** A tiny corpus, tokenizer and model for tests of training. */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Alma } from '../../lib/index.js'
import { saveTrainedTokenizer, trainBpeTokenizer } from '../../lib/text/index.js'
import { generateCorpus } from '../../quickstart/corpus/generate.js'

export interface TinyData {
  readonly folder: string
  readonly german: string
  readonly english: string
  readonly train: string
  readonly validation: string
  readonly tokenizer: string
}

export async function tinyData(): Promise<TinyData> {
  const folder = mkdtempSync(join(tmpdir(), 'alma-train-'))
  const corpus = generateCorpus({
    seed: 3,
    trainPairs: 400,
    heldOutPairs: 1,
    validationPairs: 12,
    monolingualSentences: 150,
    minimumOccurrences: 1,
  })
  const path = (name: string): string => join(folder, name)
  const lines = (pairs: readonly { de: string; en: string }[]): string =>
    pairs.map((translation) => `${JSON.stringify({ translation })}\n`).join('')
  writeFileSync(path('mono.de.txt'), corpus.monolingual.de.join('\n'))
  writeFileSync(path('mono.en.txt'), corpus.monolingual.en.join('\n'))
  writeFileSync(path('train.jsonl'), lines(corpus.train))
  writeFileSync(path('valid.jsonl'), lines(corpus.validation))
  mkdirSync(path('tokenizer'))
  const text = corpus.train.flatMap(({ de, en }) => [de, en])
  await saveTrainedTokenizer(path('tokenizer'), trainBpeTokenizer(text, { vocabSize: 600 }))
  return {
    folder,
    german: path('mono.de.txt'),
    english: path('mono.en.txt'),
    train: path('train.jsonl'),
    validation: path('valid.jsonl'),
    tokenizer: path('tokenizer'),
  }
}

export function tinyAlma(
  data: TinyData,
  seed = 5,
  dtype: 'f32' | 'bf16' = 'f32',
  device = process.env.ALMA_DEVICE ?? 'cpu',
  initializerRange = 0.02,
): Promise<Alma> {
  return Alma.create(
    {
      vocabSize: 600,
      hiddenSize: 32,
      intermediateSize: 96,
      numHiddenLayers: 2,
      numAttentionHeads: 4,
      numKeyValueHeads: 2,
      maxPositionEmbeddings: 128,
      tieWordEmbeddings: true,
      initializerRange,
      bosTokenId: 1,
      eosTokenId: 2,
    },
    { tokenizer: data.tokenizer, device, seed, dtype },
  )
}
