/** The endless streams of training examples, with a state from which they go on exactly. */
import { AlmaError } from '../errors.js'
import {
  BlockPacker,
  type BlockPackerState,
  type Interleaved,
  type InterleaveState,
  interleave,
  monolingualDocument,
  type ParallelSentence,
  parallelExample,
  readMonolingual,
  readParallel,
  shuffled,
  type Tokenizer,
  type TrainingExample,
} from '../text/index.js'
import { type LanguageLike, languageOf } from '../text/prompt.js'
import type { ExampleGroup } from './evaluation.js'
import { EventLoopBudget } from './event-loop.js'
import type { MonolingualSource, ParallelSource, ResolvedStage } from './stages.js'

/** Items held in memory for shuffling; a smaller corpus is shuffled uniformly. Documents may be long, sentence pairs are not. */
const SHUFFLED_DOCUMENTS = 5000
const SHUFFLED_PAIRS = 50_000

export type MonolingualState = {
  readonly epoch: number
  readonly interleave: InterleaveState | null
  readonly packer: BlockPackerState
  readonly ready: readonly (readonly number[])[]
}
export type ParallelState = { readonly epoch: number; readonly taken: number }
export type ExampleState = MonolingualState | ParallelState

export interface ExampleStream {
  /** The next example; undefined when `epochs` passes are over. */
  next(): Promise<TrainingExample | undefined>
  /** Where the stream stands, as plain data; not while a next() is pending. */
  state(): ExampleState
  /** Closes the files. */
  close(): Promise<void>
}

/** Seeds of different passes and sources must differ, and not by a pattern that repeats within the run. */
function seedOf(seed: number, ...parts: readonly number[]): number {
  let mixed = seed
  for (const part of parts) mixed = (Math.imul(mixed ^ (mixed >>> 16), 0x45d9f3b) + part * 0x9e3779b1) >>> 0
  return mixed
}

export function openExamples(
  tokenizer: Tokenizer,
  stage: ResolvedStage,
  epochs: number,
  state?: ExampleState,
): ExampleStream {
  return stage.kind === 'monolingual'
    ? new MonolingualExamples(tokenizer, stage, epochs, state as MonolingualState | undefined)
    : new ParallelExamples(tokenizer, stage, epochs, state as ParallelState | undefined)
}

type Kind<K extends ResolvedStage['kind']> = Extract<ResolvedStage, { kind: K }>
type Documents = AsyncIterator<{ readonly item: { readonly text: string } }>

/** Blocks of blockSize tokens from the interleaved documents of all sources; what is left over at the end of a pass is dropped. */
class MonolingualExamples implements ExampleStream {
  readonly #tokenizer: Tokenizer
  readonly #stage: Kind<'monolingual'>
  readonly #epochs: number
  readonly #packer: BlockPacker
  readonly #budget = new EventLoopBudget()
  #ready: (readonly number[])[] = []
  #epoch = 0
  #blocksOfPass = 0
  #mix: Interleaved<{ readonly text: string }> | undefined
  #documents: Documents | undefined
  #resumeFrom: InterleaveState | undefined

  constructor(tokenizer: Tokenizer, stage: Kind<'monolingual'>, epochs: number, state?: MonolingualState) {
    this.#tokenizer = tokenizer
    this.#stage = stage
    this.#epochs = epochs
    this.#packer = new BlockPacker(stage.blockSize)
    if (state !== undefined) {
      this.#epoch = state.epoch
      this.#packer.restore(state.packer)
      this.#ready = [...state.ready]
      this.#resumeFrom = state.interleave ?? undefined
      this.#blocksOfPass = 1 // the run that saved the state had some
    }
  }

  async next(): Promise<TrainingExample | undefined> {
    while (this.#ready.length === 0) {
      if (this.#epoch >= this.#epochs) return undefined
      this.#documents ??= this.#open()
      const document = await this.#documents.next()
      if (document.done === true) {
        if (this.#blocksOfPass === 0) throw noExamples(this.#stage)
        this.#epoch++
        this.#blocksOfPass = 0
        this.#documents = undefined
        this.#mix = undefined
        this.#packer.restore({ blockSize: this.#stage.blockSize, pending: [] })
        continue
      }
      const blocks = this.#packer.push(monolingualDocument(this.#tokenizer, document.value.item.text))
      this.#ready.push(...blocks)
      this.#blocksOfPass += blocks.length
      await this.#budget.breathe()
    }
    const inputIds = [...(this.#ready.shift() ?? [])]
    return { inputIds, labels: inputIds }
  }

  state(): MonolingualState {
    return {
      epoch: this.#epoch,
      interleave: this.#mix?.state() ?? this.#resumeFrom ?? null,
      packer: this.#packer.state(),
      ready: [...this.#ready],
    }
  }

  async close(): Promise<void> {
    await this.#documents?.return?.()
  }

  #open(): Documents {
    const { sources, seed } = this.#stage
    const epoch = this.#epoch
    this.#mix = interleave(
      sources.map(
        ({ path, language }, index) =>
          (pass) =>
            shuffled(() => readMonolingual(path, { language }), {
              bufferSize: SHUFFLED_DOCUMENTS,
              seed: seedOf(seed, epoch, index, pass),
            }),
      ),
      {
        probabilities: sources.map(({ probability = 1 }) => probability),
        seed: seedOf(seed, epoch),
        ...(this.#resumeFrom && { state: this.#resumeFrom }),
      },
    )
    this.#resumeFrom = undefined
    return this.#mix[Symbol.asyncIterator]()
  }
}

/** Translation examples of all files and directions, shuffled anew in every pass. */
class ParallelExamples implements ExampleStream {
  readonly #tokenizer: Tokenizer
  readonly #stage: Kind<'parallel'>
  readonly #epochs: number
  readonly #budget = new EventLoopBudget()
  #epoch = 0
  #taken = 0
  #sentences: AsyncIterator<ParallelSentence> | undefined

  constructor(tokenizer: Tokenizer, stage: Kind<'parallel'>, epochs: number, state?: ParallelState) {
    this.#tokenizer = tokenizer
    this.#stage = stage
    this.#epochs = epochs
    this.#epoch = state?.epoch ?? 0
    this.#taken = state?.taken ?? 0
  }

  async next(): Promise<TrainingExample | undefined> {
    while (this.#epoch < this.#epochs) {
      this.#sentences ??= this.#open()
      const sentence = await this.#sentences.next()
      await this.#budget.breathe()
      if (sentence.done !== true) {
        this.#taken++
        return translationExample(this.#tokenizer, sentence.value, this.#stage)
      }
      if (this.#taken === 0) throw noExamples(this.#stage)
      this.#epoch++
      this.#taken = 0
      this.#sentences = undefined
    }
    return undefined
  }

  state(): ParallelState {
    return { epoch: this.#epoch, taken: this.#taken }
  }

  async close(): Promise<void> {
    await this.#sentences?.return?.()
  }

  #open(): AsyncIterator<ParallelSentence> {
    const { pairs, bidirectional, seed } = this.#stage
    const ordered = shuffled(() => parallelSentences(pairs, bidirectional), {
      bufferSize: SHUFFLED_PAIRS,
      seed: seedOf(seed, this.#epoch),
      skip: this.#taken,
    })
    return ordered[Symbol.asyncIterator]()
  }
}

/** The pairs of all files, in both directions if asked for. Pairs with an empty side teach nothing and are left out. */
export async function* parallelSentences(
  files: readonly ParallelSource[],
  bidirectional: boolean,
): AsyncGenerator<ParallelSentence> {
  for (const { path, from, to } of files) {
    for await (const { source, target } of readParallel(path, { from, to })) {
      if (source.trim() === '' || target.trim() === '') continue
      yield { source, target, from, to }
      if (bidirectional) yield { source: target, target: source, from: to, to: from }
    }
  }
}

export function translationExample(
  tokenizer: Tokenizer,
  sentence: ParallelSentence,
  stage: Kind<'parallel'>,
): TrainingExample {
  const { maxSourceLength, maxNewTokens, compat } = stage
  return parallelExample(tokenizer, sentence, {
    maxSourceLength,
    maxNewTokens,
    ...(compat === 'alma' && { compat }),
  })
}

/** The validation data of a stage by language or direction; empty when it has none. */
export async function validationGroups(tokenizer: Tokenizer, stage: ResolvedStage): Promise<ExampleGroup[]> {
  const groups = new Map<string, TrainingExample[]>()
  const add = (name: string, example: TrainingExample): void => {
    const group = groups.get(name)
    if (group === undefined) groups.set(name, [example])
    else group.push(example)
  }
  const budget = new EventLoopBudget()
  if (stage.kind === 'parallel') {
    for await (const sentence of parallelSentences(stage.validation ?? [], stage.bidirectional)) {
      add(directionOf(sentence), translationExample(tokenizer, sentence, stage))
      await budget.breathe()
    }
  } else {
    for (const source of stage.validation ?? []) {
      for await (const block of validationBlocks(tokenizer, source, stage.blockSize)) {
        add(languageCode(source.language), block)
        await budget.breathe()
      }
    }
  }
  return [...groups].map(([name, examples]) => ({ name, examples }))
}

/** Blocks of validation text in the order of the file; the last, shorter one counts too. */
async function* validationBlocks(
  tokenizer: Tokenizer,
  { path, language }: MonolingualSource,
  blockSize: number,
): AsyncGenerator<TrainingExample> {
  const packer = new BlockPacker(blockSize)
  for await (const { text } of readMonolingual(path, { language })) {
    for (const block of packer.push(monolingualDocument(tokenizer, text))) yield { inputIds: block, labels: block }
  }
  const rest = [...packer.state().pending]
  if (rest.length > 1) yield { inputIds: rest, labels: rest }
}

const languageCode = (language: LanguageLike): string => languageOf(language).code

/** `de-en`. */
export function directionOf({ from, to }: ParallelSentence): string {
  return `${languageCode(from)}-${languageCode(to)}`
}

/**
 * Examples of one pass: the stage's length in steps follows from it. Reads the whole data once, so that a damaged line is found
 * before the first step instead of hours later.
 */
export async function countExamples(tokenizer: Tokenizer, stage: ResolvedStage, signal?: AbortSignal): Promise<number> {
  let count = 0
  const budget = new EventLoopBudget()
  if (stage.kind === 'parallel') {
    for await (const _ of parallelSentences(stage.pairs, stage.bidirectional)) {
      count++
      signal?.throwIfAborted()
      await budget.breathe()
    }
  } else {
    const stream = openExamples(tokenizer, stage, 1)
    while ((await stream.next()) !== undefined) {
      count++
      signal?.throwIfAborted()
    }
  }
  if (count === 0) throw noExamples(stage)
  return count
}

function noExamples(stage: ResolvedStage): AlmaError {
  const [files, expected] =
    stage.kind === 'parallel'
      ? [stage.pairs, 'at least one pair with text on both sides']
      : [stage.sources, `at least one block of ${stage.blockSize} tokens`]
  return new AlmaError(
    'ERR_ALMA_CORPUS',
    `${files.map(({ path }) => path).join(', ')}: not one training example, expected ${expected}`,
  )
}
