import { existsSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { optionError } from '../decode/index.js'
import { AlmaError } from '../errors.js'
import {
  adapterConfigName,
  describesBase,
  type LlamaForCausalLM,
  LoraAdapter,
  type LoraConfig,
  loadAdapter,
  loraModules,
  loraScaling,
  readAdapterConfig,
} from '../model/index.js'

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
  readonly #onMerge: () => void

  /** @param onMerge called when an adapter was added to the weights of the base model */
  constructor(base: LlamaForCausalLM, onMerge: () => void = () => {}) {
    this.#base = base
    this.#onMerge = onMerge
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
    this.set(name, await loadAdapter(this.#base, directory))
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
    if (active !== undefined && this.#isOfForm(active.adapter, config)) {
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
    return this.set(defaultAdapterName, LoraAdapter.create(this.#base, config, seed))
  }

  /** Merges the active adapter into the weights and lets go of all adapters: they were made for the weights as they were. */
  merge(): void {
    const { active } = this
    if (active === undefined) return
    this.#base.merge(active.adapter)
    this.#onMerge()
    this.dispose()
  }

  dispose(): void {
    for (const loaded of this.#loaded.values()) free(loaded)
    this.#loaded.clear()
  }

  #isOfForm({ config, pairs }: LoraAdapter, wanted: LoraConfig): boolean {
    const modules = loraModules(this.#base.config, wanted)
    return (
      config.rank === wanted.rank &&
      loraScaling(config) === loraScaling(wanted) &&
      modules.size === pairs.size &&
      [...modules.keys()].every((module) => pairs.has(module))
    )
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

type AdapterOption = string | Readonly<Record<string, string>>

/** Names and folders of the option `adapter`. */
function adapterFolders(option: AdapterOption): [string, string][] {
  return typeof option === 'string' ? [[defaultAdapterName, option]] : Object.entries(option)
}

/**
 * Where the weights of a folder are, and which adapters go with them: the folder of an adapter stands for its base model with it.
 *
 * @throws AlmaError ERR_ALMA_ADAPTER when the base model is not there
 */
export async function findModel(
  directory: string,
  option: AdapterOption | undefined,
  onWarning: (message: string) => void,
): Promise<{ folder: string; adapters: [string, string][] }> {
  const named = option === undefined ? [] : adapterFolders(option)
  const holdsAdapter = existsSync(join(directory, adapterConfigName))
  if (!holdsAdapter || existsSync(join(directory, 'config.json'))) {
    const used = named.some(([, folder]) => resolve(folder) === resolve(directory))
    if (holdsAdapter && !used) {
      onWarning(`${directory}: has an adapter beside the model, which is not used; the option adapter names its folder`)
    }
    return { folder: directory, adapters: named }
  }
  const { baseModel } = await readAdapterConfig(directory)
  const candidates = baseModel === undefined ? [] : [baseModel, resolve(directory, baseModel)]
  const folder = candidates.find((candidate) => existsSync(join(candidate, 'config.json')))
  if (folder !== undefined) return { folder, adapters: option === undefined ? adapterFolders(directory) : named }
  throw new AlmaError(
    'ERR_ALMA_ADAPTER',
    `${directory}: an adapter without its base model (base_model_name_or_path: ${JSON.stringify(baseModel ?? null)}); ` +
      'load the base model with the option adapter',
  )
}

/**
 * What is suspicious about an adapter for a model: another tool's files name their base model and do not describe it, so that a base of
 * the same extents cannot be told from the right one by anything but its name.
 */
export async function baseWarning(adapter: string, model: string): Promise<string | undefined> {
  const { baseModel } = await readAdapterConfig(adapter)
  if (baseModel === undefined || (await describesBase(adapter)) || basename(baseModel) === basename(resolve(model)))
    return undefined
  return `${adapter}: was made for ${baseModel}, and the model here is ${model}; if they differ, so will the translations`
}

export function noActiveAdapter(): AlmaError {
  return new AlmaError('ERR_ALMA_OPTION', 'mergeAdapter: no adapter is loaded')
}
