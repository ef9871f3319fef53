/** The published recipes by name. Sources: the scripts of fe1ixxu/ALMA (`runs/*.sh`, `configs`, `utils`) and the model cards of its models. */
import { AlmaError } from '../errors.js'
import { languages } from '../text/index.js'
import { suggestion } from './fields.js'
import type { MonolingualSource, ParallelSource } from './sources.js'
import { type ResolvedStage, resolveStage, type Stage } from './stages.js'

export interface Preset {
  /** Where the values are from, and what is not known, for people. */
  readonly description: string
  /** The model that the authors began with. */
  readonly model: string
  /** The LoRA adapter that they went on with. */
  readonly adapter?: string
  /** With every value written out. The files are names of examples. */
  readonly stages: readonly ResolvedStage[]
}

/** What a stage of a preset leaves to the recipe that uses it. */
export const presetDataFields = ['sources', 'pairs', 'data', 'validation', 'predictPairs'] as const

/** Groups of X-ALMA are numbered from 1 to 8; this one is the one with published figures for ARPO. */
const X_ALMA_GROUP = 6

/** Effective batch 256 as 16 GPUs × 4 × 4; the mean of micro-batches' means, as the transformers of that time took it. */
const published = { batchSize: 256, microBatchSize: 4, compat: 'alma' } as const

const monolingual = (shares: Readonly<Record<string, number>>): MonolingualSource[] =>
  Object.entries(shares).map(([language, probability]) => ({
    path: `mono.${language}.txt.gz`,
    language,
    probability,
  }))

const textOf = (codes: readonly string[]): MonolingualSource[] =>
  codes.map((language) => ({ path: `mono.${language}.txt.gz`, language }))

const pairsOf = (codes: readonly string[], part: 'train' | 'valid'): ParallelSource[] =>
  codes.map((code) => ({ path: `${part}.${code}-en.json`, from: code, to: 'en' }))

const almaPairs = ['de', 'cs', 'is', 'zh', 'ru']
const xAlmaLanguages = languages.filter(({ group }) => group !== undefined).map(({ code }) => code)
const groupLanguages = languages.filter(({ group }) => group === X_ALMA_GROUP).map(({ code }) => code)

/** `runs/mono_ft.sh`. Stopped by its authors after 20 billion tokens (7B model) or 12 billion (13B). */
const almaMonolingual: Stage = {
  kind: 'monolingual',
  sources: monolingual({ en: 0.17, ru: 0.22, cs: 0.14, zh: 0.19, is: 0.08, de: 0.2 }),
  ...published,
  maxSteps: 600_000,
  saveSteps: 2000,
}

/** `runs/parallel_ft.sh`. */
const almaParallel: Stage = {
  kind: 'parallel',
  pairs: pairsOf(almaPairs, 'train'),
  validation: pairsOf(almaPairs, 'valid'),
  ...published,
  epochs: 1,
  evaluationSteps: 0.1,
  saveSteps: 0.1,
  keepBest: true,
}

const lsModules = { rank: 512, alpha: 1024, dropout: 0.05, targetModules: 'all-linear' } as const

const definitions: Readonly<Record<string, Omit<Preset, 'stages'> & { readonly stages: readonly Stage[] }>> = {
  alma: {
    description:
      'ALMA: monolingual text of six languages, then parallel text in both directions of five pairs, all weights. The authors ended the ' +
      'first stage after 20 billion tokens (7B model) or 12 billion (13B).',
    model: 'Llama-2-7b-hf',
    stages: [almaMonolingual, almaParallel],
  },
  'alma-lora': {
    description:
      'ALMA-LoRA: the second stage of ALMA by low-rank updates of down_proj, on a model that has been through the first.',
    model: 'ALMA-7B-Pretrain',
    stages: [
      {
        ...almaParallel,
        learningRate: 2e-3,
        evaluationSteps: 0.05,
        saveSteps: 0.05,
        lora: { rank: 16, alpha: 32, dropout: 0.05, targetModules: ['down_proj'] },
      },
    ],
  },
  'alma-r': {
    description:
      "ALMA-R: contrastive preference optimisation of ALMA-13B-LoRA's adapter. The batch of 128 pairs is the paper's.",
    model: 'ALMA-13B-Pretrain',
    adapter: 'ALMA-13B-Pretrain-LoRA',
    stages: [
      {
        kind: 'preference',
        data: 'preference.jsonl',
        loss: 'cpo',
        beta: 0.1,
        cpoAlpha: 1,
        batchSize: 128,
        microBatchSize: 2,
        compat: 'transformers-4',
        epochs: 1,
        lora: { rank: 16, alpha: 32, dropout: 0, targetModules: ['down_proj'] },
      },
    ],
  },
  'x-alma': {
    description:
      `X-ALMA for its group ${X_ALMA_GROUP}: monolingual text of all languages (all weights), then of the group, pseudo-monolingual text, ` +
      'parallel text and ARPO (its language-specific module). Numbers of tokens, the module and eta are published; the learning rates, ' +
      "batches and passes are not, and are ALMA's here.",
    model: 'Llama-2-13b-hf',
    stages: [
      { kind: 'monolingual', sources: textOf(['en', ...xAlmaLanguages]), batchSize: 256, maxTokens: 20e9 },
      {
        kind: 'monolingual',
        sources: textOf(['en', ...groupLanguages]),
        batchSize: 256,
        maxTokens: 10e9,
        lora: lsModules,
      },
      {
        kind: 'monolingual',
        sources: groupLanguages.map((code) => ({ path: `train.${code}-en.jsonl.gz`, from: code, to: 'en' })),
        batchSize: 256,
        maxTokens: 1.25e9,
        lora: lsModules,
      },
      {
        kind: 'parallel',
        pairs: pairsOf(groupLanguages, 'train'),
        batchSize: 256,
        epochs: 1,
        promptStyle: 'x-alma',
        lora: lsModules,
      },
      {
        kind: 'preference',
        data: 'preference.jsonl',
        loss: 'arpo',
        eta: 1.5,
        batchSize: 128,
        epochs: 1,
        promptStyle: 'x-alma',
        lora: { ...lsModules, dropout: 0 },
      },
    ],
  },
}

export const presetNames: readonly string[] = Object.keys(definitions)

/**
 * A published recipe by its name: `alma`, `alma-lora`, `alma-r` or `x-alma`.
 *
 * @throws AlmaError ERR_ALMA_OPTION for a name that there is not
 */
export function recipePreset(name: string): Preset {
  const found = Object.hasOwn(definitions, name) ? definitions[name] : undefined
  if (found === undefined) throw new AlmaError('ERR_ALMA_OPTION', noPreset(name))
  return { ...found, stages: found.stages.map((stage, index) => resolveStage(stage, `${name}: stages[${index}]`)) }
}

const noPreset = (name: string): string =>
  `no recipe "${name}"${suggestion(name, definitions)}; there are ${presetNames.join(', ')}`

/**
 * The stages of a preset with what a recipe says in their place: the data, which a preset leaves to it, and whatever else is to be
 * different. A field that is null is as if the preset did not have it; in `lora` fields are replaced one by one.
 *
 * @param where begins messages, e.g. `recipe.json`.
 * @throws AlmaError ERR_ALMA_RECIPE
 */
export function stagesOfPreset(name: string, given: readonly unknown[], where: string): unknown[] {
  const fail = (what: string): AlmaError => new AlmaError('ERR_ALMA_RECIPE', `${where}: ${what}`)
  if (!presetNames.includes(name)) throw fail(noPreset(name))
  const { stages } = recipePreset(name)
  if (given.length !== stages.length) {
    const kinds = stages.map(({ kind }) => kind).join(', ')
    throw fail(`"stages": recipe "${name}" has ${stages.length} (${kinds}), each needs its data; got ${given.length}`)
  }
  return stages.map((stage, index) => {
    const own = given[index]
    if (typeof own !== 'object' || own === null || Array.isArray(own)) {
      throw fail(
        `stages[${index}]: expected an object with the data of a ${stage.kind} stage, got ${JSON.stringify(own)}`,
      )
    }
    const { kind } = own as { kind?: unknown }
    if (kind !== undefined && kind !== stage.kind) {
      throw fail(`stages[${index}]: "kind": recipe "${name}" has '${stage.kind}' here, got ${JSON.stringify(kind)}`)
    }
    return overlaid(stage, own)
  })
}

function overlaid(stage: ResolvedStage, own: object): Record<string, unknown> {
  const result: Record<string, unknown> = { ...stage }
  for (const field of presetDataFields) delete result[field]
  for (const [key, value] of Object.entries(own) as [string, unknown][]) {
    if (value === null) delete result[key]
    else if (key === 'lora' && typeof value === 'object' && !Array.isArray(value))
      result[key] = { ...stage.lora, ...value }
    else result[key] = value
  }
  // One of two ways to say the same: the recipe's word counts.
  if ('eta' in own) for (const field of ['relaxCoefficient1', 'relaxCoefficient2']) delete result[field]
  if (('maxTokens' in own || 'epochs' in own) && !('maxSteps' in own)) delete result.maxSteps
  if (('maxSteps' in own || 'epochs' in own) && !('maxTokens' in own)) delete result.maxTokens
  // Best weights of no evaluation: a recipe without validation data keeps the last ones.
  if (result.validation === undefined && !('keepBest' in own)) delete result.keepBest
  return result
}
