// node examples/translate.mjs MODEL_FOLDER
import { Alma } from 'alma-native'

const alma = await Alma.load(process.argv[2] ?? 'quickstart-model')
const { text, score } = await alma.translate('Das Buch kostet zwölf Euro.', { from: 'de', to: 'en' })
console.log(text, score)

for await (const piece of alma.translateStream('She has bought a red car.', { from: 'en', to: 'de' })) {
  process.stdout.write(piece)
}
console.log()
await alma.dispose()
