/** The allocations of one micro-batch of training, in the order in which lib/model makes them: a test compares both. */
import { logitRows } from '../model/chunked-cross-entropy.js'
import type { ActivationCheckpointing, LlamaConfig } from '../model/index.js'
import type { MemoryTrace, TracedBlock } from './memory-trace.js'

export interface MicroBatchShape {
  readonly config: LlamaConfig
  /** Bytes of an activation. */
  readonly elementSize: number
  readonly tokens: number
  readonly sequences: number
  /** Rows with a target. */
  readonly targets: number
  readonly activationCheckpointing: ActivationCheckpointing
  /** Low-rank updates: the modules that have one, such as `down_proj`, their rank, and whether their inputs are dropped out. */
  readonly lora?: { readonly modules: ReadonlySet<string>; readonly rank: number; readonly dropout: boolean }
}

type Norm = { readonly sum: TracedBlock; readonly normed?: TracedBlock; readonly inverseRms?: TracedBlock }

interface Inner {
  readonly attention: readonly TracedBlock[]
  readonly feedForwardNorm: Norm
  readonly feedForward: readonly TracedBlock[]
}

/** Allocates and frees what a micro-batch does. */
export function traceMicroBatch(trace: MemoryTrace, shape: MicroBatchShape): void {
  new MicroBatch(trace, shape).run()
}

class MicroBatch {
  readonly #trace: MemoryTrace
  readonly #shape: MicroBatchShape
  readonly #queries: number
  readonly #keys: number

  constructor(trace: MemoryTrace, shape: MicroBatchShape) {
    this.#trace = trace
    this.#shape = shape
    const { headDim, numAttentionHeads, numKeyValueHeads } = shape.config
    this.#queries = numAttentionHeads * headDim
    this.#keys = numKeyValueHeads * headDim
  }

  run(): void {
    const { config, tokens, targets, sequences, activationCheckpointing } = this.#shape
    const { hiddenSize, vocabSize, numHiddenLayers } = config
    const integers = (count: number): TracedBlock => this.#trace.allocate(4 * count, 'activations')
    const inputs = [targets, targets, tokens, tokens, sequences + 1].map(integers)
    let hidden = this.#rows(hiddenSize)
    let branch: TracedBlock | undefined
    const saved: { attentionNorm: Norm; inner: Inner | undefined }[] = []
    for (let layer = 0; layer < numHiddenLayers; layer++) {
      const result = this.#layerForward(hidden, branch)
      hidden = result.hidden
      branch = result.branch
      saved.push(result.saved)
    }
    const norm = this.#norm(hidden, branch, activationCheckpointing !== 'full')
    const dstream = this.#rows(hiddenSize)

    const counted = this.#trace.allocate(targets * hiddenSize * this.#shape.elementSize, 'activations')
    const nll = this.#trace.allocate(4 * targets, 'logits')
    const logits = this.#trace.allocate(4 * Math.min(targets, logitRows(vocabSize)) * vocabSize, 'logits')
    this.#trace.free(logits, nll, counted)
    this.#freeNorm(norm)

    for (const { attentionNorm, inner } of saved.reverse()) this.#layerBackward(attentionNorm, inner)
    this.#trace.free(dstream, ...inputs)
  }

  /** Activations of all tokens. */
  #rows(columns: number): TracedBlock {
    return this.#trace.allocate(this.#shape.tokens * columns * this.#shape.elementSize, 'activations')
  }

  #floats(perToken: number): TracedBlock {
    return this.#trace.allocate(4 * this.#shape.tokens * perToken, 'activations')
  }

  #norm(x: TracedBlock, branch: TracedBlock | undefined, keepInput: boolean): Required<Norm> {
    const inverseRms = this.#floats(1)
    if (branch === undefined) return { sum: x, normed: this.#rows(this.#shape.config.hiddenSize), inverseRms }
    const sum = keepInput ? this.#rows(this.#shape.config.hiddenSize) : x
    return { sum, normed: branch, inverseRms }
  }

  #freeNorm({ sum, normed, inverseRms }: Norm): void {
    this.#trace.free(sum, normed, inverseRms)
  }

  /** A Linear's forward pass; `inputs` is the width of what goes in. */
  #project(module: string, outputs: number, inputs: number): TracedBlock {
    const out = this.#rows(outputs)
    this.#loraInner(module, inputs)
    return out
  }

  #loraInner(module: string, inputs: number): void {
    const { lora } = this.#shape
    if (lora?.modules.has(module) !== true) return
    const dropped = lora.dropout ? this.#rows(inputs) : undefined
    const inner = this.#rows(lora.rank)
    this.#trace.free(dropped, inner)
  }

  /** Gradients of a low-rank update. */
  #loraWeights(module: string, inputs: number): void {
    const { lora } = this.#shape
    if (lora?.modules.has(module) !== true) return
    this.#loraInner(module, inputs)
    const dinner = this.#rows(lora.rank)
    const dropped = lora.dropout ? this.#rows(inputs) : undefined
    this.#trace.free(dropped, dinner)
  }

  /** The gradient through a low-rank update. */
  #loraInput(module: string, inputs: number): void {
    const { lora } = this.#shape
    if (lora?.modules.has(module) !== true) return
    const dinner = this.#rows(lora.rank)
    const through = lora.dropout ? this.#rows(inputs) : undefined
    this.#trace.free(through, dinner)
  }

  #attention(): { out: TracedBlock; saved: TracedBlock[] } {
    const { hiddenSize, numAttentionHeads } = this.#shape.config
    const q = this.#project('q_proj', this.#queries, hiddenSize)
    const k = this.#project('k_proj', this.#keys, hiddenSize)
    const v = this.#project('v_proj', this.#keys, hiddenSize)
    const logSumExp = this.#floats(numAttentionHeads)
    const mixed = this.#rows(this.#queries)
    const out = this.#project('o_proj', hiddenSize, this.#queries)
    return { out, saved: [q, k, v, mixed, logSumExp] }
  }

  #gateAndUp(): TracedBlock[] {
    const { hiddenSize, intermediateSize } = this.#shape.config
    return ['gate_proj', 'up_proj'].map((module) => this.#project(module, intermediateSize, hiddenSize))
  }

  #layerForward(
    hidden: TracedBlock,
    branch: TracedBlock | undefined,
  ): { hidden: TracedBlock; branch: TracedBlock; saved: { attentionNorm: Norm; inner: Inner | undefined } } {
    const { activationCheckpointing: keeps, config } = this.#shape
    const attentionNorm = this.#norm(hidden, branch, keeps !== 'full')
    const attention = this.#attention()
    if (keeps !== 'none') this.#trace.free(attentionNorm.normed, attentionNorm.inverseRms)
    if (keeps === 'full') this.#trace.free(...attention.saved)
    const feedForwardNorm = this.#norm(attentionNorm.sum, attention.out, true)
    const feedForward = this.#gateAndUp()
    const activation = this.#rows(config.intermediateSize)
    const out = this.#project('down_proj', config.hiddenSize, config.intermediateSize)
    this.#trace.free(activation)
    if (keeps !== 'none') this.#trace.free(feedForwardNorm.normed, feedForwardNorm.inverseRms)
    const next = { hidden: feedForwardNorm.sum, branch: out }
    if (keeps === 'full') {
      this.#trace.free(...feedForward)
      return { ...next, saved: { attentionNorm: { sum: attentionNorm.sum }, inner: undefined } }
    }
    const kept = (norm: Norm): Norm => (keeps === 'none' ? norm : { sum: norm.sum })
    const inner = { attention: attention.saved, feedForwardNorm: kept(feedForwardNorm), feedForward }
    return { ...next, saved: { attentionNorm: kept(attentionNorm), inner } }
  }

  #layerBackward(keptNorm: Norm, keptInner: Inner | undefined): void {
    const { hiddenSize, intermediateSize } = this.#shape.config
    let attentionNorm = keptNorm
    let inner = keptInner
    if (inner === undefined) {
      attentionNorm = this.#whole(attentionNorm)
      const attention = this.#attention()
      const feedForwardNorm = this.#norm(attentionNorm.sum, attention.out, true)
      inner = { attention: attention.saved, feedForwardNorm, feedForward: this.#gateAndUp() }
    }
    const dnormed = this.#rows(hiddenSize)
    const feedForwardNorm = this.#whole(inner.feedForwardNorm)
    const activation = this.#rows(intermediateSize)
    this.#loraInput('down_proj', intermediateSize)
    this.#loraWeights('down_proj', intermediateSize)
    this.#trace.free(activation)
    for (const module of ['gate_proj', 'up_proj']) this.#loraWeights(module, hiddenSize)
    for (const module of ['gate_proj', 'up_proj']) this.#loraInput(module, hiddenSize)
    this.#trace.free(...inner.feedForward)
    this.#freeNorm(feedForwardNorm)

    const norm = this.#whole(attentionNorm)
    this.#loraWeights('o_proj', this.#queries)
    const dmixed = this.#rows(this.#queries)
    this.#loraInput('o_proj', this.#queries)
    const dheads = [this.#queries, this.#keys, this.#keys].map((columns) => this.#rows(columns))
    this.#trace.free(dmixed, ...inner.attention)
    for (const module of ['q_proj', 'k_proj', 'v_proj']) this.#loraWeights(module, hiddenSize)
    for (const module of ['q_proj', 'k_proj', 'v_proj']) this.#loraInput(module, hiddenSize)
    this.#trace.free(...dheads)
    this.#freeNorm(norm)
    this.#trace.free(dnormed)
  }

  #whole(norm: Norm): Norm {
    return norm.normed === undefined ? this.#norm(norm.sum, undefined, true) : norm
  }
}
