import { ops, Tensor } from '../../lib/runtime/index.js'
import { type BenchContext, ceilingOf, deviceSeconds, figure } from '../harness.js'

type Layout = 'nn' | 'nt' | 'tn'
type Shape = readonly [m: number, n: number, k: number]

const cubes = [512, 1024, 2048] as const

// One layer of a model of width 768 on 1024 tokens: forward, gradient of the input, gradient of the weight.
const training: readonly (readonly [Layout, Shape])[] = [
  ['nt', [1024, 2048, 768]],
  ['nn', [1024, 768, 2048]],
  ['tn', [2048, 768, 1024]],
]

/** Matrix products: GFLOP/s beside the multiply-adds that the processor can do in registers. */
export async function matmulBench({ device, report }: BenchContext): Promise<void> {
  report.section('matmul')
  const measure = async (layout: Layout, [m, n, k]: Shape, peak: number): Promise<void> => {
    using a = ops.fillNormal(Tensor.empty(device, layout === 'tn' ? [k, m] : [m, k], 'f32'), 1, 1)
    using b = ops.fillNormal(Tensor.empty(device, layout === 'nt' ? [n, k] : [k, n], 'f32'), 1, 2)
    using out = Tensor.empty(device, [m, n], 'f32')
    const seconds = await deviceSeconds(device, () => {
      ops.matmul(a, b, { layout, out })
    })
    const value = (2 * m * n * k) / seconds / 1e9
    const shape = `${m} × ${n} × ${k}`
    const name = `matmul ${layout} f32`
    report.add(figure({ name, shape, value, unit: 'GFLOP/s', ceiling: peak / 1e9 }), '≥ 50 %')
  }
  for (const size of cubes) {
    const peak = await ceilingOf(device, 'fma')
    for (const layout of ['nn', 'nt', 'tn'] as const) await measure(layout, [size, size, size], peak)
  }
  const peak = await ceilingOf(device, 'fma')
  for (const [layout, shape] of training) await measure(layout, shape, peak)
  await decodingProducts({ device, report })
}

/** The products of decoding read each weight once: bytes/s beside the memory. */
async function decodingProducts({ device, report }: BenchContext): Promise<void> {
  const [n, k] = [32_000, 2048]
  const bandwidth = await ceilingOf(device, 'read')
  for (const dtype of ['f32', 'bf16'] as const) {
    using weight = ops.fillNormal(Tensor.empty(device, [n, k], dtype), 1, 1)
    for (const rows of [1, 4]) {
      using x = ops.fillNormal(Tensor.empty(device, [rows, k], 'f32'), 1, 2)
      using out = Tensor.empty(device, [rows, n], 'f32')
      const seconds = await deviceSeconds(device, () => {
        ops.matmul(x, weight, { layout: 'nt', out })
      })
      const value = weight.byteLength / seconds / 1e9
      const shape = `${rows} × ${n} × ${k}`
      const name = `matmul nt, ${dtype} weights`
      report.add(figure({ name, shape, value, unit: 'GB/s', ceiling: bandwidth / 1e9 }), rows === 1 ? '≥ 50 %' : '')
    }
  }
}
