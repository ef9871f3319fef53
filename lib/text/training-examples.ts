/** From texts to the token ids and labels that models are trained on. */
import { AlmaError } from '../errors.js'
import { IGNORE_INDEX } from '../ignore-index.js'
import { type LanguageLike, type PromptStyle, translationPrompt } from './prompt.js'
import type { Tokenizer } from './tokenizer.js'

export interface TrainingExample {
  readonly inputIds: number[]
  /** As long as `inputIds` and not shifted: `labels[t]` is `inputIds[t]`, or {@link IGNORE_INDEX}. */
  readonly labels: number[]
  /** Of a preference pair: the response that is to become less likely. */
  readonly rejected?: Omit<TrainingExample, 'rejected'>
}

export interface ParallelSentence {
  readonly source: string
  readonly target: string
  readonly from: LanguageLike
  readonly to: LanguageLike
}

export interface ParallelExampleOptions {
  /** Tokens; source and target share `maxSourceLength + maxNewTokens`, BOS and EOS included. Default 256. */
  readonly maxSourceLength?: number
  /** Tokens. Default 256. */
  readonly maxNewTokens?: number
  /** Passed to the prompt. Default ""; " " behind X-ALMA's prompt, as in the chat template. */
  readonly separator?: string
  /** Passed to the prompt. Default ALMA's prompt. */
  readonly template?: string
  /** Passed to the prompt. Default 'alma'. */
  readonly promptStyle?: PromptStyle
  /**
   * `'alma'` reproduces an off-by-one of the original (`tokenize_function_train_eval_left_pad`): the length of the prompt is
   * counted without BOS but masked from BOS on, so that the prompt's last token, the colon, is a label too. Default: the whole
   * prompt is masked.
   */
  readonly compat?: 'alma'
}

/**
 * BOS, prompt, target and EOS as one training sequence, the loss counting target and EOS (stage 2 of ALMA).
 *
 * Prompt and target are tokenised as one string, as ALMA does it. A piece may then cross the border, e.g. a target that begins
 * with ":" makes "::" with the prompt's colon. Such a piece holds text of the target and is a label; the prompt is masked as
 * far as its own ids are an exact beginning of the sequence.
 *
 * What exceeds the length is cut at the end and EOS put behind the cut, as in ALMA. When nothing of the target is left, no label
 * is left either (ALMA would count the EOS alone, and so teach empty translations).
 */
export function parallelExample(
  tokenizer: Tokenizer,
  sentence: ParallelSentence,
  options: ParallelExampleOptions = {},
): TrainingExample {
  const { ids, firstLabel } = parallelSequence(tokenizer, sentence, options)
  return { inputIds: [...ids], labels: labelsFrom(ids, firstLabel) }
}

/** Labels of a sequence: its ids from `firstLabel` on. */
export function labelsFrom(ids: readonly number[], firstLabel: number): number[] {
  return [...ids].fill(IGNORE_INDEX, 0, firstLabel)
}

/** As {@link parallelExample}; the labels are the ids from `firstLabel` on, and `cut` says whether something did not fit. */
export function parallelSequence(
  tokenizer: Tokenizer,
  sentence: ParallelSentence,
  options: ParallelExampleOptions = {},
): { readonly ids: readonly number[]; readonly firstLabel: number; readonly cut: boolean } {
  const { maxSourceLength = 256, maxNewTokens = 256, compat } = options
  const prompt = trainingPrompt(sentence, options)
  const promptIds = tokenizer.encode(prompt)
  const full = tokenizer.encode(prompt + sentence.target, { addBos: true, addEos: true })
  const eos = full.pop() as number
  const limit = lengthLimit(maxSourceLength, maxNewTokens) - 1
  const kept = full.slice(0, limit)
  const ids = [...kept, eos]
  const cut = kept.length < full.length
  let masked: number
  if (compat === 'alma') masked = promptIds.length
  else {
    masked = 1
    while (masked <= promptIds.length && full[masked] === promptIds[masked - 1]) masked++
    if (cut && masked >= kept.length) masked = ids.length
  }
  return { ids, firstLabel: Math.min(masked, ids.length), cut }
}

/** The prompt of a training example, with what stands between it and the target. */
export function trainingPrompt(
  { from, to, source }: Omit<ParallelSentence, 'target'>,
  { separator, template, promptStyle }: Pick<ParallelExampleOptions, 'separator' | 'template' | 'promptStyle'>,
): string {
  const behind = separator ?? (promptStyle === 'x-alma' ? ' ' : undefined)
  return translationPrompt({
    from,
    to,
    source,
    ...(behind !== undefined && { separator: behind }),
    ...(template !== undefined && { template }),
    ...(promptStyle !== undefined && { promptStyle }),
  })
}

function lengthLimit(maxSourceLength: number, maxNewTokens: number): number {
  for (const [name, value] of Object.entries({ maxSourceLength, maxNewTokens }))
    if (!Number.isInteger(value) || value < 1)
      throw new AlmaError('ERR_ALMA_OPTION', `${name}: expected a positive number of tokens, got ${value}`)
  return maxSourceLength + maxNewTokens
}

/** BOS, the trimmed text and EOS: a document of stage 1, of any length; {@link BlockPacker} cuts it (`tokenize_function_train_oscar_mono`). */
export function monolingualDocument(tokenizer: Tokenizer, text: string): number[] {
  return tokenizer.encode(text.trim(), { addBos: true, addEos: true })
}

/** What a {@link BlockPacker} holds between two pushes; plain data for a checkpoint. */
export interface BlockPackerState {
  readonly blockSize: number
  readonly pending: readonly number[]
}

/**
 * Joins documents and cuts them into blocks of `blockSize` tokens; all of them are labels, and attention is not masked between documents, as in
 * ALMA. The rest of a document goes on in the next block; ALMA drops the rest of every 1,000 documents.
 */
export class BlockPacker {
  readonly blockSize: number
  #pending: number[] = []

  constructor(blockSize: number) {
    if (!Number.isInteger(blockSize) || blockSize < 2)
      throw new AlmaError('ERR_ALMA_OPTION', `blockSize: expected at least 2 tokens, got ${blockSize}`)
    this.blockSize = blockSize
  }

  /** Adds a document and returns the blocks that it completes, possibly none. */
  push(ids: readonly number[]): number[][] {
    const blocks: number[][] = []
    let from = 0
    while (this.#pending.length + ids.length - from >= this.blockSize) {
      const take = this.blockSize - this.#pending.length
      blocks.push([...this.#pending, ...ids.slice(from, from + take)])
      this.#pending = []
      from += take
    }
    for (let i = from; i < ids.length; i++) this.#pending.push(ids[i] as number)
    return blocks
  }

  state(): BlockPackerState {
    return { blockSize: this.blockSize, pending: [...this.#pending] }
  }

  /** @throws AlmaError ERR_ALMA_OPTION when the state belongs to another block size */
  restore(state: BlockPackerState): void {
    if (state.blockSize !== this.blockSize || state.pending.length >= this.blockSize)
      throw new AlmaError(
        'ERR_ALMA_OPTION',
        `blockSize: ${this.blockSize}, but the saved state holds ${state.pending.length} tokens of blocks of ${state.blockSize}`,
      )
    this.#pending = [...state.pending]
  }
}
