import { ops, Tensor } from '../../lib/runtime/index.js'
import { type BenchContext, ceilingOf, deviceSeconds, figure } from '../harness.js'

const [rows, cols] = [8192, 2048] as const

/** RMSNorm: bytes/s that it must move at least, beside a copy of memory. */
export async function rmsNormBench({ device, report }: BenchContext): Promise<void> {
  report.section('rmsNorm')
  const bandwidth = await ceilingOf(device, 'copy')
  using x = ops.fillNormal(Tensor.empty(device, [rows, cols], 'f32'), 1, 1)
  using residual = ops.fillNormal(Tensor.empty(device, [rows, cols], 'f32'), 1, 2)
  using weight = ops.fill(Tensor.empty(device, [cols], 'f32'), 1)
  using out = Tensor.empty(device, [rows, cols], 'f32')
  using sum = Tensor.empty(device, [rows, cols], 'f32')
  using inverseRms = Tensor.empty(device, [rows], 'f32')
  using dweight = Tensor.zeros(device, [cols], 'f32')
  const add = async (name: string, arrays: number, enqueue: () => void): Promise<void> => {
    const value = (arrays * x.byteLength) / (await deviceSeconds(device, enqueue)) / 1e9
    report.add(figure({ name, shape: `[${rows}, ${cols}]`, value, unit: 'GB/s', ceiling: bandwidth / 1e9 }))
  }
  await add('rmsNorm', 2, () => {
    ops.rmsNorm(x, weight, { out, inverseRms })
  })
  await add('rmsNorm with residual', 4, () => {
    ops.rmsNorm(x, weight, { residual, sum, out, inverseRms })
  })
  await add('rmsNorm backward', 3, () => {
    ops.rmsNormBackward(residual, x, weight, inverseRms, { dx: out, dweight })
  })
}
