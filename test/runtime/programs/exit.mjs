// Ends while work is queued. `exit`: process.exit(); `return`: nothing is awaited; `await`: a read keeps the process alive until it is
// done; `throw`: an uncaught exception; `close`: the device is closed and nothing else is done.
import { addon, busyDevice } from './addon.mjs'

const [how] = process.argv.slice(2)
const { device, c } = busyDevice(how === 'await' ? 2 : process.env.ALMA_DEVICE === 'emulator' ? 50 : 2000)
if (how === 'exit') {
  addon.tensorRead(c)
  setTimeout(() => process.exit(0), 50)
} else if (how === 'await') {
  addon.tensorRead(c).then((bytes) => console.log(new Float32Array(bytes)[0]))
} else if (how === 'throw') {
  addon.tensorRead(c)
  setTimeout(() => {
    throw new Error('on purpose')
  }, 50)
} else if (how === 'close') {
  addon.deviceClose(device).then(() => console.log('closed'))
}
