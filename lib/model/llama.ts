import { AlmaError } from '../errors.js'
import { type Device, type DType, ops, Tensor } from '../runtime/index.js'
import { Attention } from './attention.js'
import { chunkedCrossEntropy } from './chunked-cross-entropy.js'
import type { LlamaConfig } from './config.js'
import { type ActivationCheckpointing, DecoderLayer, type DecoderLayerSaved } from './decoder-layer.js'
import { FeedForward } from './feed-forward.js'
import type { ForwardContext } from './forward-context.js'
import type { KeyValueCache } from './key-value-cache.js'
import { Linear, type ResidualStream } from './linear.js'
import type { LoraAdapter } from './lora.js'
import { PackedSequences } from './packed-sequences.js'
import { Parameter } from './parameter.js'
import { type PreferenceTensors, preferenceCrossEntropy } from './preference-cross-entropy.js'
import { RmsNorm, type RmsNormResult } from './rms-norm.js'
import { RopeCache } from './rope-table.js'
import { countLabels, type NextTokenTargets, nextTokenTargets, type TrainingBatch } from './training-batch.js'

export interface ForwardOptions {
  /** Writes keys and values to these rows (i32 [tokens]) and reads from there; `bounds` then delimit the used rows of each sequence. */
  readonly cache?: { readonly store: KeyValueCache; readonly rows: Tensor }
  /** i32: the token rows whose logits are wanted. Default: all. */
  readonly logitRows?: Tensor
  /** `'manyRows'` or `'fewRows'`: what a token gives does not depend, to the bit, on the other tokens of the pass. Default `'none'`. */
  readonly invariance?: ops.Invariance
}

/** Tokens of one pass, on the device. */
export interface TokenRows {
  readonly ids: Tensor
  readonly positions: Tensor
  readonly bounds: ops.SequenceBounds
  /** Positions lie below this. */
  readonly longest: number
}

/** The LLaMA decoder with its output layer (Touvron et al. 2023): forward, and an explicit backward pass. */
export class LlamaForCausalLM {
  readonly config: LlamaConfig
  readonly device: Device
  /** Dtype of activations; weights may be 'bf16' beside 'f32' activations. */
  readonly activationDtype: DType
  /** The low-rank updates beside the weights, if this is a model with an adapter. The weights are then frozen. */
  readonly adapter: LoraAdapter | undefined
  readonly #parameters: ReadonlyMap<string, Parameter>
  readonly #embedding: Parameter
  readonly #layers: readonly DecoderLayer[]
  readonly #norm: RmsNorm
  readonly #output: Linear
  readonly #rope: RopeCache
  #activationCheckpointing: ActivationCheckpointing = 'none'
  #disposed = false

  /** Takes over the tensors. Use `loadLlama` or `createLlama` to get one. */
  constructor(
    device: Device,
    config: LlamaConfig,
    tensors: ReadonlyMap<string, Tensor | Parameter>,
    activationDtype: DType,
    adapter?: LoraAdapter,
  ) {
    this.device = device
    this.config = config
    this.activationDtype = activationDtype
    this.adapter = adapter
    const frozen = adapter !== undefined
    const parameters = new Map<string, Parameter>()
    for (const [name, tensor] of tensors) {
      parameters.set(name, tensor instanceof Tensor ? new Parameter(name, tensor) : tensor)
    }
    this.#parameters = parameters
    const parameter = (name: string): Parameter => {
      const found = parameters.get(`${name}.weight`)
      if (found === undefined) throw new AlmaError('ERR_ALMA_CHECKPOINT', `the model has no tensor ${name}.weight`)
      return found
    }
    const linear = (name: string): Linear => new Linear(parameter(name), { lora: adapter?.pairs.get(name), frozen })
    const norm = (name: string): RmsNorm => new RmsNorm(parameter(name), config.rmsNormEps, frozen)

    this.#embedding = parameter('model.embed_tokens')
    this.#layers = Array.from({ length: config.numHiddenLayers }, (_, index) => {
      const prefix = `model.layers.${index}`
      const attention = new Attention(config, {
        query: linear(`${prefix}.self_attn.q_proj`),
        key: linear(`${prefix}.self_attn.k_proj`),
        value: linear(`${prefix}.self_attn.v_proj`),
        output: linear(`${prefix}.self_attn.o_proj`),
      })
      const feedForward = new FeedForward({
        gate: linear(`${prefix}.mlp.gate_proj`),
        up: linear(`${prefix}.mlp.up_proj`),
        down: linear(`${prefix}.mlp.down_proj`),
      })
      return new DecoderLayer(
        norm(`${prefix}.input_layernorm`),
        attention,
        norm(`${prefix}.post_attention_layernorm`),
        feedForward,
      )
    })
    this.#norm = norm('model.norm')
    this.#output = config.tieWordEmbeddings ? new Linear(this.#embedding, { frozen }) : linear('lm_head')
    this.#rope = new RopeCache(device, config)
  }

  /** The weights under their names in the safetensors file; a tied output layer appears once, as the embedding. */
  *namedParameters(): IterableIterator<[name: string, tensor: Tensor]> {
    for (const [name, parameter] of this.#parameters) yield [name, parameter.tensor]
  }

  /** What the layers compute again in training passes instead of keeping it; default `'none'`. */
  get activationCheckpointing(): ActivationCheckpointing {
    return this.#activationCheckpointing
  }

  set activationCheckpointing(value: ActivationCheckpointing) {
    this.#activationCheckpointing = value
    for (const layer of this.#layers) layer.activationCheckpointing = value
  }

  /** What training changes, for the trainer and the optimizer: all weights, or those of the adapter. */
  parameters(): IterableIterator<Parameter> {
    return this.adapter?.parameters() ?? this.#parameters.values()
  }

  /**
   * The same weights with low-rank updates beside them, as a model of its own: both can be used at the same time, and the weights are in
   * memory once. It must not outlive this one; disposing it frees neither the weights nor the adapter.
   */
  withAdapter(adapter: LoraAdapter): LlamaForCausalLM {
    return new LlamaForCausalLM(this.device, this.config, this.#parameters, this.activationDtype, adapter)
  }

  /**
   * Adds an adapter's updates to the weights (W + scaling · B · A), or takes them away again with `sign` −1; the second is exact up to
   * rounding only. For weights that are files in memory, copies take their place.
   */
  merge(adapter: LoraAdapter, sign: 1 | -1 = 1): void {
    for (const [module, pair] of adapter.pairs) {
      const parameter = this.#parameters.get(`${module}.weight`)
      if (parameter === undefined) throw new AlmaError('ERR_ALMA_ADAPTER', `the model has no module ${module}`)
      const { tensor } = parameter
      const merged = pair.mergedWith(tensor, sign)
      if (parameter.gradient !== undefined) {
        // The tensor is part of the optimizer's memory.
        ops.cast(merged, tensor)
        merged.dispose()
        continue
      }
      parameter.tensor = merged
      tensor.dispose()
    }
  }

  /** Number of weights. */
  get parameterCount(): number {
    let count = 0
    for (const parameter of this.#parameters.values()) count += parameter.tensor.count
    return count
  }

  /** Makes what passes over the positions 0 … positions − 1 need, so that they can be captured into a graph. */
  reservePositions(positions: number): void {
    this.#rope.table(positions)
  }

  /**
   * Logits f32 [rows, vocabSize] of the wanted rows. Enqueues the pass and returns; the caller disposes the result.
   */
  forward(tokens: TokenRows, options: ForwardOptions = {}): Tensor {
    using wanted = this.#wantedRows(tokens, options)
    // Of a pass over prompts few rows are wanted, and the output layer is the largest weight.
    const order = (options.invariance ?? 'none') === 'none' ? 'none' : 'fewRows'
    const logits = Tensor.empty(this.device, [wanted.shape[0] ?? 0, this.config.vocabSize], 'f32')
    return this.#output.forward(wanted, logits, order)
  }

  /** The normalised rows that the output layer takes. */
  #wantedRows(tokens: TokenRows, { cache, logitRows, invariance = 'none' }: ForwardOptions): Tensor {
    const context = this.#context(tokens, false, invariance)
    let stream: ResidualStream = { hidden: this.#embed(tokens.ids), branch: undefined }
    this.#layers.forEach((layer, index) => {
      stream = layer.forward(stream, context, cache?.store.layer(index, cache.rows)).stream
    })
    const { sum, normed, inverseRms } = this.#norm.forward(stream.hidden, stream.branch, false)
    sum.dispose()
    inverseRms.dispose()
    if (logitRows === undefined) return normed
    const wanted = ops.gatherRows(normed, logitRows)
    normed.dispose()
    return wanted
  }

  /**
   * One micro-batch of training: adds the gradients of gradScale[0] · Σ nll to the parameters' gradients, and Σ nll (nats) to
   * `lossSum`; both f32 [1] on the device. Enqueues everything and returns.
   */
  forwardBackward(batch: TrainingBatch, gradScale: Tensor, lossSum: Tensor): void {
    this.#trainingPass(batch, (counted, { ids }) =>
      chunkedCrossEntropy(this.#output, counted, ids, { lossSum, gradScale }),
    )
  }

  /**
   * One micro-batch of preference pairs: sequences 0 … n − 1 are the chosen ones, n … 2n − 1 the rejected ones of the same pairs; labels
   * count the responses. Adds the gradients of weights[0] · Σ losses + weights[1] · Σ nll of chosen tokens to the parameters' gradients.
   * Enqueues everything and returns.
   */
  preferenceForwardBackward(
    batch: TrainingBatch,
    tensors: PreferenceTensors,
    settings: ops.PreferenceLossSettings,
  ): void {
    using cuRows = this.#responseBounds(batch)
    this.#trainingPass(batch, (counted, { ids }) =>
      preferenceCrossEntropy(this.#output, counted, ids, cuRows, { ...tensors, settings, training: true }),
    )
  }

  /** Adds the sums of {@link preferenceForwardBackward}, without gradients. */
  evaluatePreference(batch: TrainingBatch, tensors: PreferenceTensors, settings: ops.PreferenceLossSettings): void {
    using cuRows = this.#responseBounds(batch)
    this.#evaluationPass(batch, (counted, ids) =>
      preferenceCrossEntropy(this.#output, counted, ids, cuRows, { ...tensors, settings, training: false }),
    )
  }

  /** Adds Σ nll of a batch to `lossSum`, f32 [1], without gradients. */
  evaluateLoss(batch: TrainingBatch, lossSum: Tensor): void {
    this.#evaluationPass(batch, (counted, ids) => chunkedCrossEntropy(this.#output, counted, ids, { lossSum }))
  }

  /** Forward and backward. `loss` gets the inputs of the output layer for the rows that have a target, and turns them into gradients. */
  #trainingPass(batch: TrainingBatch, loss: (counted: Tensor, targets: NextTokenTargets) => void): void {
    using targets = nextTokenTargets(this.device, batch)
    if (targets.count === 0) return
    using tokens = new PackedSequences(this.device, batch.inputIds)
    const context = this.#context(tokens, true, 'none')

    const saved: DecoderLayerSaved[] = []
    let stream: ResidualStream = { hidden: this.#embed(tokens.ids), branch: undefined }
    for (const layer of this.#layers) {
      const result = layer.forward(stream, context)
      stream = result.stream
      if (result.saved !== undefined) saved.push(result.saved)
    }
    const norm = this.#norm.forward(stream.hidden, stream.branch, this.#activationCheckpointing !== 'full')
    const dstream = Tensor.empty(this.device, norm.sum.shape, norm.sum.dtype)
    this.#lossBackward(norm, targets, dstream, loss)
    for (const layer of this.#layers.toReversed()) {
      const kept = saved.pop()
      if (kept !== undefined) layer.backward(dstream, kept, context)
    }
    if (this.adapter === undefined) ops.embeddingBackward(dstream, tokens.ids, this.#embedding.requiredGradient)
    dstream.dispose()
  }

  #evaluationPass(batch: TrainingBatch, loss: (counted: Tensor, ids: Tensor) => void): void {
    using targets = nextTokenTargets(this.device, batch)
    if (targets.count === 0) return
    using tokens = new PackedSequences(this.device, batch.inputIds)
    using wanted = this.#wantedRows(tokens, targets.rows === undefined ? {} : { logitRows: targets.rows })
    loss(wanted, targets.ids)
  }

  /** Where the counted rows of each sequence begin, i32 [sequences + 1]. */
  #responseBounds(batch: TrainingBatch): Tensor {
    const bounds = Int32Array.from({ length: batch.inputIds.length + 1 }, () => 0)
    for (const [index, labels] of batch.labels.entries()) {
      bounds[index + 1] = (bounds[index] ?? 0) + countLabels(labels)
    }
    return Tensor.from(this.device, bounds)
  }

  /** Raw scores for every token of every sequence: one [length × vocabSize] array a sequence. */
  async logits(tokenIds: readonly (readonly number[])[]): Promise<Float32Array[]> {
    this.checkTokenIds(tokenIds)
    using tokens = new PackedSequences(this.device, tokenIds)
    using logits = this.forward(tokens)
    const all = await logits.readFloats()
    const { vocabSize } = this.config
    let row = 0
    return tokenIds.map(({ length }) => {
      const begin = row
      row += length
      return all.slice(begin * vocabSize, row * vocabSize)
    })
  }

  /**
   * Mean cross-entropy (nats) over the labels that are not −100, and its gradient with respect to every parameter, f32.
   * labels[i] is compared with what the model predicts after inputIds[0 … i − 1], as in Hugging Face transformers.
   */
  async lossAndGradients(batch: TrainingBatch): Promise<{ loss: number; gradients: Map<string, Float32Array> }> {
    this.checkTokenIds(batch.inputIds)
    const parameters = [...this.parameters()]
    const enabled = parameters.map((parameter) => parameter.gradient)
    const own = parameters.map((parameter) => {
      parameter.gradient = Tensor.zeros(this.device, parameter.tensor.shape, 'f32')
      return parameter.gradient
    })
    try {
      using targets = nextTokenTargets(this.device, batch)
      using gradScale = Tensor.from(this.device, [1 / Math.max(1, targets.count)])
      using lossSum = Tensor.zeros(this.device, [1], 'f32')
      this.forwardBackward(batch, gradScale, lossSum)
      const gradients = new Map<string, Float32Array>()
      for (const [index, { name }] of parameters.entries()) {
        const gradient = own[index]
        if (gradient !== undefined) gradients.set(name, await gradient.readFloats())
      }
      const [sum = Number.NaN] = await lossSum.readFloats()
      return { loss: targets.count === 0 ? Number.NaN : sum / targets.count, gradients }
    } finally {
      for (const [index, parameter] of parameters.entries()) {
        own[index]?.dispose()
        parameter.gradient = enabled[index]
      }
    }
  }

  /** @throws AlmaError ERR_ALMA_OPTION for an id outside the vocabulary, ERR_ALMA_CONTEXT for a sequence longer than the context. */
  checkTokenIds(sequences: readonly (readonly number[])[]): void {
    const { vocabSize, maxPositionEmbeddings } = this.config
    sequences.forEach((sequence, index) => {
      if (sequence.length > maxPositionEmbeddings) {
        throw new AlmaError(
          'ERR_ALMA_CONTEXT',
          `sequence ${index} has ${sequence.length} tokens, the model's context is ${maxPositionEmbeddings}`,
        )
      }
      for (const id of sequence) {
        if (!Number.isInteger(id) || id < 0 || id >= vocabSize) {
          throw new AlmaError('ERR_ALMA_OPTION', `sequence ${index}: token id ${id} is not in 0 … ${vocabSize - 1}`)
        }
      }
    })
  }

  get disposed(): boolean {
    return this.#disposed
  }

  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    if (this.adapter === undefined) for (const parameter of this.#parameters.values()) parameter.dispose()
    this.#rope.dispose()
  }

  #embed(ids: Tensor): Tensor {
    const hidden = Tensor.empty(this.device, [ids.count, this.config.hiddenSize], this.activationDtype)
    return ops.embedding(this.#embedding.tensor, ids, hidden)
  }

  #context(tokens: TokenRows, training: boolean, invariance: ops.Invariance): ForwardContext {
    const { positions, bounds, longest } = tokens
    return { positions, bounds, ropeTable: this.#rope.table(longest), training, invariance }
  }

  /** The loss and its gradient with respect to the stream before the last norm, written to `dstream`. */
  #lossBackward(
    norm: RmsNormResult,
    targets: NextTokenTargets,
    dstream: Tensor,
    loss: (counted: Tensor, targets: NextTokenTargets) => void,
  ): void {
    // Only the rows that have a target pass through the output layer: for a translation that is its second half.
    const counted = targets.rows === undefined ? norm.normed : ops.gatherRows(norm.normed, targets.rows)
    loss(counted, targets)
    let dnormed = counted
    if (targets.rows !== undefined) {
      dnormed = ops.fill(norm.normed, 0)
      ops.scatterRows(counted, targets.rows, dnormed)
      counted.dispose()
    }
    ops.fill(dstream, 0)
    this.#norm.backward(dnormed, norm, dstream)
    norm.sum.dispose()
    norm.normed.dispose()
    norm.inverseRms.dispose()
  }
}
