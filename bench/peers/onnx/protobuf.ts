/** Protocol buffers, for writing: a message is its fields one after another. Source: protobuf.dev, "Encoding". */

/** How the bytes after a field's number are to be read. */
const wireTypes = { varint: 0, lengthDelimited: 2, fixed32: 5 } as const

/** A message in the making. Fields are written in the order of the calls; a repeated one is called for repeatedly. */
export class Message {
  readonly #parts: Uint8Array[] = []

  /** int32, int64, enum and bool; negative numbers take ten bytes. */
  varint(field: number, value: number | bigint): this {
    this.#tag(field, wireTypes.varint)
    this.#varint(BigInt.asUintN(64, BigInt(value)))
    return this
  }

  float(field: number, value: number): this {
    this.#tag(field, wireTypes.fixed32)
    const bytes = new Uint8Array(4)
    new DataView(bytes.buffer).setFloat32(0, value, true)
    this.#parts.push(bytes)
    return this
  }

  bytes(field: number, value: Uint8Array): this {
    this.#tag(field, wireTypes.lengthDelimited)
    this.#varint(BigInt(value.length))
    this.#parts.push(value)
    return this
  }

  string(field: number, value: string): this {
    return this.bytes(field, new TextEncoder().encode(value))
  }

  message(field: number, value: Message): this {
    return this.bytes(field, value.finish())
  }

  finish(): Uint8Array {
    return Buffer.concat(this.#parts)
  }

  #tag(field: number, wireType: number): void {
    this.#varint(BigInt((field << 3) | wireType))
  }

  /** Seven bits a byte, the lowest first; the eighth says that more follow. */
  #varint(value: bigint): void {
    const bytes: number[] = []
    for (let rest = value; ; rest >>= 7n) {
      const low = Number(rest & 0x7fn)
      if (rest < 0x80n) {
        this.#parts.push(Uint8Array.from([...bytes, low]))
        return
      }
      bytes.push(low | 0x80)
    }
  }
}
