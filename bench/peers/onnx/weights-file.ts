/** The file of weights beside an ONNX file: places first, since the graph names them; then the data, a tensor at a time. */
import { open } from 'node:fs/promises'
import { writeAll } from '../../../lib/files/write-all.js'
import type { OnnxInitializer } from './model.js'

/** Windows maps files at multiples of this; elsewhere it is the page size, which divides it. */
const alignment = 65_536

export interface Weight {
  readonly name: string
  readonly shape: readonly number[]
  /** Called once, when its turn comes: one tensor is in memory at a time. */
  readonly data: () => Promise<Float32Array>
}

/** Where each of them lies in the file named `location`. */
export function placeWeights(weights: readonly Weight[], location: string): OnnxInitializer[] {
  let end = 0
  return weights.map(({ name, shape }) => {
    const length = 4 * shape.reduce((product, extent) => product * extent, 1)
    const offset = Math.ceil(end / alignment) * alignment
    end = offset + length
    return { name, type: 'float', shape, data: { location, offset, length } }
  })
}

export async function writeWeights(
  path: string,
  weights: readonly Weight[],
  placed: readonly OnnxInitializer[],
): Promise<void> {
  await using handle = await open(path, 'w')
  for (const [i, weight] of weights.entries()) {
    const place = placed[i]?.data
    const values = await weight.data()
    if (place === undefined || !('offset' in place) || place.length !== values.byteLength) {
      throw new Error(`${weight.name}: ${values.length} numbers do not fill [${weight.shape.join(', ')}]`)
    }
    await writeAll(handle, new Uint8Array(values.buffer, values.byteOffset, values.byteLength), place.offset)
  }
}
