/** Element types of tensors, mirrored from native/runtime/dtype.h. */
export type DType = 'f32' | 'bf16' | 'i32'

/** What a file may hold besides: it is converted when it is loaded. */
export type StorageDType = DType | 'f16'

export const dtypeCode: Readonly<Record<StorageDType, number>> = { f32: 0, bf16: 1, i32: 2, f16: 3 }

/** Bytes an element. */
export const dtypeSize: Readonly<Record<StorageDType, number>> = { f32: 4, bf16: 2, i32: 4, f16: 2 }
