/**
 * typed-array-utils ships its TypeScript source beside its JavaScript, and the compiler prefers the source, which uses this
 * one name of the DOM library. Declarations are not emitted, so users of this package never meet it.
 */
type BufferSource = ArrayBufferView | ArrayBuffer
