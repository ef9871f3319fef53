/** Text: tokenizers, prompts, languages, corpora, training examples. */
export {
  type MonolingualDocument,
  type MonolingualOptions,
  type ParallelOptions,
  type ParallelPair,
  type PreferenceOptions,
  type PreferenceRow,
  readMonolingual,
  readParallel,
  readPreference,
} from './corpus.js'
export { type GgufTokenizer, ggufTokenizer } from './gguf-tokenizer.js'
export {
  Interleaved,
  type InterleaveOptions,
  type InterleaveState,
  interleave,
  type RepeatableSource,
} from './interleave.js'
export { findLanguage, type Language, languages, resolveLanguage } from './languages.js'
export {
  type PreferenceExampleOptions,
  type PreferencePair,
  type PreferenceSequence,
  preferenceSequences,
} from './preference-sequences.js'
export {
  type CleanTranslationOptions,
  cleanTranslation,
  encodeTranslation,
  glossaryExamples,
  type LanguageLike,
  type PromptStyle,
  promptStyles,
  type TranslationExample,
  type TranslationPromptOptions,
  translationPrompt,
} from './prompt.js'
export { Random, type RandomState } from './random.js'
export { saveTrainedTokenizer } from './save-tokenizer.js'
export { type Document, type SplitMode, sentencesOf, splitDocument, splitModes } from './segments.js'
export { type ShuffleOptions, shuffled } from './shuffle.js'
export {
  type DecodeOptions,
  type EncodeOptions,
  loadTokenizer,
  type StreamDecoder,
  type Tokenizer,
  type TokenizerExpectations,
} from './tokenizer.js'
export { type TokenizerJson, type TrainBpeOptions, trainBpeTokenizer } from './train-bpe.js'
export {
  BlockPacker,
  type BlockPackerState,
  labelsFrom,
  monolingualDocument,
  type ParallelExampleOptions,
  type ParallelSentence,
  parallelExample,
  parallelSequence,
  type TrainingExample,
} from './training-examples.js'
