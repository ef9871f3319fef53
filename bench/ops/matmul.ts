import { ops, Tensor } from '../../lib/runtime/index.js'
import {
  type BenchContext,
  besideReading,
  deviceSeconds,
  figure,
  type PeerFigure,
  productCeilingOf,
} from '../harness.js'
import { BlasPeers, type ProductRequest } from '../peers/blas.js'

type Layout = ProductRequest['layout']
type Shape = readonly [m: number, n: number, k: number]

// Cubes; the products of a prompt of 512 tokens of width 2048 and 768; one layer of a model of width 768 on 1024 tokens: forward,
// gradient of the input, gradient of the weight.
const everyLayout: readonly Shape[] = [
  [512, 512, 512],
  [1024, 1024, 1024],
  [2048, 2048, 2048],
  [512, 2048, 2048],
  [512, 768, 768],
]
const training: readonly (readonly [Layout, Shape])[] = [
  ['nt', [1024, 2048, 768]],
  ['nn', [1024, 768, 2048]],
  ['tn', [2048, 768, 1024]],
]
const withBf16: readonly (readonly [Layout, Shape])[] = [
  ['nn', [2048, 2048, 2048]],
  ['nt', [2048, 2048, 2048]],
  ['tn', [2048, 2048, 2048]],
  ['nt', [512, 2048, 2048]],
]

/** m + n + k of the products that are compared with the processor's peak. */
const largest = 3 * 2048

/** Matrix products: GFLOP/s beside the multiply-adds that the processor can do in registers, and beside other libraries. */
export async function matmulBench({ device, report, quick = false }: BenchContext): Promise<void> {
  report.section('matmul')
  await using peers = new BlasPeers(device)
  const measure = async (dtype: 'f32' | 'bf16', layout: Layout, [m, n, k]: Shape): Promise<void> => {
    const peak = await productCeilingOf(device, dtype)
    using a = ops.fillNormal(Tensor.empty(device, layout === 'tn' ? [k, m] : [m, k], dtype), 1, 1)
    using b = ops.fillNormal(Tensor.empty(device, layout === 'nt' ? [n, k] : [k, n], dtype), 1, 2)
    using out = Tensor.empty(device, [m, n], 'f32')
    const once = (): Promise<number> =>
      deviceSeconds(
        device,
        () => {
          ops.matmul(a, b, { layout, out })
        },
        (2 * m * n * k) / peak,
      )
    // In turns with the others, of all the best: a machine does not stay equally fast.
    let seconds = await once()
    const others = new Map<string, PeerFigure>()
    const compared = m + n + k === largest
    for (let turn = 0; turn < (compared ? 4 : 1); turn++) {
      for (const other of await peers.products({ dtype, layout, m, n, k })) {
        if (other.value > (others.get(other.name)?.value ?? 0)) others.set(other.name, other)
      }
      seconds = Math.min(seconds, await once())
    }
    const value = (2 * m * n * k) / seconds / 1e9
    const name = dtype === 'f32' ? `matmul ${layout} f32` : `matmul ${layout} bf16 → f32`
    const goal = dtype === 'bf16' ? '≥ 85 %, ≥ 0.9 × oneDNN' : compared ? '≥ 88 %, ≥ 0.95 × BLAS' : '≥ 0.95 × BLAS'
    const shape = `${m} × ${n} × ${k}`
    report.add(figure({ name, shape, value, unit: 'GFLOP/s', ceiling: peak / 1e9, peers: [...others.values()] }), goal)
  }
  const small = ([m, n, k]: Shape): boolean => !quick || m * n * k <= 2 ** 27
  for (const shape of everyLayout.filter(small))
    for (const layout of ['nn', 'nt', 'tn'] as const) await measure('f32', layout, shape)
  for (const [layout, shape] of quick ? [] : training) await measure('f32', layout, shape)
  for (const [layout, shape] of quick ? [] : withBf16) await measure('bf16', layout, shape)
  for (const [library, reason] of peers.missing) report.note(`${library}: no figures, ${reason}`)
  await decodingProducts({ device, report })
}

/** The products of decoding read each weight once: bytes/s beside the memory. */
async function decodingProducts({ device, report }: BenchContext): Promise<void> {
  const shapes = [
    [32_000, 2048],
    [11_008, 4096],
  ] as const
  for (const [n, k] of shapes)
    for (const dtype of ['f32', 'bf16'] as const) {
      using weight = ops.fillNormal(Tensor.empty(device, [n, k], dtype), 1, 1)
      for (const rows of [1, 4, 8, 16]) {
        using x = ops.fillNormal(Tensor.empty(device, [rows, k], 'f32'), 1, 2)
        using out = Tensor.empty(device, [rows, n], 'f32')
        const enqueue = (): void => {
          ops.matmul(x, weight, { layout: 'nt', out, invariance: 'fewRows' })
        }
        const { seconds, bandwidth } = await besideReading(device, enqueue, weight.byteLength)
        const value = weight.byteLength / seconds / 1e9
        const shape = `${rows} × ${n} × ${k}`
        const name = `matmul nt, ${dtype} weights`
        report.add(
          figure({ name, shape, value, unit: 'GB/s', ceiling: bandwidth / 1e9 }),
          rows === 1 ? (dtype === 'bf16' ? '≥ 95 %' : '≥ 50 %') : '',
        )
      }
    }
}
