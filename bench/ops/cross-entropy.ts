import { ops, Tensor } from '../../lib/runtime/index.js'
import { type BenchContext, ceilingOf, deviceSeconds, figure } from '../harness.js'

const [rows, vocab] = [1024, 32_000] as const

/** Cross-entropy over a vocabulary: bytes/s that it must move at least, beside a copy (with gradient) or a read (without). */
export async function crossEntropyBench({ device, report }: BenchContext): Promise<void> {
  report.section('crossEntropy')
  using logits = ops.fillNormal(Tensor.empty(device, [rows, vocab], 'f32'), 1, 1)
  using dlogits = Tensor.empty(device, [rows, vocab], 'f32')
  using targets = Tensor.from(
    device,
    Int32Array.from({ length: rows }, (_, i) => (i * 7919) % vocab),
  )
  using out = Tensor.empty(device, [rows], 'f32')
  const add = async (name: string, arrays: number, ceiling: number, enqueue: () => void): Promise<void> => {
    const value = (arrays * logits.byteLength) / (await deviceSeconds(device, enqueue)) / 1e9
    report.add(figure({ name, shape: `[${rows}, ${vocab}]`, value, unit: 'GB/s', ceiling: ceiling / 1e9 }))
  }
  await add('crossEntropy', 1, await ceilingOf(device, 'read'), () => {
    ops.crossEntropy(logits, targets, { out })
  })
  await add('crossEntropy and gradient', 2, await ceilingOf(device, 'copy'), () => {
    ops.crossEntropy(logits, targets, { out, dlogits })
  })
}
