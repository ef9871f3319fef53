/**
 * Every op of every device, under the names of native/runtime/ops.h.
 *
 * An op checks shapes, enqueues the work and returns its result tensor at once: the caller's `out`, or a new one. Float tensors are
 * 'f32' or 'bf16'; the activations of a call share one dtype, weights may have the other one. Statistics (log-sum-exp, inverse RMS),
 * losses and gradients of weights are always 'f32'; gradients of weights are added to.
 *
 * Shapes that do not fit: AlmaError ERR_ALMA_SHAPE, thrown by the call. Values on the device that are out of range (an id beyond the
 * table): ERR_ALMA_DEVICE, at the next read.
 */
export * from './ops/adamw.js'
export type { Invariance } from './ops/arguments.js'
export * from './ops/attention.js'
export * from './ops/beam-search.js'
export * from './ops/cross-entropy.js'
export * from './ops/decoding.js'
export * from './ops/elementwise.js'
export * from './ops/matmul.js'
export * from './ops/preference-loss.js'
export * from './ops/products.js'
export * from './ops/reductions.js'
export * from './ops/rms-norm.js'
export * from './ops/rope.js'
export * from './ops/rows.js'
export * from './ops/sampling.js'
export * from './ops/swi-glu.js'
