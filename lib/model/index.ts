export {
  adapterConfigName,
  describesBase,
  loadAdapter,
  readAdapterConfig,
  type SaveAdapterOptions,
  saveAdapter,
} from './adapter-files.js'
export {
  type LlamaConfig,
  type LlamaConfigInput,
  normalizeConfig,
  type RopeScaling,
  readLlamaConfig,
} from './config.js'
export type { ActivationCheckpointing } from './decoder-layer.js'
export type { GgufValue } from './gguf.js'
export { KeyValueCache } from './key-value-cache.js'
export { LlamaForCausalLM } from './llama.js'
export { type CreateModelOptions, createLlama, type LoadModelOptions, type LoadProgress, loadLlama } from './load.js'
export { defaultLora, LoraAdapter, type LoraConfig, loraModules, loraScaling, loraTargets } from './lora.js'
export { PackedSequences } from './packed-sequences.js'
export { Parameter } from './parameter.js'
export type { PreferenceTensors } from './preference-cross-entropy.js'
export { type SaveModelOptions, saveLlama } from './save.js'
export { type SaveGgufOptions, saveGguf } from './save-gguf.js'
export { countTargets, type TrainingBatch } from './training-batch.js'
