// Runs stages as its argument says, in JSON, and kills its own process with SIGKILL when `killAt` steps of all stages are done:
// { model, stages, output, resume, killAt, device }. It uses the built library, as a program of a user would.
import { Alma } from '../../dist/lib/index.js'

const { model, stages, output, resume, killAt, device } = JSON.parse(process.argv[2])
const alma = await Alma.load(model, { device })
const before = (stage) => stages.slice(0, stage).reduce((sum, { maxSteps }) => sum + maxSteps, 0)
try {
  await alma.finetune(stages, {
    output,
    resume,
    onProgress(event) {
      if (event.type === 'step' && before(event.stage) + event.record.step >= killAt)
        process.kill(process.pid, 'SIGKILL')
    },
  })
} catch (error) {
  console.error(`${error.code}: ${error.message}`)
  process.exitCode = 1
}
await alma.dispose()
