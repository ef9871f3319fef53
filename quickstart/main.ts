/**
 * `npm run quickstart`: the main job from nothing, on the CPU and without a network. Generates a German/English corpus, trains a small
 * LLaMA from scratch in ALMA's two stages, compares it with what one stage alone gives, and translates sentences it has never seen.
 *
 * Options: --json (results on stdout, everything else on stderr), --fast (a short run of every part), --output FOLDER, --seed N.
 */
import { rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { Alma, type Stage } from '../lib/index.js'
import { createProgressReporter } from '../lib/train/index.js'
import { type QuickstartData, writeData } from './data.js'
import { measure, type QuickstartResult } from './measure.js'
import { type QuickstartSettings, settingsFor } from './settings.js'

const SHOWN_SENTENCES = 5

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean', default: false },
      fast: { type: 'boolean', default: false },
      output: { type: 'string', default: 'quickstart-model' },
      seed: { type: 'string', default: '1' },
    },
  })
  const say = (text: string): void => void (values.json ? process.stderr : process.stdout).write(`${text}\n`)
  const settings = settingsFor({ isFast: values.fast })
  const output = resolve(values.output)
  const seed = Number(values.seed)
  const begin = performance.now()

  await rm(output, { recursive: true, force: true })
  const data = await writeData(join(output, 'data'), settings, seed)
  const { corpus } = data
  say(
    `Corpus: ${corpus.train.length} pairs to train on, ${corpus.heldOut.length} held out, ` +
      `${corpus.monolingual.de.length} sentences of each language alone (${join(output, 'data')})`,
  )

  const results: QuickstartResult[] = []
  const stages = stagesFor(data, settings, seed)
  const progress = await createProgressReporter({ logFile: join(output, 'data', 'training-log.jsonl') })
  const train = async (alma: Alma, stage: Stage): Promise<void> => {
    await alma.finetune(stage, { onProgress: progress.onProgress })
  }
  const measured = async (alma: Alma, name: string): Promise<void> => {
    const result = await measure(alma, name, corpus.heldOut)
    results.push(result)
    say(`${name}: chrF ${result.chrf.toFixed(1)}`)
  }

  {
    await using alma = await newModel(data, settings, seed)
    say(`Model: ${(alma.model.parameterCount / 1e6).toFixed(1)} million weights on ${alma.device.description}\n`)
    await measured(alma, 'untrained')
    await train(alma, stages.parallel)
    await measured(alma, 'stage 2 only')
  }
  await using alma = await newModel(data, settings, seed)
  await train(alma, stages.monolingual)
  await measured(alma, 'stage 1 only')
  await train(alma, stages.parallel)
  await measured(alma, 'both stages')
  await progress.close()
  await alma.save(output)

  const order = ['untrained', 'stage 1 only', 'stage 2 only', 'both stages']
  results.sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name))
  say(`\n${table(results)}\n`)
  await showTranslations(alma, data, say)
  say(`\nDone in ${((performance.now() - begin) / 1000).toFixed(0)} s. The model is in ${output}; try:`)
  say(`  echo "Das Buch kostet zwölf Euro." | npx alma-native translate --model ${values.output} --from de --to en`)
  if (values.json) process.stdout.write(`${JSON.stringify({ results })}\n`)
}

function newModel(data: QuickstartData, settings: QuickstartSettings, seed: number): Promise<Alma> {
  const { vocabSize, hiddenSize, intermediateSize, layers, heads } = settings
  return Alma.create(
    {
      vocabSize,
      hiddenSize,
      intermediateSize,
      numHiddenLayers: layers,
      numAttentionHeads: heads,
      numKeyValueHeads: heads / 2,
      maxPositionEmbeddings: 256,
      tieWordEmbeddings: true,
      initializerRange: 0.02,
      bosTokenId: 1,
      eosTokenId: 2,
      padTokenId: 0,
    },
    { tokenizer: data.tokenizer, device: 'cpu', seed },
  )
}

function stagesFor(
  data: QuickstartData,
  settings: QuickstartSettings,
  seed: number,
): { readonly monolingual: Stage; readonly parallel: Stage } {
  const common = { betas: settings.betas, warmupRatio: 0.05, seed }
  return {
    monolingual: {
      kind: 'monolingual',
      sources: [
        { path: data.monolingual.de, language: 'de', probability: 0.5 },
        { path: data.monolingual.en, language: 'en', probability: 0.5 },
      ],
      blockSize: settings.blockSize,
      maxSteps: settings.monolingualSteps,
      batchSize: settings.monolingualBatch,
      learningRate: settings.monolingualRate,
      ...common,
    },
    parallel: {
      kind: 'parallel',
      pairs: [{ path: data.train, from: 'de', to: 'en' }],
      validation: [{ path: data.validation, from: 'de', to: 'en' }],
      maxSteps: settings.parallelSteps,
      batchSize: settings.parallelBatch,
      learningRate: settings.parallelRate,
      schedule: 'cosine',
      ...common,
    },
  }
}

function table(results: readonly QuickstartResult[]): string {
  const rows = results.map(({ name, bleu, chrf, loss }) => [name, bleu.toFixed(1), chrf.toFixed(1), loss.toFixed(3)])
  return [['held-out, both directions', 'BLEU', 'chrF', 'loss'], ...rows]
    .map(([name = '', ...numbers]) => name.padEnd(28) + numbers.map((number) => number.padStart(8)).join(''))
    .join('\n')
}

async function showTranslations(alma: Alma, { corpus }: QuickstartData, say: (text: string) => void): Promise<void> {
  for (const [index, { de, en }] of corpus.heldOut.slice(0, SHOWN_SENTENCES).entries()) {
    const german = index % 2 === 0
    const [source, reference, from, to] = german ? [de, en, 'de', 'en'] : [en, de, 'en', 'de']
    const { text } = await alma.translate(source, { from, to })
    say(`  ${source}\n    → ${text}${text === reference ? '' : `\n      (reference: ${reference})`}`)
  }
}

process.on('SIGINT', () => process.exit(130))
await main()
