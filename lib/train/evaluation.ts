/** Evaluations of a stage: the loss of its validation data, and BLEU and chrF of sentences translated greedily. */
import { generateTokens, resolveDecoding } from '../decode/index.js'
import { bleuTokenizerFor } from '../metrics/bleu-tokenizer.js'
import { metrics } from '../metrics/index.js'
import type { LlamaForCausalLM } from '../model/index.js'
import { Tensor } from '../runtime/index.js'
import {
  cleanTranslation,
  encodeTranslation,
  type ParallelSentence,
  Random,
  type Tokenizer,
  type TrainingExample,
} from '../text/index.js'
import { languageOf } from '../text/prompt.js'
import { microBatches, sequencesOf } from './batches.js'
import { PREDICT_SAMPLES, translates } from './evaluation-options.js'
import type { DirectionScores, TranslationSample, ValidationRecord } from './events.js'
import { directionOf, parallelSentences, validationGroups } from './examples.js'
import { countPairs, type PairCount, preferenceLossOf, type StepLoss } from './objective.js'
import { lossSettings } from './preference-stage.js'
import type { PreferenceResolved } from './sequence-files.js'
import type { ResolvedStage } from './stages.js'

/** Longest translation where the stage does not say it, tokens. */
const MAX_NEW_TOKENS = 256
/** Translations of each direction that a record keeps, to be shown. */
const SHOWN_SAMPLES = 4

/** Examples of one language or one direction. */
export interface ExampleGroup {
  /** `de`, or `de-en`. */
  readonly name: string
  readonly examples: readonly TrainingExample[]
}

interface Direction {
  readonly name: string
  readonly to: string
  readonly sentences: readonly (ParallelSentence & { readonly prompt: readonly number[] })[]
}

/** The data of a stage's evaluations, read once. */
export class Evaluation {
  readonly #model: LlamaForCausalLM
  readonly #tokenizer: Tokenizer
  readonly #stage: ResolvedStage
  readonly #groups: readonly ExampleGroup[]
  readonly #directions: readonly Direction[]
  readonly #maxNewTokens: number

  private constructor(
    model: LlamaForCausalLM,
    tokenizer: Tokenizer,
    stage: ResolvedStage,
    groups: readonly ExampleGroup[],
    directions: readonly Direction[],
    maxNewTokens: number,
  ) {
    this.#model = model
    this.#tokenizer = tokenizer
    this.#stage = stage
    this.#groups = groups
    this.#directions = directions
    this.#maxNewTokens = maxNewTokens
  }

  /** @throws AlmaError ERR_ALMA_CORPUS, ERR_ALMA_IO */
  static async open(model: LlamaForCausalLM, tokenizer: Tokenizer, stage: ResolvedStage): Promise<Evaluation> {
    const groups = await validationGroups(tokenizer, stage)
    for (const { examples } of groups) model.checkTokenIds(sequencesOf(examples))
    const maxNewTokens = 'maxNewTokens' in stage ? stage.maxNewTokens : MAX_NEW_TOKENS
    const directions = translates(stage) ? await drawDirections(model, tokenizer, stage) : []
    return new Evaluation(model, tokenizer, stage, groups, directions, maxNewTokens)
  }

  get isEmpty(): boolean {
    return this.#groups.length === 0
  }

  /** Measures the weights as they are. @throws the signal's reason */
  async measure(step: number, signal?: AbortSignal): Promise<ValidationRecord> {
    const measured =
      this.#stage.kind === 'preference'
        ? await preferenceLosses(this.#model, this.#stage, this.#groups, signal)
        : await groupLosses(this.#model, this.#groups, signal)
    if (this.#directions.length === 0) return { step, ...measured }
    const scores: Record<string, DirectionScores> = {}
    const samples: TranslationSample[] = []
    for (const direction of this.#directions) {
      const { score, translations } = await this.#translate(direction, signal)
      scores[direction.name] = score
      for (const [i, { source, target }] of direction.sentences.slice(0, SHOWN_SAMPLES).entries()) {
        samples.push({ direction: direction.name, source, reference: target, translation: translations[i] ?? '' })
      }
    }
    const mean = (of: keyof DirectionScores): number =>
      Object.values(scores).reduce((sum, score) => sum + score[of], 0) / this.#directions.length
    return { step, ...measured, bleu: mean('bleu'), chrf: mean('chrf'), scores, samples }
  }

  async #translate(
    { to, sentences }: Direction,
    signal: AbortSignal | undefined,
  ): Promise<{ readonly score: DirectionScores; readonly translations: readonly string[] }> {
    const decoding = resolveDecoding(
      { maxNewTokens: this.#maxNewTokens, ...(signal && { signal }) },
      this.#model.config,
    )
    const prompts = sentences.map(({ prompt }) => prompt)
    const generations = await generateTokens(this.#model, prompts, decoding)
    const translations = generations.map(({ tokenIds }) => cleanTranslation(this.#tokenizer.decode(tokenIds), { to }))
    const references = sentences.map(({ target }) => target)
    const bleu = metrics.bleu(translations, references, { tokenize: bleuTokenizerFor(to) }).score
    return { score: { bleu, chrf: metrics.chrf(translations, references).score }, translations }
  }
}

/** Sentences to translate, `predictSamples` of each direction; those that leave no room for a translation are not drawn. */
async function drawDirections(
  model: LlamaForCausalLM,
  tokenizer: Tokenizer,
  stage: ResolvedStage,
): Promise<Direction[]> {
  const files = stage.predictPairs ?? (stage.kind === 'parallel' ? stage.validation : undefined) ?? []
  const bidirectional = stage.kind === 'parallel' ? stage.bidirectional : true
  const promptStyle =
    stage.kind === 'monolingual' || stage.promptStyle === undefined ? {} : { promptStyle: stage.promptStyle }
  const byDirection = new Map<string, { to: string; sentences: Direction['sentences'][number][] }>()
  for await (const sentence of parallelSentences(files, bidirectional)) {
    const prompt = encodeTranslation(tokenizer, { ...sentence, ...promptStyle })
    if (prompt.length >= model.config.maxPositionEmbeddings) continue
    const name = directionOf(sentence)
    const direction = byDirection.get(name) ?? { to: languageOf(sentence.to).code, sentences: [] }
    byDirection.set(name, direction)
    direction.sentences.push({ ...sentence, prompt })
  }
  const random = new Random(stage.seed)
  return [...byDirection].map(([name, { to, sentences }]) => ({
    name,
    to,
    sentences: draw(sentences, stage.predictSamples ?? PREDICT_SAMPLES, random),
  }))
}

/** `count` of the items, in their order. */
function draw<T>(items: readonly T[], count: number, random: Random): T[] {
  const indices = [...items.keys()]
  for (let i = 0; i < Math.min(count, indices.length); i++) {
    const other = i + random.below(indices.length - i)
    const chosen = indices[other] as number
    indices[other] = indices[i] as number
    indices[i] = chosen
  }
  const chosen = indices.slice(0, count).sort((a, b) => a - b)
  return chosen.map((index) => items[index] as T)
}

/** Mean nll (nats) over all targets of the groups, and of each group. */
async function groupLosses(
  model: LlamaForCausalLM,
  groups: readonly ExampleGroup[],
  signal: AbortSignal | undefined,
): Promise<{ readonly loss: number; readonly losses: Readonly<Record<string, number>> }> {
  const losses: Record<string, number> = {}
  let total = 0
  let targets = 0
  for (const { name, examples } of groups) {
    const group = await summedLoss(model, examples, signal)
    losses[name] = group.sum / Math.max(1, group.targets)
    total += group.sum
    targets += group.targets
  }
  return { loss: total / Math.max(1, targets), losses }
}

/** The same of a preference stage, with its metrics. */
async function preferenceLosses(
  model: LlamaForCausalLM,
  stage: PreferenceResolved,
  groups: readonly ExampleGroup[],
  signal: AbortSignal | undefined,
): Promise<{ readonly losses: Readonly<Record<string, number>> } & Required<StepLoss>> {
  const losses: Record<string, number> = {}
  const total = new Float64Array(5)
  const counts: PairCount[] = []
  using weights = Tensor.zeros(model.device, [2], 'f32')
  for (const { name, examples } of groups) {
    using sums = Tensor.zeros(model.device, [5], 'f32')
    const batches = microBatches(examples)
    for (const batch of batches) {
      signal?.throwIfAborted()
      model.evaluatePreference(batch, { weights, sums }, lossSettings(stage))
      await model.device.synchronize()
    }
    const count = countPairs(batches)
    const group = await sums.readFloats()
    losses[name] = preferenceLossOf(stage, count, group).loss
    group.forEach((value, i) => {
      total[i] = (total[i] ?? 0) + value
    })
    counts.push(count)
  }
  return { losses, ...preferenceLossOf(stage, countPairs(counts), total) }
}

/** Mean nll (nats) over all targets of the examples. */
export async function validationLoss(
  model: LlamaForCausalLM,
  examples: readonly TrainingExample[],
  signal?: AbortSignal,
): Promise<number> {
  const { sum, targets } = await summedLoss(model, examples, signal)
  return sum / Math.max(1, targets)
}

async function summedLoss(
  model: LlamaForCausalLM,
  examples: readonly TrainingExample[],
  signal: AbortSignal | undefined,
): Promise<{ readonly sum: number; readonly targets: number }> {
  using lossSum = Tensor.zeros(model.device, [1], 'f32')
  let targets = 0
  for (const batch of microBatches(examples)) {
    signal?.throwIfAborted()
    model.evaluateLoss(batch, lossSum)
    targets += batch.targets
    await model.device.synchronize()
  }
  const [sum = Number.NaN] = await lossSum.readFloats()
  return { sum, targets }
}
