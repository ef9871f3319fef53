/** Decoding: from prompts to tokens. */
export type { BeamCompatibility } from './beam-rules.js'
export { type GenerateCall, type GenerateProgress, generateTokens, streamTokens } from './generate.js'
export type { FinishReason, Generation } from './generation.js'
export { optionError, requireBoolean, requireInteger, requireKnownOptions, requireNumber } from './option-names.js'
export {
  type DecodingOptions,
  decodingOptionNames,
  type GenerateOptions,
  generateOptionNames,
  type ResolvedDecoding,
  requireGenerateOptions,
  resolveDecoding,
} from './options.js'
export { DecodingScheduler, type DecodingStatistics } from './scheduler.js'
