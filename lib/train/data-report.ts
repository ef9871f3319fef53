/** What the check of a stage's data found, before the first step. */

/** Why a document or pair is not trained on, or was changed, or is suspicious. */
export type DataFinding =
  | 'emptySide' // one side, or the document, is blank
  | 'identicalSides' // source and target are the same text
  | 'wrongScript' // most letters are of a script that the language is not written in
  | 'tooLong' // longer than the stage's limits: cut at the end
  | 'nothingLeft' // so long that nothing of the target would be left

/** Findings that a stage can ask to leave out; empty text and what has nothing left to learn from always is. */
export const droppedFindings = ['identicalSides', 'wrongScript', 'tooLong'] as const satisfies readonly DataFinding[]
export type DroppedFinding = (typeof droppedFindings)[number]
export const defaultDrop: readonly DroppedFinding[] = ['identicalSides', 'wrongScript']

export interface DataReport {
  readonly files: readonly FileReport[]
}

export interface FileReport {
  readonly path: string
  /** `de`, or `de-en`. */
  readonly languages: string
  /** Documents or pairs in the file, or in the part of it that was looked at. */
  readonly read: number
  /** Whether the whole file was read: a long stream is checked at its beginning. */
  readonly complete: boolean
  /** Training examples that come of it: two of a pair that is trained in both directions; of monolingual text, documents. */
  readonly kept: number
  /** Tokens of these, where they were counted. */
  readonly tokens?: number
  readonly findings: readonly FindingCount[]
  /** About the file as a whole, for people. */
  readonly warnings: readonly string[]
}

export interface FindingCount {
  readonly finding: DataFinding
  /** Whether these were left out. */
  readonly dropped: boolean
  readonly count: number
  /** The first few. */
  readonly lines: readonly number[]
}

/** Findings in words. */
export const findingNames: Readonly<Record<DataFinding, string>> = {
  emptySide: 'empty text',
  identicalSides: 'identical sides',
  wrongScript: 'text in another script than its language',
  tooLong: 'longer than the limit, cut',
  nothingLeft: 'so long that no target is left',
}
