import { type ops, Tensor } from '../runtime/index.js'
import type { Attention } from './attention.js'
import type { FeedForward, FeedForwardSaved } from './feed-forward.js'
import type { ForwardContext, LayerCache } from './forward-context.js'
import type { RmsNorm, RmsNormResult } from './rms-norm.js'

/**
 * The residual stream between two layers: `hidden` plus a `branch` that has not been added yet. The addition is fused into the norm
 * that follows.
 */
export interface ResidualStream {
  readonly hidden: Tensor
  readonly branch: Tensor | undefined
}

/** What one layer keeps from its forward pass for its backward pass. */
export interface DecoderLayerSaved {
  readonly attentionNorm: RmsNormResult
  readonly attention: ops.AttentionSaved
  readonly feedForwardNorm: RmsNormResult
  readonly feedForward: FeedForwardSaved
}

/** h ← h + attention(norm(h)); h ← h + feedForward(norm(h)). */
export class DecoderLayer {
  readonly attentionNorm: RmsNorm
  readonly attention: Attention
  readonly feedForwardNorm: RmsNorm
  readonly feedForward: FeedForward

  constructor(attentionNorm: RmsNorm, attention: Attention, feedForwardNorm: RmsNorm, feedForward: FeedForward) {
    this.attentionNorm = attentionNorm
    this.attention = attention
    this.feedForwardNorm = feedForwardNorm
    this.feedForward = feedForward
  }

  /**
   * Takes over the stream's tensors. In training every sum is kept by the layer that normalised it, and freed by its backward pass;
   * otherwise the stream stays in one buffer.
   */
  forward(
    stream: ResidualStream,
    context: ForwardContext,
    cache?: LayerCache,
  ): { stream: ResidualStream; saved: DecoderLayerSaved | undefined } {
    const { training } = context
    const attentionNorm = this.attentionNorm.forward(stream.hidden, stream.branch, training)
    const attention = this.attention.forward(attentionNorm.normed, context, cache)
    if (!training) disposeNormed(attentionNorm)
    const feedForwardNorm = this.feedForwardNorm.forward(attentionNorm.sum, attention.out, training)
    const feedForward = this.feedForward.forward(feedForwardNorm.normed, context)
    const next = { hidden: feedForwardNorm.sum, branch: feedForward.out }
    if (attention.saved === undefined || feedForward.saved === undefined) {
      disposeNormed(feedForwardNorm)
      return { stream: next, saved: undefined }
    }
    return {
      stream: next,
      saved: { attentionNorm, attention: attention.saved, feedForwardNorm, feedForward: feedForward.saved },
    }
  }

  /** Turns the gradient of the stream after the layer into the one before it, in place. Frees what was saved. */
  backward(dstream: Tensor, saved: DecoderLayerSaved, context: ForwardContext): void {
    const { attentionNorm, feedForwardNorm } = saved
    const dnormed = Tensor.empty(dstream.device, dstream.shape, dstream.dtype)
    this.feedForward.backward(dstream, feedForwardNorm.normed, saved.feedForward, dnormed)
    this.feedForwardNorm.backward(dnormed, feedForwardNorm, dstream)
    disposeNorm(feedForwardNorm)
    this.attention.backward(dstream, attentionNorm.normed, saved.attention, context, dnormed)
    this.attentionNorm.backward(dnormed, attentionNorm, dstream)
    disposeNorm(attentionNorm)
    dnormed.dispose()
  }
}

function disposeNormed(norm: RmsNormResult): void {
  norm.normed.dispose()
  norm.inverseRms.dispose()
}

function disposeNorm(norm: RmsNormResult): void {
  norm.sum.dispose()
  disposeNormed(norm)
}
