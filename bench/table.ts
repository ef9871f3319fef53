/** Figures for people, a line each as soon as it is there; and for programs, all at the end. */
import type { Figure, Report } from './harness.js'

export interface Output {
  readonly stdout: NodeJS.WritableStream
  readonly stderr: NodeJS.WritableStream
}

/** Prints as it goes: a table on stdout, or with `json` a sign of life on stderr. */
export class FigureReport implements Report {
  readonly figures: Figure[] = []
  readonly notes: string[] = []
  readonly #output: Output
  readonly #json: boolean

  constructor(output: Output, json: boolean) {
    this.#output = output
    this.#json = json
  }

  section(title: string): void {
    if (this.#json) this.#output.stderr.write(`${title}\n`)
    else this.#output.stdout.write(`\n${title}\n${row('figure', 'shape', 'value', 'ceiling', 'of it', 'goal')}\n`)
  }

  add(figure: Figure, goal = ''): void {
    this.figures.push({ ...figure, goal })
    const { name, shape, value, unit, ceiling, ratioToCeiling, peer, peerValue, otherPeers } = figure
    const against = ceiling === null ? '' : `${short(ceiling)} ${unit}`
    const ratio = ratioToCeiling === null ? '' : `${Math.round(ratioToCeiling * 100)} %`
    const line = row(name, shape, `${short(value)} ${unit}`, against, ratio, goal)
    const peers = peer === null || peerValue === null ? [] : [{ name: peer, value: peerValue }, ...otherPeers]
    const beside = peers.map((other) => `  ${other.name}: ${short(other.value)} ${unit}`).join('')
    if (this.#json) this.#output.stderr.write(`  ${line}\n`)
    else this.#output.stdout.write(`${line}${beside}\n`)
  }

  note(text: string): void {
    if (this.notes.includes(text)) return
    this.notes.push(text)
    ;(this.#json ? this.#output.stderr : this.#output.stdout).write(`${text}\n`)
  }

  /** Ends the report. */
  finish(): void {
    if (this.#json)
      this.#output.stdout.write(`${JSON.stringify({ figures: this.figures, notes: this.notes }, null, 2)}\n`)
  }
}

const widths = [26, 30, 18, 18, 7] as const

function row(...cells: readonly string[]): string {
  return cells
    .map((cell, i) => (i < 2 ? cell.padEnd(widths[i] ?? 0) : i < 5 ? cell.padStart(widths[i] ?? 0) : cell))
    .join('  ')
    .trimEnd()
}

/** Three significant digits, more only before the decimal point. */
function short(value: number): string {
  if (value === 0 || !Number.isFinite(value)) return String(value)
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))))
  return value.toFixed(Math.min(digits, 9))
}
