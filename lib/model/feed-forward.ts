import { ops, Tensor } from '../runtime/index.js'
import type { ForwardContext } from './forward-context.js'
import type { Linear } from './linear.js'
import type { RmsNorm } from './rms-norm.js'

export interface FeedForwardProjections {
  readonly gate: Linear
  readonly up: Linear
  readonly down: Linear
}

export interface FeedForwardSaved {
  readonly gate: Tensor
  readonly up: Tensor
}

/** The SwiGLU feed-forward block: down(silu(gate(x)) · up(x)). */
export class FeedForward {
  readonly projections: FeedForwardProjections

  constructor(projections: FeedForwardProjections) {
    this.projections = projections
  }

  /** x [tokens, hiddenSize] → [tokens, hiddenSize]. The activation is not kept: the backward pass computes it again from gate and up. */
  forward(
    x: Tensor,
    { training, invariance }: Pick<ForwardContext, 'training' | 'invariance'>,
  ): { out: Tensor; saved: FeedForwardSaved | undefined } {
    const gate = this.projections.gate.forward(x, undefined, invariance, training)
    const up = this.projections.up.forward(x, undefined, invariance, training)
    const activation = training ? ops.swiGlu(gate, up) : ops.swiGlu(gate, up, gate)
    const out = this.projections.down.forward(activation, undefined, invariance, training)
    if (training) {
      activation.dispose()
      return { out, saved: { gate, up } }
    }
    gate.dispose()
    up.dispose()
    return { out, saved: undefined }
  }

  /** hidden becomes hidden + feedForward(norm(hidden)), for the tokens of a decoding step. The weights have no low-rank updates. */
  decode(hidden: Tensor, norm: RmsNorm): void {
    const { gate, up, down } = this.projections
    const weights = { norm: norm.weight.tensor, gate: gate.weight.tensor, up: up.weight.tensor }
    using activation = ops.normGateUp(hidden, weights, { epsilon: norm.epsilon })
    ops.linearAdd(activation, down.weight.tensor, hidden, hidden)
  }

  /** What forward() keeps for the backward pass, without its result. */
  forwardAgain(x: Tensor, { training, invariance }: Pick<ForwardContext, 'training' | 'invariance'>): FeedForwardSaved {
    const { gate, up } = this.projections
    return {
      gate: gate.forward(x, undefined, invariance, training),
      up: up.forward(x, undefined, invariance, training),
    }
  }

  /** From d(out) to d(x), overwriting `dx`; adds the gradients of the three weights. Frees what was saved. */
  backward(dout: Tensor, x: Tensor, saved: FeedForwardSaved, dx: Tensor): void {
    const { gate, up, down } = this.projections
    const activation = Tensor.empty(x.device, saved.gate.shape, x.dtype)
    down.backwardInput(dout, activation)
    // In place, all three: d(gate) over gate, d(up) over up, and the activation itself over its gradient.
    ops.swiGluBackward(activation, saved.gate, saved.up, { dgate: saved.gate, dup: saved.up, out: activation })
    down.backwardWeight(dout, activation)
    activation.dispose()
    gate.backwardWeight(saved.gate, x)
    up.backwardWeight(saved.up, x)
    gate.backwardInput(saved.gate, dx)
    up.backwardInput(saved.up, dx, true)
    saved.gate.dispose()
    saved.up.dispose()
  }
}
