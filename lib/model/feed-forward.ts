import { ops, Tensor } from '../runtime/index.js'
import type { ForwardContext } from './forward-context.js'
import type { Linear, ResidualStream } from './linear.js'
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

  /**
   * hidden and feedForward(x), both [tokens, hiddenSize], as a stream; see {@link Linear.addTo} for `keepHidden`. The activation is not
   * kept: the backward pass computes it again from gate and up.
   */
  forward(
    x: Tensor,
    hidden: Tensor,
    { training, invariance }: Pick<ForwardContext, 'training' | 'invariance'>,
    keepHidden: boolean,
  ): { stream: ResidualStream; saved: FeedForwardSaved | undefined } {
    const { gate, down } = this.projections
    const activation = Tensor.empty(x.device, [x.count / gate.inFeatures, gate.outFeatures], x.dtype)
    const saved = training ? { gate: like(activation), up: like(activation) } : undefined
    this.#activate(x, { invariance, training }, { ...saved, out: activation })
    const stream = down.addTo(hidden, activation, { training, invariance }, keepHidden)
    activation.dispose()
    return { stream, saved }
  }

  /** hidden becomes hidden + feedForward(norm(hidden)), for the tokens of a decoding step. The weights have no low-rank updates. */
  decode(hidden: Tensor, norm: RmsNorm): void {
    const { gate, up, down } = this.projections
    const weights = { norm: norm.weight.tensor, gate: gate.weight.tensor, up: up.weight.tensor }
    using activation = ops.normGateUp(hidden, weights, { epsilon: norm.epsilon })
    ops.linearAdd(activation, down.weight.tensor, hidden, { out: hidden, invariance: 'fewRows' })
  }

  /** What forward() keeps for the backward pass, without its result. */
  forwardAgain(x: Tensor, context: Pick<ForwardContext, 'training' | 'invariance'>): FeedForwardSaved {
    const { inFeatures, outFeatures } = this.projections.gate
    const gate = Tensor.empty(x.device, [x.count / inFeatures, outFeatures], x.dtype)
    const saved = { gate, up: like(gate) }
    this.#activate(x, context, saved)
    return saved
  }

  /** The projections of x, and the activation; with `gate` and `up` they are kept. */
  #activate(
    x: Tensor,
    { training, invariance }: Pick<ForwardContext, 'training' | 'invariance'>,
    results: ops.GateUpResults,
  ): void {
    const { gate, up } = this.projections
    if (gate.lora === undefined && up.lora === undefined) {
      ops.gateUp(x, { gate: gate.weight.tensor, up: up.weight.tensor }, results, invariance)
      return
    }
    const gated = gate.forward(x, results.gate ?? results.out, invariance, training)
    const upper = up.forward(x, results.up, invariance, training)
    if (results.out !== undefined) ops.swiGlu(gated, upper, results.out)
    if (results.up === undefined) upper.dispose()
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

function like(tensor: Tensor): Tensor {
  return Tensor.empty(tensor.device, tensor.shape, tensor.dtype)
}
