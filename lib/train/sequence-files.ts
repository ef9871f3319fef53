/** The files of a stage as streams of training sequences, tokenised when it is their turn. */

import {
  monolingualDocument,
  type ParallelSentence,
  parallelSequence,
  preferenceSequences,
  readParallel,
  readPreference,
  type Tokenizer,
} from '../text/index.js'
import { languageOf } from '../text/prompt.js'
import { isOfOtherScript } from '../text/scripts.js'
import type { TokenSequence, TokenStore } from '../text/token-store.js'
import type { DataCheck } from './data-check.js'
import type { DroppedFinding } from './data-report.js'
import {
  languagesOf,
  type MonolingualSource,
  type ParallelSource,
  type PreferenceSource,
  preferenceLanguages,
  readSource,
} from './sources.js'
import type { ResolvedStage } from './stages.js'

/** A sequence that is text or on disk until it is loaded; undefined when it is left out. */
export type PendingSequence = () => TokenSequence | undefined | Promise<TokenSequence | undefined>

export interface SequenceFile {
  readonly path: string
  /** In the order of the file, and the same ones at every call. */
  sequences(): AsyncIterable<PendingSequence>
  /** Tokens of each sequence, 0 of those left out; undefined while nobody has counted them. */
  readonly lengths: Uint32Array | undefined
}

export type StageOf<K extends ResolvedStage['kind']> = Extract<ResolvedStage, { kind: K }>
export type MonolingualResolved = StageOf<'monolingual'>
export type ParallelResolved = StageOf<'parallel'>
export type PreferenceResolved = StageOf<'preference'>

/** A file of text. What it finds while it is read goes to a check, if one is given. */
export interface TextFile extends SequenceFile {
  readonly languages: string
  sequences(check?: DataCheck): AsyncIterable<PendingSequence>
  lengths: Uint32Array | undefined
  /** What the sequences depend on besides the file and the tokenizer. */
  readonly options: Readonly<Record<string, unknown>>
}

/** Notes a finding, if there is one; true when the stage leaves out what has it. */
function leavesOut(
  finding: DroppedFinding | undefined,
  line: number,
  drop: readonly DroppedFinding[],
  check: DataCheck | undefined,
): boolean {
  if (finding === undefined) return false
  const dropped = drop.includes(finding)
  check?.note(finding, line, dropped)
  return dropped
}

/** What is wrong with a row of two sides; `identical`: those that must differ do not. */
function findingOf(
  identical: boolean,
  { source, target, from, to }: Readonly<Record<'source' | 'target' | 'from' | 'to', string>>,
): DroppedFinding | undefined {
  if (identical) return 'identicalSides'
  return isOfOtherScript(source, from) || isOfOtherScript(target, to) ? 'wrongScript' : undefined
}

export function monolingualFile(tokenizer: Tokenizer, source: MonolingualSource, stage: MonolingualResolved): TextFile {
  const { seed, drop } = stage
  const language = 'language' in source ? languageOf(source.language).code : undefined
  return {
    path: source.path,
    languages: languagesOf(source),
    lengths: undefined,
    options: { kind: 'monolingual', languages: languagesOf(source), drop, ...(language === undefined && { seed }) },
    async *sequences(check) {
      const onBlank = (line: number): void => {
        if (check === undefined) return
        check.read++
        check.note('emptySide', line, true)
      }
      for await (const { text, line } of readSource(source, { seed, onBlank })) {
        if (check !== undefined) {
          check.read++
          if (language !== undefined) check.see(language, text)
        }
        const finding = language !== undefined && isOfOtherScript(text, language) ? 'wrongScript' : undefined
        if (leavesOut(finding, line, drop, check)) continue
        yield () => ({ ids: monolingualDocument(tokenizer, text), firstLabel: 0 })
      }
    },
  }
}

export function parallelFile(tokenizer: Tokenizer, file: ParallelSource, stage: ParallelResolved): TextFile {
  const { bidirectional, drop, maxSourceLength, maxNewTokens, compat, promptStyle } = stage
  const [from, to] = [languageOf(file.from).code, languageOf(file.to).code]
  const options = {
    maxSourceLength,
    maxNewTokens,
    ...(compat === 'alma' && { compat }),
    ...(promptStyle !== undefined && { promptStyle }),
  }
  return {
    path: file.path,
    languages: languagesOf(file),
    lengths: undefined,
    options: { kind: 'parallel', languages: languagesOf(file), bidirectional, drop, ...options },
    async *sequences(check) {
      const pending =
        (sentence: ParallelSentence, line: number): PendingSequence =>
        () => {
          const sequence = parallelSequence(tokenizer, sentence, options)
          if (sequence.firstLabel >= sequence.ids.length) {
            check?.note('nothingLeft', line, true)
            return undefined
          }
          return leavesOut(sequence.cut ? 'tooLong' : undefined, line, drop, check) ? undefined : sequence
        }
      for await (const { source, target, line } of readParallel(file.path, file)) {
        if (check !== undefined) check.read++
        if (source.trim() === '' || target.trim() === '') {
          check?.note('emptySide', line, true)
          continue
        }
        check?.see(from, source)
        check?.see(to, target)
        const identical = source.trim() === target.trim()
        if (leavesOut(findingOf(identical, { source, target, from, to }), line, drop, check)) continue
        yield pending({ source, target, from: file.from, to: file.to }, line)
        if (bidirectional) yield pending({ source: target, target: source, from: file.to, to: file.from }, line)
      }
    },
  }
}

/** Preference rows; the sequences are the chosen responses, with the rejected ones. */
export function preferenceFile(tokenizer: Tokenizer, file: PreferenceSource, stage: PreferenceResolved): TextFile {
  const { drop, maxLength, maxPromptLength, promptStyle } = stage
  const options = { maxLength, maxPromptLength, ...(promptStyle !== undefined && { promptStyle }) }
  const { path, ...given } = file
  return {
    path,
    languages: preferenceLanguages(file),
    lengths: undefined,
    options: { kind: 'preference', ...given, drop, ...options },
    async *sequences(check) {
      for await (const row of readPreference(path, given)) {
        if (check !== undefined) check.read++
        const { source, chosen, rejected, from, to, line } = row
        check?.see(from, source)
        check?.see(to, chosen)
        const identical = chosen.trim() === rejected.trim()
        if (leavesOut(findingOf(identical, { source, target: chosen, from, to }), line, drop, check)) continue
        yield () => {
          const pair = preferenceSequences(tokenizer, row, options)
          if (leavesOut(pair.cut ? 'tooLong' : undefined, line, drop, check)) return undefined
          return { ...pair.chosen, rejected: pair.rejected }
        }
      }
    },
  }
}

/** A file whose sequences are in a store already. */
export function storedFile(path: string, store: TokenStore): SequenceFile {
  const lengths = Uint32Array.from({ length: store.count }, (_, i) => store.lengthOf(i))
  return {
    path,
    lengths,
    async *sequences() {
      for (let i = 0; i < store.count; i++) {
        yield () => (store.lengthOf(i) === 0 ? undefined : store.read(i))
      }
    },
  }
}
