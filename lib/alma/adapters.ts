import { optionError } from '../decode/index.js'
import { AlmaError } from '../errors.js'
import { type LlamaForCausalLM, LoraAdapter, type LoraConfig, loadAdapter } from '../model/index.js'

interface Loaded {
  readonly adapter: LoraAdapter
  /** The base model with this adapter. */
  readonly model: LlamaForCausalLM
}

/** The name of an adapter that was given without one. */
export const defaultAdapterName = 'default'

/** The LoRA adapters of one base model; its weights are in memory once. */
export class Adapters {
  readonly #base: LlamaForCausalLM
  readonly #loaded = new Map<string, Loaded>()

  constructor(base: LlamaForCausalLM) {
    this.#base = base
  }

  /** In the order in which they were loaded. */
  get names(): readonly string[] {
    return [...this.#loaded.keys()]
  }

  /** What is used where a call does not choose: the first adapter, or the model without any. */
  get active(): Loaded | undefined {
    const [first] = this.#loaded.values()
    return first
  }

  /** @throws AlmaError ERR_ALMA_OPTION for a name that is not loaded */
  model(choice?: string | false): LlamaForCausalLM {
    if (choice === false) return this.#base
    if (choice === undefined) return this.active?.model ?? this.#base
    const found = this.#loaded.get(choice)
    if (found !== undefined) return found.model
    const known = this.names.length === 0 ? 'no adapter is loaded' : `loaded are ${this.names.join(', ')}`
    throw optionError('adapter', `the name of a loaded adapter (${known})`, choice)
  }

  /** Loads a folder under a name; an adapter of that name is replaced once the new one is whole. */
  async load(name: string, directory: string): Promise<void> {
    this.set(name, await loadAdapter(this.#base.device, this.#base.config, directory))
  }

  set(name: string, adapter: LoraAdapter): LlamaForCausalLM {
    const old = this.#loaded.get(name)
    const model = this.#base.withAdapter(adapter)
    this.#loaded.set(name, { adapter, model })
    if (old !== undefined) free(old)
    return model
  }

  unload(name: string): void {
    const found = this.#loaded.get(name)
    this.#loaded.delete(name)
    if (found !== undefined) free(found)
  }

  /**
   * The model to train with LoRA: with the active adapter if its form is the one asked for, otherwise with a new one; an active adapter
   * of another form is merged into the weights first.
   */
  toTrain(config: LoraConfig, seed: number): LlamaForCausalLM {
    const { active } = this
    if (active !== undefined && sameForm(active.adapter.config, config)) {
      // Dropout is a matter of the training, not of the adapter.
      const pairs = active.adapter.pairs
      return active.adapter.config.dropout === config.dropout
        ? active.model
        : this.#replaceConfig(
            new LoraAdapter(
              config,
              new Map([...pairs].map(([name, pair]) => [name, pair.withDropout(config.dropout)])),
            ),
          )
    }
    this.merge()
    return this.set(defaultAdapterName, LoraAdapter.create(this.#base.device, this.#base.config, config, seed))
  }

  /** Merges the active adapter into the weights and lets go of all adapters: they were made for the weights as they were. */
  merge(): void {
    const { active } = this
    if (active !== undefined) this.#base.merge(active.adapter)
    this.dispose()
  }

  dispose(): void {
    for (const loaded of this.#loaded.values()) free(loaded)
    this.#loaded.clear()
  }

  #replaceConfig(adapter: LoraAdapter): LlamaForCausalLM {
    const [name = defaultAdapterName] = this.#loaded.keys()
    const old = this.#loaded.get(name)
    const model = this.#base.withAdapter(adapter)
    this.#loaded.set(name, { adapter, model })
    old?.model.dispose()
    return model
  }
}

function free({ model, adapter }: Loaded): void {
  model.dispose()
  adapter.dispose()
}

function sameForm(a: LoraConfig, b: LoraConfig): boolean {
  const targets = ({ targetModules }: LoraConfig): string =>
    typeof targetModules === 'string' ? targetModules : [...targetModules].sort().join()
  return a.rank === b.rank && a.alpha === b.alpha && a.useRslora === b.useRslora && targets(a) === targets(b)
}

/** Names and folders of the option `adapter`. */
export function adapterFolders(option: string | Readonly<Record<string, string>> | undefined): [string, string][] {
  if (option === undefined) return []
  return typeof option === 'string' ? [[defaultAdapterName, option]] : Object.entries(option)
}

export function noActiveAdapter(): AlmaError {
  return new AlmaError('ERR_ALMA_OPTION', 'mergeAdapter: no adapter is loaded')
}
