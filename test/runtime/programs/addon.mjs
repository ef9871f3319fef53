// The addon alone, without the TypeScript sources: for worker threads and child processes of the tests.
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..')
const require = createRequire(join(root, 'package.json'))

export const addon = require('node-gyp-build')(root)

const F32 = 0

/** A device on which matmuls of a second or so are queued, `count` of them; its result is tensor `c`. */
export function busyDevice(count, size = process.env.ALMA_DEVICE === 'emulator' ? 32 : 1024) {
  const device = addon.deviceOpen(process.env.ALMA_DEVICE ?? 'cpu', 0, 'auto')
  const [a, b, c] = [0, 1, 2].map(() => addon.tensorCreate(device, F32, size * size))
  addon.opFill(a, size * size, 1)
  addon.opFill(b, size * size, 2)
  for (let i = 0; i < count; i++) addon.opMatmul(a, b, c, size, size, size, 0, false, 0, false)
  return { device, a, b, c, size }
}
