import { type Device, type ops, Tensor } from '../runtime/index.js'

/** Token sequences of different lengths laid end to end, without padding, with what ops need to keep them apart. */
export class PackedSequences {
  /** i32 [tokens]. */
  readonly ids: Tensor
  /** i32 [tokens]: 0, 1, 2, … from each sequence's start. */
  readonly positions: Tensor
  readonly bounds: ops.SequenceBounds
  readonly lengths: readonly number[]
  readonly tokens: number
  /** Length of the longest sequence. */
  readonly longest: number

  /** `starts[i]`: position of the first token of sequence i, for sequences that continue what is in a cache (default 0). */
  constructor(device: Device, sequences: readonly (readonly number[])[], starts?: readonly number[]) {
    this.lengths = sequences.map((sequence) => sequence.length)
    this.tokens = this.lengths.reduce((sum, length) => sum + length, 0)
    const ids = new Int32Array(this.tokens)
    const positions = new Int32Array(this.tokens)
    const cuSeqlens = new Int32Array(sequences.length + 1)
    let row = 0
    let longest = 0
    sequences.forEach((sequence, index) => {
      const start = starts?.[index] ?? 0
      sequence.forEach((id, i) => {
        ids[row] = id
        positions[row++] = start + i
      })
      cuSeqlens[index + 1] = row
      longest = Math.max(longest, start + sequence.length)
    })
    this.longest = longest
    this.ids = Tensor.from(device, ids)
    this.positions = Tensor.from(device, positions)
    this.bounds = { cuSeqlensQ: Tensor.from(device, cuSeqlens) }
  }

  dispose(): void {
    this.ids.dispose()
    this.positions.dispose()
    this.bounds.cuSeqlensQ.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}
