/**
 * A small LLaMA from random weights on real parallel text: tokenizer, both stages, held-out scores.
 *
 *   node examples/from-scratch.mjs --train train.de-en.jsonl --valid valid.de-en.jsonl --test test.de-en.jsonl \
 *     --from de --to en --output from-scratch-model [--steps 1800]
 *
 * Files: ALMA's JSON, JSON Lines or TSV, plain or gzip. The sides of the training pairs serve as the monolingual text of stage 1.
 * What a model of this size learns in minutes is the look of both languages, not translation.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Alma, createProgressReporter, readParallel, saveTrainedTokenizer, trainBpeTokenizer } from 'alma-native'

const { values } = parseArgs({
  options: {
    train: { type: 'string' },
    valid: { type: 'string' },
    test: { type: 'string' },
    from: { type: 'string', default: 'de' },
    to: { type: 'string', default: 'en' },
    output: { type: 'string', default: 'from-scratch-model' },
    // Steps of both stages together; about ten minutes on two cores.
    steps: { type: 'string', default: '1800' },
  },
})
const { train, valid, test, from, to, output } = values
if (train === undefined || valid === undefined) throw new Error('--train and --valid are needed')

const sentences = []
for await (const { source, target } of readParallel(train, { from, to })) sentences.push(source, target)
const tokenizer = join(output, 'tokenizer')
await mkdir(output, { recursive: true })
await saveTrainedTokenizer(tokenizer, trainBpeTokenizer(sentences, { vocabSize: 6000 }))

const alma = await Alma.create(
  {
    vocabSize: 6000,
    hiddenSize: 192,
    intermediateSize: 512,
    numHiddenLayers: 4,
    numAttentionHeads: 6,
    numKeyValueHeads: 3,
    maxPositionEmbeddings: 512,
    tieWordEmbeddings: true,
    bosTokenId: 1,
    eosTokenId: 2,
  },
  { tokenizer, device: 'cpu' },
)
console.error(`${(alma.model.parameterCount / 1e6).toFixed(1)} million weights on ${alma.device.description}`)

const steps = Number(values.steps)
const common = { warmupRatio: 0.05, betas: [0.9, 0.98] }
const progress = await createProgressReporter({ logFile: join(output, 'training-log.jsonl') })
const report = await alma.finetune(
  [
    {
      kind: 'monolingual',
      sources: [
        { path: train, language: from, probability: 0.5 },
        { path: train, language: to, probability: 0.5 },
      ],
      validation: [
        { path: valid, language: from },
        { path: valid, language: to },
      ],
      blockSize: 128,
      batchSize: 16,
      learningRate: 2e-3,
      maxSteps: Math.round(steps * 0.4),
      ...common,
    },
    {
      kind: 'parallel',
      pairs: [{ path: train, from, to }],
      validation: [{ path: valid, from, to }],
      batchSize: 24,
      learningRate: 2e-3,
      maxSteps: Math.round(steps * 0.6),
      ...common,
    },
  ],
  { output, onProgress: progress.onProgress },
)
await progress.close()

for (const { kind, seconds, tokens, validation } of report.stages) {
  const losses = validation.map(({ step, loss }) => `${step}: ${loss.toFixed(3)}`).join(', ')
  console.log(`${kind}: ${tokens} tokens in ${seconds.toFixed(0)} s; validation loss by step: ${losses}`)
}
if (test !== undefined) {
  const pairs = []
  for await (const pair of readParallel(test, { from, to })) {
    if (pairs.push(pair) === 200) break
  }
  const { bleu, chrf } = await alma.evaluate(pairs, { from, to, maxNewTokens: 96 })
  console.log(`first ${pairs.length} test sentences: BLEU ${bleu.score.toFixed(2)}, chrF ${chrf.score.toFixed(2)}`)
}
await alma.dispose()
