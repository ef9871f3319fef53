import { resolve } from 'node:path'
import { Adapters, baseWarning, findModel, noActiveAdapter } from './alma/adapters.js'
import { streamDocument, translateDocuments } from './alma/documents.js'
import { Lifetime } from './alma/lifetime.js'
import {
  type AdapterChoice,
  type CreateOptions,
  type DeviceChoice,
  type LoadOptions,
  requireCreateOptions,
  requireLoadOptions,
  requireSaveOptions,
  requireText,
  requireTranslateOptions,
  type SaveOptions,
  type Score,
  type ScoreOptions,
  type ScorePair,
  type TranslateOptions,
  type Translation,
} from './alma/options.js'
import { saveModel } from './alma/save.js'
import { requireScoreOptions, scorePairs } from './alma/score.js'
import { withStops } from './alma/stop-at-newline.js'
import type { Translator } from './alma/translate.js'
import { translateSource } from './alma/translate-many.js'
import {
  type GenerateOptions,
  type Generation,
  generateTokens,
  optionError,
  requireGenerateOptions,
  resolveDecoding,
} from './decode/index.js'
import { AlmaError } from './errors.js'
import { type EvaluateOptions, type Evaluation, type EvaluationCorpus, evaluateCorpus } from './evaluate.js'
import { isArrayOf, isString } from './files/json.js'
import {
  createLlama,
  type LlamaConfig,
  type LlamaConfigInput,
  type LlamaForCausalLM,
  type LoraConfig,
  loadLlama,
  normalizeConfig,
  saveAdapter,
} from './model/index.js'
import { Device } from './runtime/index.js'
import { loadTokenizer, type Tokenizer } from './text/index.js'
import type { FinetuneOptions, FinetuneReport, Stage } from './train/index.js'

/** What an Alma is made of. */
interface Parts {
  readonly model: LlamaForCausalLM
  readonly tokenizer: Tokenizer | undefined
  /** Begins messages: the folder, or what stands for it. */
  readonly origin: string
  /** The folder that the weights were loaded from. */
  readonly folder?: string
  readonly ownsDevice: boolean
}

/**
 * A LLaMA model as a translator: translates, scores, and is fine-tuned, in this process.
 *
 * Calls may overlap; each has its own memory on the device. `dispose()` gives all of it back at once, calls in progress are then
 * rejected with ERR_ALMA_DISPOSED.
 *
 * ```ts
 * await using alma = await Alma.load('ALMA-7B')
 * const { text } = await alma.translate('Guten Morgen!', { from: 'de', to: 'en' })
 * ```
 */
export class Alma {
  readonly config: LlamaConfig
  readonly device: Device
  readonly #base: LlamaForCausalLM
  readonly #adapters: Adapters
  readonly #tokenizer: Tokenizer | undefined
  readonly #origin: string
  readonly #ownsDevice: boolean
  /** Where the weights under the adapters are on the disk as they are in memory; undefined once they were trained. */
  #folder: string | undefined
  readonly #lifetime: Lifetime
  #disposal: Promise<void> | undefined

  private constructor({ model, tokenizer, origin, folder, ownsDevice }: Parts) {
    this.config = model.config
    this.device = model.device
    this.#base = model
    this.#adapters = new Adapters(model, () => this.#baseChanged())
    this.#tokenizer = tokenizer
    this.#origin = origin
    this.#ownsDevice = ownsDevice
    this.#folder = folder
    this.#lifetime = new Lifetime(`the model of ${origin}`)
  }

  /**
   * Loads a folder in the Hugging Face layout: config.json, safetensors weights and, for everything with text, tokenizer.model or
   * tokenizer.json. The folder of a LoRA adapter stands for the model that its adapter_config.json names, with the adapter.
   *
   * @throws AlmaError ERR_ALMA_CONFIG, ERR_ALMA_ADAPTER, ERR_ALMA_CHECKPOINT, ERR_ALMA_TOKENIZER, ERR_ALMA_IO, ERR_ALMA_OUT_OF_MEMORY,
   *   ERR_ALMA_DEVICE, ERR_ALMA_OPTION; the signal's reason.
   */
  static async load(directory: string, options: LoadOptions = {}): Promise<Alma> {
    if (typeof directory !== 'string') throw optionError('directory', 'the folder of a model', directory)
    requireLoadOptions(options)
    const {
      dtype,
      onProgress,
      signal,
      onWarning = (message: string) => process.emitWarning(message, 'AlmaWarning'),
    } = options
    signal?.throwIfAborted()
    return withDevice(options, async (device, ownsDevice) => {
      const { folder, adapters } = await findModel(directory, options.adapter, onWarning)
      const model = await loadLlama(device, folder, {
        onWarning,
        ...(dtype !== undefined && { dtype }),
        ...(onProgress !== undefined && { onProgress }),
        ...(signal !== undefined && { signal }),
      })
      try {
        const tokenizer = await loadTokenizer(folder, { vocabSize: model.config.vocabSize })
        const alma = new Alma({ model, tokenizer, origin: folder, folder, ownsDevice })
        try {
          for (const [name, adapterFolder] of adapters) {
            signal?.throwIfAborted()
            await alma.#adapters.load(name, adapterFolder)
            const warning = await baseWarning(adapterFolder, folder)
            if (warning !== undefined) onWarning(warning)
          }
        } catch (error) {
          alma.#adapters.dispose()
          throw error
        }
        return alma
      } catch (error) {
        model.dispose()
        throw error
      }
    })
  }

  /**
   * A model with random weights, to be trained from scratch. The weights depend on the seed alone.
   *
   * @throws AlmaError ERR_ALMA_CONFIG, ERR_ALMA_TOKENIZER (none in the folder, or more ids than the model has rows),
   *   ERR_ALMA_OUT_OF_MEMORY, ERR_ALMA_DEVICE, ERR_ALMA_OPTION.
   */
  static async create(config: LlamaConfigInput, options: CreateOptions = {}): Promise<Alma> {
    requireCreateOptions(options)
    const { dtype, seed } = options
    const complete = normalizeConfig(config)
    const tokenizer = await tokenizerFor(options.tokenizer, complete)
    return withDevice(options, async (device, ownsDevice) => {
      const model = createLlama(device, complete, {
        ...(dtype !== undefined && { dtype }),
        ...(seed !== undefined && { seed }),
      })
      return new Alma({ model, tokenizer, origin: 'Alma.create', ownsDevice })
    })
  }

  /** @throws AlmaError ERR_ALMA_TOKENIZER when the model has none, ERR_ALMA_DISPOSED. */
  get tokenizer(): Tokenizer {
    this.#lifetime.check()
    if (this.#tokenizer !== undefined) return this.#tokenizer
    throw new AlmaError(
      'ERR_ALMA_TOKENIZER',
      `${this.#origin}: has no tokenizer (tokenizer.model or tokenizer.json), which text needs; token ids work without`,
    )
  }

  /** With the adapter that is used where a call does not choose one. @throws AlmaError ERR_ALMA_DISPOSED. */
  get model(): LlamaForCausalLM {
    this.#lifetime.check()
    return this.#adapters.model()
  }

  /** Names of the loaded LoRA adapters; the first is used where a call does not choose. */
  get adapters(): readonly string[] {
    return this.#adapters.names
  }

  /**
   * Loads a LoRA adapter (the folder of one in PEFT's layout) beside those that are there; an adapter of the same name is replaced.
   *
   * @throws AlmaError ERR_ALMA_ADAPTER (also for one that was made for another base model), ERR_ALMA_IO, ERR_ALMA_DISPOSED
   */
  async loadAdapter(name: string, directory: string): Promise<void> {
    requireText('name', name)
    requireText('directory', directory)
    await this.#call(undefined, () => this.#adapters.load(name, directory))
  }

  /** Frees an adapter; no call may be using it. @throws AlmaError ERR_ALMA_OPTION for a name that is not loaded */
  unloadAdapter(name: string): void {
    this.#lifetime.check()
    this.#adapters.model(name)
    this.#adapters.unload(name)
  }

  /**
   * Adds the active adapter to the weights, W + scaling · B · A, and lets go of all adapters: translating is then as fast as without one.
   *
   * @throws AlmaError ERR_ALMA_OPTION when none is loaded, ERR_ALMA_DISPOSED
   */
  mergeAdapter(): void {
    this.#lifetime.check()
    if (this.#adapters.active === undefined) throw noActiveAdapter()
    this.#adapters.merge()
  }

  get disposed(): boolean {
    return this.#lifetime.ended
  }

  /**
   * Translates a text, or many in batches; results are in the order of the texts. A text of several lines is translated line by
   * line and a line that is too long sentence by sentence (option `split`); the white space between them stays.
   *
   * @throws AlmaError ERR_ALMA_OPTION, ERR_ALMA_LANGUAGE, ERR_ALMA_CONTEXT (a text that leaves no room for its translation),
   *   ERR_ALMA_TOKENIZER, ERR_ALMA_OUT_OF_MEMORY, ERR_ALMA_DISPOSED; the signal's reason.
   */
  translate(text: string, options: TranslateOptions): Promise<Translation>
  translate(texts: readonly string[], options: TranslateOptions): Promise<Translation[]>
  async translate(texts: string | readonly string[], options: TranslateOptions): Promise<Translation | Translation[]> {
    requireTranslateOptions('translate', options)
    const single = typeof texts === 'string'
    if (!single && !isArrayOf(texts, isString)) throw optionError('texts', 'a string or an array of strings', texts)
    const list = single ? [texts] : texts
    const translations = await this.#call(options.signal, (signal) =>
      translateDocuments(this.#translator(options.adapter), list, { ...options, signal }),
    )
    const [first] = translations
    return single && first !== undefined ? first : translations
  }

  /**
   * Translates a text and gives the translation piece by piece as it is decoded. A piece never breaks a character; joined, they are
   * the `text` that {@link translate} gives. Leaving the loop ends the work.
   */
  translateStream(text: string, options: TranslateOptions): AsyncIterableIterator<string> {
    requireTranslateOptions('translateStream', options)
    requireText('text', text)
    const lifetime = this.#lifetime
    const translator = this.#translator(options.adapter)
    return (async function* () {
      using call = lifetime.call(options.signal)
      yield* streamDocument(translator, text, { ...options, signal: call.signal })
    })()
  }

  /**
   * Translates what an iterable delivers, of any length: texts are read as they are needed, batched inside and returned in order.
   * Leaving the loop ends the work and closes the source.
   */
  translateMany(
    texts: Iterable<string> | AsyncIterable<string>,
    options: TranslateOptions,
  ): AsyncIterableIterator<Translation> {
    requireTranslateOptions('translateMany', options)
    if (typeof texts === 'string' || !isIterable(texts)) throw optionError('texts', 'an iterable of strings', texts)
    const lifetime = this.#lifetime
    const translator = this.#translator(options.adapter)
    return (async function* () {
      using call = lifetime.call(options.signal)
      yield* translateSource(translator, texts, { ...options, signal: call.signal })
    })()
  }

  /**
   * Continues prompts, given as texts (BOS is put in front; nothing in them becomes a control token) or as token ids.
   *
   * @throws AlmaError ERR_ALMA_OPTION, ERR_ALMA_CONTEXT, ERR_ALMA_OUT_OF_MEMORY, ERR_ALMA_DISPOSED; ERR_ALMA_TOKENIZER for texts
   *   when the model has no tokenizer; the signal's reason.
   */
  async generate(
    prompts: readonly string[] | readonly (readonly number[])[],
    { adapter, ...options }: GenerateOptions & AdapterChoice = {},
  ): Promise<Generation[]> {
    requireGenerateOptions('generate', options)
    const model = this.#translatorModel(adapter)
    const generations = await this.#call(options.signal, (signal) => {
      const decoding = withStops(resolveDecoding({ ...options, signal }, this.config), () => this.tokenizer)
      return generateTokens(model, this.#idsOf(prompts), decoding)
    })
    const tokenizer = this.#tokenizer
    if (tokenizer === undefined) return generations
    const withText = <T extends { readonly tokenIds: readonly number[] }>(answer: T): T & { text: string } => ({
      ...answer,
      text: tokenizer.decode(answer.tokenIds),
    })
    return generations.map(({ candidates, ...best }) => ({
      ...withText(best),
      ...(candidates && { candidates: candidates.map(withText) }),
    }))
  }

  /**
   * Log-probabilities of given translations: of each token of the target and of EOS, given prompt and source.
   *
   * @throws AlmaError ERR_ALMA_OPTION, ERR_ALMA_LANGUAGE, ERR_ALMA_CONTEXT, ERR_ALMA_TOKENIZER, ERR_ALMA_DISPOSED; the signal's
   *   reason.
   */
  async score(pairs: readonly ScorePair[], options: ScoreOptions = {}): Promise<Score[]> {
    requireScoreOptions(options)
    if (!Array.isArray(pairs)) throw optionError('pairs', 'an array of { source, target, from, to }', pairs)
    return await this.#call(options.signal, (signal) =>
      scorePairs(this.#translator(options.adapter), pairs, { ...options, signal }),
    )
  }

  /**
   * Fine-tunes the weights in stages, one after the other; with `output`, checkpoints and the trained model go there.
   *
   * @throws AlmaError ERR_ALMA_OPTION, ERR_ALMA_CORPUS, ERR_ALMA_CHECKPOINT, ERR_ALMA_IO, ERR_ALMA_OUT_OF_MEMORY,
   *   ERR_ALMA_DISPOSED; the signal's reason.
   */
  async finetune(stages: Stage | readonly Stage[], options: FinetuneOptions = {}): Promise<FinetuneReport> {
    // Loaded when it is used: a program that only translates has no use for the trainer.
    const { finetune } = await import('./train/index.js')
    return await this.#call(options.signal, (signal) => {
      const trainable = {
        model: this.#base,
        tokenizer: this.tokenizer,
        adapterModel: (lora: LoraConfig, seed: number, baseTrained: boolean) => {
          if (baseTrained) this.#baseChanged()
          return this.#adapters.toTrain(lora, seed)
        },
        baseModel: () => {
          this.#adapters.merge()
          this.#baseChanged()
          return this.#base
        },
        save: (directory: string) => this.save(directory),
      }
      return finetune(trainable, stages, { ...options, signal })
    })
  }

  /**
   * Translates a test set and compares with its references: BLEU, chrF, and the loss of the references.
   *
   * @throws AlmaError ERR_ALMA_CORPUS, ERR_ALMA_IO, and what {@link translate} throws.
   */
  async evaluate(corpus: EvaluationCorpus, options: EvaluateOptions = {}): Promise<Evaluation> {
    return await this.#call(options.signal, (signal) =>
      evaluateCorpus(this.#translator(options.adapter), corpus, { ...options, signal }),
    )
  }

  /**
   * Writes weights, config.json and tokenizer in the Hugging Face layout, with the active adapter added to the weights; or, where an
   * adapter is active and the weights under it are those of the folder that was loaded, the adapter alone in PEFT's layout. The option
   * `mergeAdapter` says which. What was in the folder stays whole until the new files are.
   *
   * @throws AlmaError ERR_ALMA_IO, ERR_ALMA_OPTION, ERR_ALMA_DISPOSED; the signal's reason.
   */
  async save(directory: string, options: SaveOptions = {}): Promise<void> {
    if (typeof directory !== 'string') throw optionError('directory', 'a folder', directory)
    requireSaveOptions(options)
    const { mergeAdapter = this.#folder === undefined, ...rest } = options
    await this.#call(options.signal, async (signal) => {
      const { active } = this.#adapters
      if (active === undefined || mergeAdapter) {
        await saveModel(this.#adapters.model(), this.#tokenizer, directory, { ...rest, signal })
        return
      }
      const baseModel = this.#folder === undefined ? {} : { baseModel: resolve(this.#folder) }
      await saveAdapter(active.adapter, directory, { base: this.#base, ...baseModel })
    })
  }

  /**
   * Frees the memory on the device, and closes the device if {@link load} or {@link create} opened it. Calls in progress are
   * rejected with ERR_ALMA_DISPOSED. Twice is harmless.
   */
  dispose(): Promise<void> {
    this.#disposal ??= this.#dispose()
    return this.#disposal
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }

  async #dispose(): Promise<void> {
    this.#lifetime.end()
    this.#adapters.dispose()
    this.#base.dispose()
    if (this.#ownsDevice) await this.device.dispose()
    // What a call in progress holds is freed behind its step; a failure in there belongs to that call.
    else if (!this.device.disposed) await this.device.synchronize().catch(() => {})
  }

  /** Runs `body` with a signal that dispose() aborts as well. */
  async #call<T>(signal: AbortSignal | undefined, body: (signal: AbortSignal) => Promise<T>): Promise<T> {
    using call = this.#lifetime.call(signal)
    try {
      return await body(call.signal)
    } catch (error) {
      // What the disappearance of its tensors did to a call is not what its caller should read.
      this.#lifetime.check()
      throw error
    }
  }

  #baseChanged(): void {
    this.#folder = undefined
  }

  #translator(adapter?: string | false): Translator {
    return { model: this.#translatorModel(adapter), tokenizer: this.tokenizer }
  }

  #translatorModel(adapter: string | false | undefined): LlamaForCausalLM {
    this.#lifetime.check()
    return this.#adapters.model(adapter)
  }

  #idsOf(prompts: readonly string[] | readonly (readonly number[])[]): readonly (readonly number[])[] {
    if (!Array.isArray(prompts)) throw optionError('prompts', 'an array of texts, or of arrays of token ids', prompts)
    if (prompts.length === 0) return []
    if (isArrayOf(prompts, isString)) return prompts.map((text) => this.tokenizer.encode(text, { addBos: true }))
    if (isArrayOf(prompts, isIdList)) return prompts
    throw optionError('prompts', 'an array of texts, or of arrays of token ids', prompts)
  }
}

function isIdList(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((id) => typeof id === 'number')
}

function isIterable(value: object): boolean {
  return typeof value === 'object' && value !== null && (Symbol.asyncIterator in value || Symbol.iterator in value)
}

/** Runs `make` with the device that was asked for; a device that was opened here is closed again when it fails. */
async function withDevice(
  { device: choice = 'auto', threads }: DeviceChoice,
  make: (device: Device, ownsDevice: boolean) => Promise<Alma>,
): Promise<Alma> {
  if (choice instanceof Device) return make(choice, false)
  if (typeof choice !== 'string') throw optionError('device', "'auto', 'cpu', 'cuda', 'cuda:N' or a Device", choice)
  const device = Device.open(choice, threads === undefined ? {} : { threads })
  try {
    return await make(device, true)
  } catch (error) {
    await device.dispose()
    throw error
  }
}

async function tokenizerFor(
  given: Tokenizer | string | undefined,
  config: LlamaConfig,
): Promise<Tokenizer | undefined> {
  const { vocabSize } = config
  if (typeof given !== 'string') {
    if (given === undefined || given.vocabSize <= vocabSize) return given
    throw new AlmaError(
      'ERR_ALMA_TOKENIZER',
      `${given.file}: has ${given.vocabSize} tokens, more than the vocabSize ${vocabSize} of the config`,
    )
  }
  const tokenizer = await loadTokenizer(given, { vocabSize })
  if (tokenizer !== undefined) return tokenizer
  throw new AlmaError('ERR_ALMA_TOKENIZER', `${given}: has neither tokenizer.model nor tokenizer.json`)
}
