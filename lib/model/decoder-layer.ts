import { ops, Tensor } from '../runtime/index.js'
import type { Attention } from './attention.js'
import type { FeedForward, FeedForwardSaved } from './feed-forward.js'
import type { ForwardContext, LayerCache } from './forward-context.js'
import type { ResidualStream } from './linear.js'
import type { RmsNorm, RmsNormResult } from './rms-norm.js'

/**
 * What a layer computes again in its backward pass instead of keeping it from the forward pass. The gradients are the same bits.
 *
 * - `'none'`: nothing but the SwiGLU product, which the gradient of SwiGLU gives as a by-product.
 * - `'selective'`: the normalised inputs of attention and feed-forward block as well, elementwise work.
 * - `'full'`: everything from the layer's input on, so that one tensor a layer is kept and the backward pass runs the layer's forward
 *   pass again (all of it but the last product).
 */
export type ActivationCheckpointing = 'none' | 'selective' | 'full'

/** What was normalised, and the result unless it is to be computed again. */
type KeptNorm = Pick<RmsNormResult, 'sum'> & Partial<RmsNormResult>

/** What one layer keeps from its forward pass for its backward pass. */
export interface DecoderLayerSaved {
  readonly attentionNorm: KeptNorm
  /** Not kept with `'full'`. */
  readonly inner: InnerSaved | undefined
}

interface InnerSaved {
  readonly attention: ops.AttentionSaved
  readonly feedForwardNorm: KeptNorm
  readonly feedForward: FeedForwardSaved
}

/** h ← h + attention(norm(h)); h ← h + feedForward(norm(h)). */
export class DecoderLayer {
  readonly attentionNorm: RmsNorm
  readonly attention: Attention
  readonly feedForwardNorm: RmsNorm
  readonly feedForward: FeedForward
  activationCheckpointing: ActivationCheckpointing = 'none'

  constructor(attentionNorm: RmsNorm, attention: Attention, feedForwardNorm: RmsNorm, feedForward: FeedForward) {
    this.attentionNorm = attentionNorm
    this.attention = attention
    this.feedForwardNorm = feedForwardNorm
    this.feedForward = feedForward
  }

  /**
   * Takes over the stream's tensors. In training every sum that is needed again is kept by the layer that normalised it, and freed by its
   * backward pass; otherwise the stream stays in one buffer.
   */
  forward(
    stream: ResidualStream,
    context: ForwardContext,
    cache?: LayerCache,
  ): { stream: ResidualStream; saved: DecoderLayerSaved | undefined } {
    const { training } = context
    if (!training && cache !== undefined && context.invariance === 'fewRows' && !this.#hasUpdates) {
      return { stream: this.#decode(stream, context, cache), saved: undefined }
    }
    const keeps = training ? this.activationCheckpointing : undefined
    const keepsSums = keeps === 'none' || keeps === 'selective'
    const attentionNorm = this.attentionNorm.forward(stream.hidden, stream.branch, keepsSums)
    const { sum, normed } = attentionNorm
    const attention = this.attention.forward(normed, sum, context, { cache, keepHidden: training })
    if (keeps !== 'none') disposeNormed(attentionNorm)
    if (!keepsSums && attention.saved !== undefined) disposeAll(attention.saved)
    const between = attention.stream
    const feedForwardNorm = this.feedForwardNorm.forward(between.hidden, between.branch, training)
    const feedForward = this.feedForward.forward(feedForwardNorm.normed, feedForwardNorm.sum, context, keepsSums)
    const next = feedForward.stream
    if (keeps !== 'none') disposeNormed(feedForwardNorm)
    if (attention.saved === undefined || feedForward.saved === undefined) return { stream: next, saved: undefined }
    if (!keepsSums) {
      disposeAll(feedForward.saved)
      return { stream: next, saved: { attentionNorm: { sum: attentionNorm.sum }, inner: undefined } }
    }
    const kept = (norm: RmsNormResult): KeptNorm => (keeps === 'none' ? norm : { sum: norm.sum })
    return {
      stream: next,
      saved: {
        attentionNorm: kept(attentionNorm),
        inner: {
          attention: attention.saved,
          feedForwardNorm: kept(feedForwardNorm),
          feedForward: feedForward.saved,
        },
      },
    }
  }

  /** A decoding step: few tokens, whose time goes into reading the weights, in as few kernels as can be. */
  #decode({ hidden, branch }: ResidualStream, context: ForwardContext, cache: LayerCache): ResidualStream {
    if (branch !== undefined) {
      ops.add(hidden, branch, hidden)
      branch.dispose()
    }
    this.attention.decode(hidden, this.attentionNorm, context, cache)
    this.feedForward.decode(hidden, this.feedForwardNorm)
    return { hidden, branch: undefined }
  }

  get #hasUpdates(): boolean {
    const modules = [...Object.values(this.attention.projections), ...Object.values(this.feedForward.projections)]
    return modules.some(({ lora }) => lora !== undefined)
  }

  /** Turns the gradient of the stream after the layer into the one before it, in place. Frees what was saved. */
  backward(dstream: Tensor, saved: DecoderLayerSaved, context: ForwardContext): void {
    let { attentionNorm } = saved
    let { inner } = saved
    if (inner === undefined) {
      attentionNorm = whole(this.attentionNorm, attentionNorm)
      inner = this.#forwardAgain(attentionNorm as RmsNormResult, context)
    }
    const dnormed = Tensor.empty(dstream.device, dstream.shape, dstream.dtype)
    const feedForwardNorm = whole(this.feedForwardNorm, inner.feedForwardNorm)
    this.feedForward.backward(dstream, feedForwardNorm.normed, inner.feedForward, dnormed)
    this.feedForwardNorm.backward(dnormed, feedForwardNorm, dstream)
    disposeNorm(feedForwardNorm)
    const norm = whole(this.attentionNorm, attentionNorm)
    this.attention.backward(dstream, norm.normed, inner.attention, context, dnormed)
    this.attentionNorm.backward(dnormed, norm, dstream)
    disposeNorm(norm)
    dnormed.dispose()
  }

  /** The forward pass from the normalised input on, up to what the backward pass needs. */
  #forwardAgain({ sum, normed }: RmsNormResult, context: ForwardContext): InnerSaved {
    const { stream, saved } = this.attention.forward(normed, sum, context, { keepHidden: true })
    const feedForwardNorm = this.feedForwardNorm.forward(stream.hidden, stream.branch, true)
    const feedForward = this.feedForward.forwardAgain(feedForwardNorm.normed, context)
    return { attention: saved as ops.AttentionSaved, feedForwardNorm, feedForward }
  }
}

/** The result of a norm, computed again if it was not kept. */
function whole(norm: RmsNorm, { sum, normed, inverseRms }: KeptNorm): RmsNormResult {
  if (normed === undefined || inverseRms === undefined) return norm.forward(sum, undefined, true)
  return { sum, normed, inverseRms }
}

function disposeAll(tensors: object): void {
  for (const tensor of Object.values(tensors) as Tensor[]) tensor.dispose()
}

function disposeNormed(norm: RmsNormResult): void {
  norm.normed.dispose()
  norm.inverseRms.dispose()
}

function disposeNorm(norm: RmsNormResult): void {
  norm.sum.dispose()
  disposeNormed(norm)
}
