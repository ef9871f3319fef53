/** Writes small SentencePiece models, damaged ones too, for the tests of the reader. */

/** Piece, score, and the number of its type in the .proto file (1 normal, 2 unknown, 3 control, 4 user, 5 unused, 6 byte). */
export type PieceSpec = readonly [piece: string, score: number, type: number]

export interface ModelSpec {
  readonly modelType?: number
  readonly byteFallback?: boolean
  readonly addDummyPrefix?: boolean
  readonly removeExtraWhitespaces?: boolean
  readonly escapeWhitespaces?: boolean
  readonly normalizer?: string
  readonly charsMap?: string
}

export function varint(value: number): number[] {
  const bytes: number[] = []
  let rest = value >>> 0
  while (rest >= 128) {
    bytes.push((rest & 127) | 128)
    rest >>>= 7
  }
  return [...bytes, rest]
}

const message = (field: number, content: readonly number[]): number[] => [
  (field << 3) | 2,
  ...varint(content.length),
  ...content,
]
const text = (field: number, value: string): number[] => message(field, [...Buffer.from(value)])
const number = (field: number, value: number): number[] => [...varint((field << 3) | 0), ...varint(value)]
const flag = (field: number, value: boolean): number[] => number(field, value ? 1 : 0)

export function modelFile(pieces: readonly PieceSpec[], spec: ModelSpec): Buffer {
  const bytes = pieces.flatMap(([piece, score, type]) => {
    const float = Buffer.alloc(4)
    float.writeFloatLE(score)
    return message(1, [...text(1, piece), (2 << 3) | 5, ...float, ...number(3, type)])
  })
  const trainer = [...number(3, spec.modelType ?? 2), ...flag(35, spec.byteFallback ?? false)]
  const normalizer = [
    ...text(1, spec.normalizer ?? 'identity'),
    ...text(2, spec.charsMap ?? ''),
    ...flag(3, spec.addDummyPrefix ?? true),
    ...flag(4, spec.removeExtraWhitespaces ?? false),
    ...flag(5, spec.escapeWhitespaces ?? true),
  ]
  return Buffer.from([...bytes, ...message(2, trainer), ...message(3, normalizer)])
}
