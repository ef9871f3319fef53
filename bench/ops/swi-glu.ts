import { ops, Tensor } from '../../lib/runtime/index.js'
import { type BenchContext, ceilingOf, deviceSeconds, figure } from '../harness.js'

const shape = [4096, 4096] as const

/** SwiGLU: bytes/s that it must move at least, beside a copy of memory. */
export async function swiGluBench({ device, report }: BenchContext): Promise<void> {
  report.section('swiGlu')
  const bandwidth = await ceilingOf(device, 'copy')
  const random = (seed: number): Tensor => ops.fillNormal(Tensor.empty(device, shape, 'f32'), 1, seed)
  using gate = random(1)
  using up = random(2)
  using dout = random(3)
  using out = Tensor.empty(device, shape, 'f32')
  using dup = Tensor.empty(device, shape, 'f32')
  const add = async (name: string, arrays: number, enqueue: () => void): Promise<void> => {
    const value = (arrays * gate.byteLength) / (await deviceSeconds(device, enqueue)) / 1e9
    report.add(figure({ name, shape: `[${shape.join(', ')}]`, value, unit: 'GB/s', ceiling: bandwidth / 1e9 }))
  }
  await add('swiGlu', 3, () => {
    ops.swiGlu(gate, up, out)
  })
  await add('swiGlu backward', 5, () => {
    ops.swiGluBackward(dout, gate, up, { dgate: out, dup })
  })
}
