/** The activation of the feed-forward block, and its backward pass. */
import type { Tensor } from '../tensor.js'
import { handleOf, like } from './arguments.js'

/** silu(gate) · up (Shazeer 2020); `out` may be either. */
export function swiGlu(gate: Tensor, up: Tensor, out: Tensor = like(gate)): Tensor {
  gate.device.addon.opSwiGlu(gate.handle, up.handle, out.handle, gate.count)
  return out
}

export interface SwiGluBackwardOptions {
  /** May be `gate`. */
  readonly dgate?: Tensor
  /** May be `up`. */
  readonly dup?: Tensor
  /** Receives silu(gate) · up once more, so that it need not be kept from the forward pass; may be `dout`. */
  readonly out?: Tensor
}

/** The gradients of {@link swiGlu}. */
export function swiGluBackward(
  dout: Tensor,
  gate: Tensor,
  up: Tensor,
  options: SwiGluBackwardOptions = {},
): { dgate: Tensor; dup: Tensor } {
  const { dgate = like(gate), dup = like(up), out } = options
  gate.device.addon.opSwiGluBackward(
    gate.handle,
    up.handle,
    dout.handle,
    dgate.handle,
    dup.handle,
    handleOf(out),
    gate.count,
  )
  return { dgate, dup }
}
