/** A model with random weights and a tokenizer: it translates nothing, but it does so reproducibly, and in milliseconds. */
import { rmSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Alma, loadTokenizer, saveTrainedTokenizer, type Tokenizer, trainBpeTokenizer } from '../../lib/index.js'

export const device = process.env.ALMA_DEVICE ?? 'cpu'

const sentences = [
  'Guten Morgen! Wie geht es dir heute?',
  'Good morning! How are you today?',
  'Translate this from German to English:',
  'Das Haus ist grün, der Wald auch.',
  'The house is green, and so is the forest.',
  'German: English: \n',
]

/** Trained on a few sentences; bytes stand for everything else. */
export async function tinyTokenizer(): Promise<Tokenizer> {
  const folder = await mkdtemp(join(tmpdir(), 'alma-test-tokenizer-'))
  // Saving a model copies the tokenizer's files from here, so they stay until the end.
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  await saveTrainedTokenizer(folder, await trainBpeTokenizer(sentences, { vocabSize: 320 }))
  const tokenizer = await loadTokenizer(folder)
  if (tokenizer === undefined) throw new Error('the tokenizer that was saved is not there')
  return tokenizer
}

export async function tinyAlma(
  options: { readonly seed?: number; readonly initializerRange?: number } = {},
): Promise<Alma> {
  const { seed = 7, initializerRange = 0.3 } = options
  const tokenizer = await tinyTokenizer()
  return await Alma.create(
    {
      vocabSize: tokenizer.vocabSize,
      hiddenSize: 32,
      intermediateSize: 64,
      numHiddenLayers: 2,
      numAttentionHeads: 4,
      numKeyValueHeads: 2,
      maxPositionEmbeddings: 256,
      initializerRange,
      bosTokenId: 1,
      eosTokenId: 2,
    },
    { tokenizer, device, seed, dtype: 'f32' },
  )
}
