// node examples/finetune.mjs MODEL_FOLDER OUTPUT_FOLDER MONO.de.txt MONO.en.txt TRAIN.de-en.jsonl
import { Alma, createProgressReporter } from 'alma-native'

const [model, output, german, english, pairs] = process.argv.slice(2)
const alma = await Alma.load(model)
const { onProgress, close } = await createProgressReporter()
const monolingual = [
  { path: german, language: 'de', probability: 0.5 },
  { path: english, language: 'en', probability: 0.5 },
]
await alma.finetune(
  [
    { kind: 'monolingual', sources: monolingual, maxTokens: 1_000_000 },
    { kind: 'parallel', pairs: [{ path: pairs, from: 'de', to: 'en' }] },
  ],
  { output, onProgress },
)
await close()
await alma.dispose()
