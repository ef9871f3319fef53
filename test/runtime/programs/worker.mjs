// A worker thread: `compute` reads a product and reports it; `hang` tells that work is queued and then waits for it.
import { parentPort, workerData } from 'node:worker_threads'
import { addon, busyDevice } from './addon.mjs'

if (workerData === 'compute') {
  const { c, size } = busyDevice(1, 64)
  const values = new Float32Array(await addon.tensorRead(c))
  parentPort.postMessage({ first: values[0], expected: 2 * size })
} else {
  const { c } = busyDevice(process.env.ALMA_DEVICE === 'emulator' ? 50 : 2000)
  parentPort.postMessage('started')
  await addon.tensorRead(c)
}
