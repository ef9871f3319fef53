import { optionError, requireInteger, requireKnownOptions } from '../decode/index.js'
import { AlmaError } from '../errors.js'
import { isObject } from '../files/json.js'
import { IGNORE_INDEX } from '../ignore-index.js'
import { PackedSequences } from '../model/index.js'
import { ops, Tensor } from '../runtime/index.js'
import { parallelExample } from '../text/index.js'
import { requirePromptOptions, requireText, type Score, type ScoreOptions, type ScorePair } from './options.js'
import type { Translator } from './translate.js'

/** A prompt with its translation, and where the translation's tokens are. */
interface Scored {
  readonly index: number
  readonly inputIds: readonly number[]
  /** Positions in inputIds that are scored. */
  readonly targets: readonly number[]
}

export function requireScoreOptions(options: ScoreOptions): void {
  requireKnownOptions('score', options, ['template', 'separator', 'promptStyle', 'batchTokens', 'adapter', 'signal'])
}

/** Log-probabilities of given translations; tokens and EOS are those that training would see. */
export async function scorePairs(
  translator: Translator,
  pairs: readonly ScorePair[],
  options: ScoreOptions,
): Promise<Score[]> {
  const { signal } = options
  const batchTokens = requireInteger('batchTokens', options.batchTokens ?? 2048, 1)
  const scored = pairs.map((pair, index) => encodePair(translator, pair, index, options))
  const scores: Score[] = []
  for (const batch of batchesOf(scored, batchTokens)) {
    signal?.throwIfAborted()
    for (const [index, score] of await scoreBatch(translator, batch)) scores[index] = score
    signal?.throwIfAborted()
  }
  return scores
}

function encodePair(translator: Translator, pair: ScorePair, index: number, options: ScoreOptions): Scored {
  const { tokenizer, model } = translator
  const { template, separator, promptStyle } = options
  if (!isObject(pair)) throw optionError(`pairs[${index}]`, '{ source, target, from, to }', pair)
  const prompt = {
    ...(template !== undefined && { template }),
    ...(separator !== undefined && { separator }),
    ...(promptStyle !== undefined && { promptStyle }),
  }
  requirePromptOptions({ from: pair.from, to: pair.to, ...prompt })
  const sentence = {
    source: requireText(`pairs[${index}].source`, pair.source),
    target: requireText(`pairs[${index}].target`, pair.target),
    from: pair.from,
    to: pair.to,
  }
  const context = model.config.maxPositionEmbeddings
  // One more than the context: nothing is cut silently, a longer pair is seen and reported.
  const { inputIds, labels } = parallelExample(tokenizer, sentence, {
    ...prompt,
    maxSourceLength: context,
    maxNewTokens: 1,
  })
  if (inputIds.length > context) {
    throw new AlmaError(
      'ERR_ALMA_CONTEXT',
      `pairs[${index}]: prompt and translation have more tokens than the model's context of ${context}`,
    )
  }
  const targets = [...labels.keys()].filter((t) => t > 0 && labels[t] !== IGNORE_INDEX)
  return { index, inputIds, targets }
}

/** Neighbours in length together, at most so many tokens a batch (or one sequence). */
function batchesOf(scored: readonly Scored[], batchTokens: number): Scored[][] {
  const batches: Scored[][] = []
  let tokens = Number.POSITIVE_INFINITY
  for (const sequence of scored.toSorted((a, b) => b.inputIds.length - a.inputIds.length)) {
    tokens += sequence.inputIds.length
    const batch = batches.at(-1)
    if (batch === undefined || tokens > batchTokens) {
      batches.push([sequence])
      tokens = sequence.inputIds.length
    } else batch.push(sequence)
  }
  return batches
}

async function scoreBatch({ model }: Translator, batch: readonly Scored[]): Promise<Map<number, Score>> {
  const { device } = model
  const rows: number[] = []
  const ids: number[] = []
  let row = 0
  for (const { inputIds, targets } of batch) {
    for (const t of targets) {
      // The row of the token before predicts it.
      rows.push(row + t - 1)
      ids.push(inputIds[t] ?? 0)
    }
    row += inputIds.length
  }
  using tokens = new PackedSequences(
    device,
    batch.map(({ inputIds }) => inputIds),
  )
  using logitRows = Tensor.from(device, Int32Array.from(rows))
  using targetIds = Tensor.from(device, Int32Array.from(ids))
  using logits = model.forward(tokens, { logitRows })
  using nll = ops.crossEntropy(logits, targetIds)
  const losses = await nll.readFloats()
  const scores = new Map<number, Score>()
  let next = 0
  for (const { index, inputIds, targets } of batch) {
    const tokenLogprobs = targets.map(() => -(losses[next++] ?? Number.NaN))
    const logprob = tokenLogprobs.reduce((sum, value) => sum + value, 0)
    scores.set(index, { logprob, tokenLogprobs, tokenIds: targets.map((t) => inputIds[t] ?? 0) })
  }
  return scores
}
