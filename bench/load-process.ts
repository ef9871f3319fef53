/** `load-process.js FOLDER THREADS`: seconds until the model is loaded and until its first token is there, as JSON on stdout. */
import { generateTokens, resolveDecoding } from '../lib/decode/index.js'
import { loadLlama } from '../lib/model/index.js'
import { Device } from '../lib/runtime/index.js'
import { syntheticIds } from './models.js'

const [folder = '', threads = '0'] = process.argv.slice(2)
await using device = Device.open('cpu', { threads: Number(threads) })
const begin = performance.now()
const model = await loadLlama(device, folder, { dtype: 'bf16' })
const loaded = (performance.now() - begin) / 1000
const decoding = resolveDecoding({ maxNewTokens: 1, eosTokenId: [] }, model.config)
await generateTokens(model, [syntheticIds(model.config, 1)], decoding)
const token = (performance.now() - begin) / 1000
process.stdout.write(JSON.stringify({ loaded, token }))
model.dispose()
