/** Counts what is found in a file while it is read. */
import { LanguageGuess } from '../text/function-words.js'
import { findLanguage } from '../text/index.js'
import type { DataFinding, FileReport, FindingCount } from './data-report.js'

/** Lines that a report names for each finding. */
const NAMED_LINES = 5

export class DataCheck {
  read = 0
  kept = 0
  tokens = 0
  readonly #findings = new Map<string, { finding: DataFinding; dropped: boolean; count: number; lines: number[] }>()
  /** By the languages that the texts should be in. */
  readonly #guesses = new Map<string, LanguageGuess>()

  note(finding: DataFinding, line: number, dropped: boolean): void {
    const key = `${finding} ${dropped}`
    const counted = this.#findings.get(key) ?? { finding, dropped, count: 0, lines: [] }
    this.#findings.set(key, counted)
    counted.count++
    if (counted.lines.length < NAMED_LINES && !counted.lines.includes(line)) counted.lines.push(line)
  }

  /** A text that should be in `language` (ISO 639-1). */
  see(language: string, text: string): void {
    const guess = this.#guesses.get(language) ?? new LanguageGuess()
    this.#guesses.set(language, guess)
    guess.add(text)
  }

  report(path: string, languages: string, complete: boolean): FileReport {
    return {
      path,
      languages,
      read: this.read,
      complete,
      kept: this.kept,
      tokens: this.tokens,
      findings: [...this.#findings.values()],
      warnings: this.#warnings(),
    }
  }

  #warnings(): string[] {
    const others = [...this.#guesses].flatMap(([code, guess]) => {
      const other = guess.otherThan(code)
      return other === undefined ? [] : [[code, other] as const]
    })
    const [first, second] = others
    if (first !== undefined && second !== undefined && first[0] === second[1] && first[1] === second[0]) {
      return [`the sides seem to be exchanged: what should be ${nameOf(first[0])} reads like ${nameOf(first[1])}`]
    }
    return others.map(([code, other]) => `what should be ${nameOf(code)} reads like ${nameOf(other)}`)
  }
}

const nameOf = (code: string): string => findLanguage(code)?.name ?? code

/** Findings in one line: "12 left out (identical sides 10, empty text 2)". */
export function droppedText(findings: readonly FindingCount[], names: Readonly<Record<DataFinding, string>>): string {
  const dropped = findings.filter((finding) => finding.dropped)
  const total = dropped.reduce((sum, { count }) => sum + count, 0)
  return `${total} left out (${dropped.map(({ finding, count }) => `${names[finding]} ${count}`).join(', ')})`
}
