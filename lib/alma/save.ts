import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ioError } from '../errors.js'
import type { NewFile } from '../files/replace-files.js'
import { type LlamaForCausalLM, saveLlama } from '../model/index.js'
import type { Tokenizer } from '../text/index.js'
import type { SaveOptions } from './options.js'

/** Weights, config.json and the tokenizer's files: the folder has all of the new model, or all of an older one. */
export async function saveModel(
  model: LlamaForCausalLM,
  tokenizer: Tokenizer | undefined,
  directory: string,
  options: SaveOptions,
): Promise<void> {
  const extraFiles = tokenizer === undefined ? [] : await tokenizerFiles(tokenizer)
  await saveLlama(model, directory, { ...options, extraFiles })
}

/** A tokenizer's files by way of a temporary folder: they are replaced together with the weights. */
async function tokenizerFiles(tokenizer: Tokenizer): Promise<NewFile[]> {
  let folder: string | undefined
  try {
    folder = await mkdtemp(join(tmpdir(), 'alma-tokenizer-'))
    await tokenizer.save(folder)
    const files: NewFile[] = []
    for (const name of await readdir(folder)) files.push({ name, content: await readFile(join(folder, name)) })
    return files
  } catch (error) {
    throw ioError('save the tokenizer of', tokenizer.file, error)
  } finally {
    if (folder !== undefined) await rm(folder, { recursive: true, force: true })
  }
}
