/** Recipe files of `alma train`: a model, an output folder and stages, in JSON or YAML. */
import { readFile } from 'node:fs/promises'
import { dirname, extname, isAbsolute, resolve } from 'node:path'
import { parse as parseYaml } from 'yaml'
import { AlmaError, ioError, messageOf } from '../errors.js'
import { isObject } from '../files/json.js'
import { suggestion } from './fields.js'
import { presetNames, stagesOfPreset } from './presets.js'
import { resolveStage, type Stage } from './stages.js'

export interface Recipe {
  /** Folder of the model to start from. */
  readonly model: string
  /** Folder of a LoRA adapter to go on with. */
  readonly adapter?: string
  /** Folder for the trained model. */
  readonly output: string
  readonly stages: readonly Stage[]
}

const recipeFields = { preset: true, model: true, adapter: true, output: true, stages: true }

/** Larger than any recipe; a file beyond it is something else. */
const MOST_BYTES = 2 ** 20

const fileLists = ['sources', 'pairs', 'data', 'validation', 'predictPairs']

/**
 * Reads and checks a recipe. Its paths are relative to the file. With `preset` the stages are a published recipe's, and those of the file say
 * their data and what is to be different.
 *
 * @throws AlmaError ERR_ALMA_RECIPE naming the file and the field, ERR_ALMA_IO when it cannot be read.
 */
export async function readRecipe(path: string): Promise<Recipe> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    throw ioError('read', path, error)
  }
  const fail = (what: string): AlmaError => new AlmaError('ERR_ALMA_RECIPE', `${path}: ${what}`)
  if (text.length > MOST_BYTES) throw fail(`${text.length} characters, expected a recipe of at most ${MOST_BYTES}`)
  let value: unknown
  try {
    const yaml = ['.yaml', '.yml'].includes(extname(path).toLowerCase())
    // No aliases beyond a few: a small file could otherwise unfold into gigabytes.
    value = yaml ? parseYaml(text, { maxAliasCount: 100 }) : JSON.parse(text)
  } catch (error) {
    throw fail(messageOf(error))
  }
  if (!isObject(value)) throw fail('expected an object with "model", "output" and "stages"')
  for (const key of Object.keys(value)) {
    if (!Object.hasOwn(recipeFields, key)) {
      throw fail(
        `unknown field "${key}"${suggestion(key, recipeFields)}; known: ${Object.keys(recipeFields).join(', ')}`,
      )
    }
  }
  const base = dirname(resolve(path))
  const folder = (key: 'model' | 'adapter' | 'output'): string => {
    const given = value[key]
    if (typeof given !== 'string' || given === '')
      throw fail(`"${key}": expected a folder, got ${JSON.stringify(given)}`)
    return resolve(base, given)
  }
  const { preset, stages: given } = value
  if (!Array.isArray(given) || given.length === 0) {
    throw fail(`"stages": expected a list of stages, got ${JSON.stringify(given)}`)
  }
  if (preset !== undefined && typeof preset !== 'string') {
    throw fail(`"preset": expected one of ${presetNames.join(', ')}, got ${JSON.stringify(preset)}`)
  }
  const stages = preset === undefined ? given : stagesOfPreset(preset, given, path)
  const located = stages.map((stage: unknown, index) => {
    resolveStage(stage as Stage, `${path}: stages[${index}]`, 'ERR_ALMA_RECIPE')
    return withAbsolutePaths(stage as Stage, base)
  })
  return {
    model: folder('model'),
    ...(value.adapter !== undefined && { adapter: folder('adapter') }),
    output: folder('output'),
    stages: located,
  }
}

function withAbsolutePaths(stage: Stage, base: string): Stage {
  const located: Record<string, unknown> = { ...stage }
  const locate = (path: string): string => (isAbsolute(path) ? path : resolve(base, path))
  type Entry = string | { readonly path: string }
  const entry = (given: Entry): Entry =>
    typeof given === 'string' ? locate(given) : { ...given, path: locate(given.path) }
  for (const key of fileLists) {
    const given = located[key] as Entry | readonly Entry[] | undefined
    if (given !== undefined) located[key] = Array.isArray(given) ? given.map(entry) : entry(given as Entry)
  }
  return located as unknown as Stage
}
