import { ops, Tensor } from '../../lib/runtime/index.js'
import { type BenchContext, ceilingOf, deviceSeconds, figure } from '../harness.js'

const count = 16 * 2 ** 20

/** AdamW: reads four arrays and writes three, beside a copy of memory. */
export async function adamwBench({ device, report }: BenchContext): Promise<void> {
  report.section('adamw')
  const bandwidth = await ceilingOf(device, 'copy')
  using param = ops.fillNormal(Tensor.empty(device, [count], 'f32'), 0.02, 1)
  using grad = ops.fillNormal(Tensor.empty(device, [count], 'f32'), 0.02, 2)
  using expAvg = Tensor.zeros(device, [count], 'f32')
  using expAvgSq = Tensor.zeros(device, [count], 'f32')
  using learningRate = Tensor.from(device, [1e-5])
  using step = Tensor.from(device, Int32Array.of(1))
  using norm = Tensor.zeros(device, [1], 'f32')
  const shape = `${count / 2 ** 20} Mi parameters`
  const seconds = await deviceSeconds(device, () => {
    ops.adamw({ param, grad, expAvg, expAvgSq }, { learningRate, step })
  })
  const value = (7 * param.byteLength) / seconds / 1e9
  report.add(figure({ name: 'adamw', shape, value, unit: 'GB/s', ceiling: bandwidth / 1e9 }))

  const read = await ceilingOf(device, 'read')
  const normSeconds = await deviceSeconds(device, () => {
    ops.reduceSum(grad, { squares: true, out: norm })
  })
  const normValue = grad.byteLength / normSeconds / 1e9
  report.add(figure({ name: 'reduceSum of squares', shape, value: normValue, unit: 'GB/s', ceiling: read / 1e9 }))
}
