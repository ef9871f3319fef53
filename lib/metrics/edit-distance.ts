/** Edit distance to one reference within a band around the diagonal, with its operations (sacreBLEU `lib_ter.py`). */

/** How the hypothesis becomes the reference. */
export const operations = { keep: 0, substitute: 1, delete: 2, insert: 3 } as const

/** Half the width of the band. */
const beamWidth = 25
const unreachable = 1e9

/** Distances of many orders of the same words: rows of a common beginning are kept from one call to the next. */
export class BeamEditDistance {
  private readonly reference: readonly number[]
  private readonly width: number
  private costs = new Int32Array(0)
  private steps = new Uint8Array(0)
  private last: readonly number[] = []

  constructor(reference: readonly number[]) {
    this.reference = reference
    this.width = reference.length + 1
  }

  /** The number of edits, each of cost 1. */
  distance(words: readonly number[]): number {
    const { width, reference } = this
    const rows = words.length + 1
    let start = 0
    if (this.costs.length !== rows * width) {
      this.costs = new Int32Array(rows * width)
      this.steps = new Uint8Array(rows * width)
      for (let j = 0; j < width; j++) this.setCell(j, j, operations.insert)
    } else {
      while (start < words.length && words[start] === this.last[start]) start++
    }
    this.last = words
    const ratio = words.length === 0 ? 1 : reference.length / words.length
    const beam = beamWidth < ratio / 2 ? Math.ceil(ratio / 2 + beamWidth) : beamWidth
    for (let i = start + 1; i < rows; i++) this.fillRow(i, words[i - 1] ?? -1, ratio, beam, i === words.length)
    return this.costs[rows * width - 1] ?? 0
  }

  private fillRow(i: number, word: number, ratio: number, beam: number, isLast: boolean): void {
    const { width, reference, costs } = this
    const row = i * width
    const diagonal = Math.floor(i * ratio)
    const from = Math.max(0, diagonal - beam)
    const to = isLast ? width : Math.min(width, diagonal + beam)
    costs.fill(unreachable, row, row + width)
    for (let j = from; j < to; j++) {
      const above = (costs[row - width + j] ?? 0) + 1
      if (j === 0) {
        this.setCell(row, above, operations.delete)
        continue
      }
      const same = word === reference[j - 1]
      let cost = (costs[row - width + j - 1] ?? 0) + (same ? 0 : 1)
      let step: number = same ? operations.keep : operations.substitute
      // Of equal costs the first of keep or substitute, delete, insert: Tercom's order, seen from the other side.
      if (above < cost) {
        cost = above
        step = operations.delete
      }
      const before = (costs[row + j - 1] ?? 0) + 1
      if (before < cost) {
        cost = before
        step = operations.insert
      }
      this.setCell(row + j, cost, step)
    }
  }

  private setCell(cell: number, cost: number, step: number): void {
    this.costs[cell] = cost
    this.steps[cell] = step
  }

  /** The operations of the last distance, from the first word to the last. */
  trace(): number[] {
    const path: number[] = []
    let i = this.last.length
    let j = this.reference.length
    while (i > 0 || j > 0) {
      const step = this.steps[i * this.width + j] ?? operations.insert
      path.push(step)
      if (step !== operations.insert) i--
      if (step !== operations.delete) j--
    }
    return path.reverse()
  }
}
