/** The endless streams of training examples, with a state from which they go on exactly. */
import {
  BlockPacker,
  type BlockPackerState,
  Interleaved,
  type InterleaveState,
  labelsFrom,
  monolingualDocument,
  type ParallelSentence,
  parallelExample,
  preferenceSequences,
  readParallel,
  readPreference,
  shuffled,
  type Tokenizer,
  type TrainingExample,
} from '../text/index.js'
import { type LanguageLike, languageOf } from '../text/prompt.js'
import type { TokenSequence } from '../text/token-store.js'
import type { ExampleGroup } from './evaluation.js'
import { EventLoopBudget } from './event-loop.js'
import { seedOf } from './seeds.js'
import type { MonolingualResolved, ParallelResolved, PendingSequence, PreferenceResolved } from './sequence-files.js'
import { languagesOf, type MonolingualSource, type ParallelSource, readSource } from './sources.js'
import type { StageCorpus } from './stage-corpus.js'
import type { ResolvedStage } from './stages.js'

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

/** @param corpus the data of this very stage; it must stay open as long as the stream is used. */
export function openExamples(
  corpus: StageCorpus,
  stage: ResolvedStage,
  epochs: number,
  state?: ExampleState,
): ExampleStream {
  return stage.kind === 'monolingual'
    ? new MonolingualExamples(corpus, stage, epochs, state as MonolingualState | undefined)
    : new PairExamples(corpus, stage, epochs, state as ParallelState | undefined)
}

/** The documents of all sources in the order of one pass; `itemsOf` gives those of a source in the order of its file. */
function documentsOf<T>(
  stage: MonolingualResolved,
  epoch: number,
  itemsOf: (source: number) => AsyncIterable<T>,
  state?: InterleaveState,
): Interleaved<T> {
  const { sources, seed } = stage
  return new Interleaved(
    sources.map(
      (_, index) => (pass) =>
        shuffled(() => itemsOf(index), {
          bufferSize: SHUFFLED_DOCUMENTS,
          seed: seedOf(seed, epoch, index, pass),
        }),
    ),
    {
      probabilities: sources.map(({ probability = 1 }) => probability),
      seed: seedOf(seed, epoch),
      ...(state && { state }),
    },
  )
}

/** Blocks of blockSize tokens from the interleaved documents of all sources; what is left over at the end of a pass is dropped. */
class MonolingualExamples implements ExampleStream {
  readonly #corpus: StageCorpus
  readonly #stage: MonolingualResolved
  readonly #epochs: number
  readonly #packer: BlockPacker
  readonly #budget = new EventLoopBudget()
  #ready: (readonly number[])[] = []
  #epoch = 0
  #blocksOfPass = 0
  #mix: Interleaved<PendingSequence> | undefined
  #documents: AsyncIterator<{ readonly item: PendingSequence }> | undefined
  #resumeFrom: InterleaveState | undefined

  constructor(corpus: StageCorpus, stage: MonolingualResolved, epochs: number, state?: MonolingualState) {
    this.#corpus = corpus
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
        if (this.#blocksOfPass === 0) throw noExamples(this.#corpus, this.#stage)
        this.#epoch++
        this.#blocksOfPass = 0
        this.#documents = undefined
        this.#mix = undefined
        this.#packer.restore({ blockSize: this.#stage.blockSize, pending: [] })
        continue
      }
      const sequence = await document.value.item()
      const blocks = this.#packer.push(sequence?.ids ?? [])
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

  #open(): AsyncIterator<{ readonly item: PendingSequence }> {
    const { files } = this.#corpus
    this.#mix = documentsOf(
      this.#stage,
      this.#epoch,
      (source) => files[source]?.sequences() ?? nothing(),
      this.#resumeFrom,
    )
    this.#resumeFrom = undefined
    return this.#mix[Symbol.asyncIterator]()
  }
}

async function* nothing(): AsyncGenerator<never> {}

/** Translation examples of all files and directions, or preference pairs, shuffled anew in every pass. */
class PairExamples implements ExampleStream {
  readonly #corpus: StageCorpus
  readonly #stage: ParallelResolved | PreferenceResolved
  readonly #epochs: number
  readonly #budget = new EventLoopBudget()
  #epoch = 0
  /** Of this pass: sequences taken, those left out included, and examples given. */
  #taken = 0
  #given = 0
  #sequences: AsyncIterator<PendingSequence> | undefined

  constructor(
    corpus: StageCorpus,
    stage: ParallelResolved | PreferenceResolved,
    epochs: number,
    state?: ParallelState,
  ) {
    this.#corpus = corpus
    this.#stage = stage
    this.#epochs = epochs
    this.#epoch = state?.epoch ?? 0
    this.#taken = state?.taken ?? 0
    this.#given = this.#taken
  }

  async next(): Promise<TrainingExample | undefined> {
    while (this.#epoch < this.#epochs) {
      this.#sequences ??= this.#open()
      const pending = await this.#sequences.next()
      await this.#budget.breathe()
      if (pending.done !== true) {
        this.#taken++
        const sequence = await pending.value()
        if (sequence === undefined) continue
        this.#given++
        return exampleOf(sequence)
      }
      if (this.#given === 0) throw noExamples(this.#corpus, this.#stage)
      this.#epoch++
      this.#taken = 0
      this.#given = 0
      this.#sequences = undefined
    }
    return undefined
  }

  state(): ParallelState {
    return { epoch: this.#epoch, taken: this.#taken }
  }

  async close(): Promise<void> {
    await this.#sequences?.return?.()
  }

  #open(): AsyncIterator<PendingSequence> {
    const { files } = this.#corpus
    const ordered = shuffled(
      async function* () {
        for (const file of files) yield* file.sequences()
      },
      {
        bufferSize: SHUFFLED_PAIRS,
        seed: seedOf(this.#stage.seed, this.#epoch),
        skip: this.#taken,
      },
    )
    return ordered[Symbol.asyncIterator]()
  }
}

function exampleOf({ ids, firstLabel, rejected }: TokenSequence): TrainingExample {
  const labelled = { inputIds: [...ids], labels: labelsFrom(ids, firstLabel) }
  return rejected === undefined ? labelled : { ...labelled, rejected: exampleOf(rejected) }
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
  stage: ParallelResolved,
): TrainingExample {
  const { maxSourceLength, maxNewTokens, compat, promptStyle } = stage
  return parallelExample(tokenizer, sentence, {
    maxSourceLength,
    maxNewTokens,
    ...(promptStyle !== undefined && { promptStyle }),
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
  } else if (stage.kind === 'preference') {
    const { maxLength, maxPromptLength, promptStyle } = stage
    const options = { maxLength, maxPromptLength, ...(promptStyle !== undefined && { promptStyle }) }
    for (const { path, ...languages } of stage.validation ?? []) {
      for await (const row of readPreference(path, languages)) {
        const { chosen, rejected } = preferenceSequences(tokenizer, row, options)
        add(`${row.from}-${row.to}`, exampleOf({ ...chosen, rejected }))
        await budget.breathe()
      }
    }
  } else {
    for (const source of stage.validation ?? []) {
      for await (const block of validationBlocks(tokenizer, source, stage)) {
        add(languagesOf(source), block)
        await budget.breathe()
      }
    }
  }
  return [...groups].map(([name, examples]) => ({ name, examples }))
}

/** Blocks of validation text in the order of the file; the last, shorter one counts too. */
async function* validationBlocks(
  tokenizer: Tokenizer,
  source: MonolingualSource,
  { blockSize, seed }: MonolingualResolved,
): AsyncGenerator<TrainingExample> {
  const packer = new BlockPacker(blockSize)
  for await (const { text } of readSource(source, { seed })) {
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
 * Examples of so many passes, from the lengths of the sequences alone: the stage's length in steps follows from it.
 *
 * @throws AlmaError ERR_ALMA_CORPUS when there is none
 */
export async function countExamples(corpus: StageCorpus, stage: ResolvedStage, epochs: number): Promise<number> {
  const count =
    stage.kind === 'monolingual'
      ? await countBlocks(corpus, stage, epochs)
      : epochs * corpus.report.files.reduce((sum, { kept }) => sum + kept, 0)
  if (count === 0) throw noExamples(corpus, stage)
  return count
}

/** Goes through the passes as {@link MonolingualExamples} does, with lengths in place of documents; no two passes need be as long. */
async function countBlocks(corpus: StageCorpus, stage: MonolingualResolved, epochs: number): Promise<number> {
  const budget = new EventLoopBudget()
  const lengthsOf = async function* (source: number): AsyncGenerator<number> {
    yield* corpus.files[source]?.lengths ?? []
  }
  let blocks = 0
  for (let epoch = 0; epoch < epochs; epoch++) {
    let tokens = 0
    for await (const { item } of documentsOf(stage, epoch, lengthsOf)) {
      tokens += item
      await budget.breathe()
    }
    blocks += Math.floor(tokens / stage.blockSize)
  }
  return blocks
}

function noExamples(corpus: StageCorpus, stage: ResolvedStage): Error {
  return corpus.nothingLeft(
    stage.kind === 'monolingual'
      ? `at least one block of ${stage.blockSize} tokens`
      : stage.kind === 'parallel'
        ? 'at least one pair with text on both sides'
        : 'at least one row whose responses differ',
  )
}
