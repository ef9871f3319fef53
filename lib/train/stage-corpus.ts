/** The training data of a stage: its files, checked, and cached as tokens where that is asked for. */
import { AlmaError } from '../errors.js'
import type { Tokenizer } from '../text/index.js'
import type { TokenStore } from '../text/token-store.js'
import { droppedText } from './data-check.js'
import { type DataReport, type FileReport, findingNames } from './data-report.js'
import { inspect } from './inspect.js'
import {
  monolingualFile,
  parallelFile,
  preferenceFile,
  type SequenceFile,
  storedFile,
  type TextFile,
} from './sequence-files.js'
import type { ResolvedStage } from './stages.js'
import { openTokenCache } from './token-cache.js'

/** What is checked of a file where the stage's length does not depend on all of it: seconds, however large it is. */
const beginning = { sequences: 20_000, tokens: 4_000_000 } as const

export interface CorpusOptions {
  /** Folder for token caches. Default: none, text is tokenised in every pass. */
  readonly tokenCache?: string
  readonly signal?: AbortSignal
}

export class StageCorpus {
  readonly files: readonly SequenceFile[]
  readonly report: DataReport
  readonly #stores: readonly TokenStore[]

  private constructor(files: readonly SequenceFile[], reports: readonly FileReport[], stores: readonly TokenStore[]) {
    this.files = files
    this.report = { files: reports }
    this.#stores = stores
  }

  /** @throws AlmaError ERR_ALMA_CORPUS, ERR_ALMA_IO, ERR_ALMA_TOKENIZER; the signal's reason */
  static async open(tokenizer: Tokenizer, stage: ResolvedStage, options: CorpusOptions = {}): Promise<StageCorpus> {
    const { tokenCache, signal } = options
    const limit = isCounted(stage) ? {} : { limit: beginning }
    const files: SequenceFile[] = []
    const reports: FileReport[] = []
    const stores: TokenStore[] = []
    try {
      for (const file of textFiles(tokenizer, stage)) {
        // Preference data is small, and a cache holds single sequences.
        if (tokenCache === undefined || stage.kind === 'preference') {
          reports.push(await inspect(file, { ...limit, ...(signal && { signal }) }))
          files.push(file)
        } else {
          const { store, report } = await openTokenCache(tokenCache, tokenizer, file, signal)
          stores.push(store)
          reports.push(report)
          files.push(storedFile(file.path, store))
        }
      }
    } catch (error) {
      for (const store of stores) await store.close()
      throw error
    }
    return new StageCorpus(files, reports, stores)
  }

  async close(): Promise<void> {
    for (const store of this.#stores) await store.close()
  }

  /** An error that says why there is nothing to train on. */
  nothingLeft(expected: string): AlmaError {
    const findings = this.report.files.flatMap((file) => file.findings)
    const why = findings.some(({ dropped }) => dropped) ? `; ${droppedText(findings, findingNames)}` : ''
    const paths = this.files.map(({ path }) => path).join(', ')
    return new AlmaError('ERR_ALMA_CORPUS', `${paths}: not one training example, expected ${expected}${why}`)
  }
}

/** Whether the number of a stage's steps depends on the size of its data. */
export function isCounted(stage: ResolvedStage): boolean {
  const limited = stage.maxSteps !== undefined || (stage.kind === 'monolingual' && stage.maxTokens !== undefined)
  return stage.epochs !== undefined || !limited
}

function textFiles(tokenizer: Tokenizer, stage: ResolvedStage): TextFile[] {
  switch (stage.kind) {
    case 'monolingual':
      return stage.sources.map((source) => monolingualFile(tokenizer, source, stage))
    case 'parallel':
      return stage.pairs.map((file) => parallelFile(tokenizer, file, stage))
    case 'preference':
      return stage.data.map((file) => preferenceFile(tokenizer, file, stage))
  }
}
