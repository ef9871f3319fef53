/**
 * `npm run bench:recipes -- --data FOLDER`: a model from random weights goes through ALMA's stages on real text, German and English, in
 * several variants that share everything else; one line of the table for each. FOLDER holds ALMA's data as JSON Lines
 * (`train.de-en.jsonl.gz`, `valid.de-en…`, `test.de-en…`, `test.en-de…` and the training files of the other pairs).
 *
 * Options: --size tiny|small|large, --device NAME, --output FOLDER, --seed N, --only TEXT (rows whose name contains it), --json.
 * Interrupted, it goes on where it was: rows that are done are read from the output folder, and the row in progress resumes.
 */
import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { AlmaError } from '../../lib/errors.js'
import { writeFileAtomic } from '../../lib/files/atomic.js'
import { isObject, readJsonFile } from '../../lib/files/json.js'
import { Alma, type Stage, type StageReport } from '../../lib/index.js'
import { loadTokenizer, monolingualDocument, readMonolingual } from '../../lib/text/index.js'
import { createProgressReporter } from '../../lib/train/index.js'
import { prepareData, type RecipeData } from './data.js'
import { copyBaseline, measure, type RecipeResult } from './measure.js'
import { writePreferenceData } from './preference-data.js'
import { type RecipeSettings, recipeSettings } from './settings.js'
import { markdownTable } from './table.js'
import { type Variant, variantsOf } from './variants.js'

interface Experiment {
  readonly data: RecipeData
  readonly settings: RecipeSettings
  readonly output: string
  readonly device: string
  readonly seed: number
  readonly signal: AbortSignal
  readonly say: (text: string) => void
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      data: { type: 'string' },
      size: { type: 'string', default: 'small' },
      device: { type: 'string', default: 'auto' },
      output: { type: 'string', default: 'runs/recipes' },
      seed: { type: 'string', default: '1' },
      only: { type: 'string', default: '' },
      json: { type: 'boolean', default: false },
    },
  })
  const { size } = values
  if (values.data === undefined) throw new AlmaError('ERR_ALMA_OPTION', "--data FOLDER is missing: ALMA's data files")
  const settings = Object.hasOwn(recipeSettings, size) ? recipeSettings[size as keyof typeof recipeSettings] : undefined
  if (settings === undefined) throw new AlmaError('ERR_ALMA_OPTION', `--size ${size}: expected tiny, small or large`)
  const say = (text: string): void => void process.stderr.write(`${text}\n`)
  const controller = new AbortController()
  process.once('SIGINT', () => controller.abort(new Error('interrupted; the same command goes on from here')))
  const seed = Number(values.seed)
  const output = resolve(values.output, size)
  await mkdir(output, { recursive: true })
  const data = await prepareData(resolve(values.data), join(output, 'data'), settings, seed)
  const { documents, trainPairs } = data
  say(`${trainPairs.length} pairs; documents: ${documents.de} German, ${documents.en} English`)
  const experiment: Experiment = { data, settings, output, device: values.device, seed, signal: controller.signal, say }

  const monolingualTokens = await countTokens(data)
  say(`${monolingualTokens} monolingual tokens`)
  const untrained: Variant = { name: 'untrained', stages: [] }
  const variants = [untrained, ...variantsOf(data, settings, monolingualTokens, seed)]
  const results: RecipeResult[] = [copyBaseline(data)]
  for (const variant of variants.filter(({ name }) => name.includes(values.only))) {
    results.push(await resultOf(variant, variants, experiment))
    say(`\n${markdownTable(results)}\n`)
  }
  process.stdout.write(values.json ? `${JSON.stringify({ size, results })}\n` : `${markdownTable(results)}\n`)
}

/** Trains and measures a variant, and before it the one it begins with, unless an earlier run has. */
async function resultOf(variant: Variant, variants: readonly Variant[], experiment: Experiment): Promise<RecipeResult> {
  const { data, settings, output, signal, say } = experiment
  const folder = folderOf(variant.name, output)
  const resultFile = join(folder, 'result.json')
  const done = await readJsonFile(resultFile, 'ERR_ALMA_CORPUS')
  if (isObject(done)) return done as unknown as RecipeResult
  const base = variants.find(({ name }) => name === variant.from)
  const before = base === undefined ? undefined : await resultOf(base, variants, experiment)
  await mkdir(folder, { recursive: true })
  say(`${variant.name}:`)
  await using alma = await startOf(variant, experiment)
  const begin = performance.now()
  const reports = await train(alma, variant, folder, experiment)
  const seconds = (performance.now() - begin) / 1000
  const own = reports.map(({ kind, steps, tokens }) => ({ kind, steps, tokens }))
  const measured = await measure(alma, data, settings, signal)
  const result = { name: variant.name, ...measured, stages: [...(before?.stages ?? []), ...own], seconds }
  await writeFileAtomic(resultFile, `${JSON.stringify(result, null, 1)}\n`)
  return result
}

async function train(
  alma: Alma,
  { stages: first, preference }: Variant,
  output: string,
  { data, settings, seed, signal }: Experiment,
): Promise<readonly StageReport[]> {
  const stages: Stage[] = [...first]
  if (preference !== undefined) {
    const path = join(output, 'preference.jsonl')
    // A run that goes on has its pairs; the model would not make the same ones again.
    if (!existsSync(path)) await writePreferenceData(alma, data, settings, { path, seed, signal })
    stages.push({ ...preference, data: path })
  }
  if (stages.length === 0) return []
  const progress = await createProgressReporter()
  try {
    const report = await alma.finetune(stages, { output, resume: true, signal, onProgress: progress.onProgress })
    return report.stages
  } finally {
    await progress.close()
  }
}

const folderOf = (name: string, output: string): string => join(output, name.replaceAll(/[^a-z0-9]+/gi, '-'))

function startOf({ from }: Variant, { data, settings, output, device, seed }: Experiment): Promise<Alma> {
  return from === undefined ? newModel(data, settings, device, seed) : Alma.load(folderOf(from, output), { device })
}

function newModel(data: RecipeData, settings: RecipeSettings, device: string, seed: number): Promise<Alma> {
  const { vocabSize, hiddenSize, intermediateSize, layers, heads, maxPositionEmbeddings } = settings
  return Alma.create(
    {
      vocabSize,
      hiddenSize,
      intermediateSize,
      numHiddenLayers: layers,
      numAttentionHeads: heads,
      numKeyValueHeads: heads,
      maxPositionEmbeddings,
      tieWordEmbeddings: true,
      initializerRange: 0.02,
      bosTokenId: 1,
      eosTokenId: 2,
    },
    { tokenizer: data.tokenizer, device, seed },
  )
}

async function countTokens({ monolingual, tokenizer: folder }: RecipeData): Promise<number> {
  const tokenizer = await loadTokenizer(folder)
  if (tokenizer === undefined) throw new AlmaError('ERR_ALMA_TOKENIZER', `${folder}: has no tokenizer`)
  let count = 0
  for (const [language, path] of Object.entries(monolingual)) {
    for await (const { text } of readMonolingual(path, { language }))
      count += monolingualDocument(tokenizer, text).length
  }
  return count
}

await main()
