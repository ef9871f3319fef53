import { createHash } from 'node:crypto'
import { basename, dirname, join } from 'node:path'
import { AlmaError } from '../errors.js'
import { fileSize, readBytes } from '../files/json.js'
import type { Tokenizer } from './tokenizer.js'

/** Beside the tokenizer itself these decide which ids a text becomes. */
const settingFiles = ['tokenizer_config.json', 'special_tokens_map.json', 'added_tokens.json']

/**
 * SHA-256 (hexadecimal) of what makes the ids of a tokenizer: two that have the same give the same ids for every text.
 *
 * @throws AlmaError ERR_ALMA_TOKENIZER when the file that it was read from is gone
 */
export async function tokenizerFingerprint({ file, vocabSize }: Tokenizer): Promise<string> {
  const hash = createHash('sha256').update(`vocabulary of ${vocabSize}\n`)
  for (const name of [basename(file), ...settingFiles.filter((setting) => setting !== basename(file))]) {
    const path = join(dirname(file), name)
    const size = await fileSize(path, 'ERR_ALMA_TOKENIZER')
    if (size === undefined) {
      if (path !== file) continue
      throw new AlmaError(
        'ERR_ALMA_TOKENIZER',
        `${file}: the tokenizer's file is gone; a cache of tokens needs to know it`,
      )
    }
    hash.update(`${name} ${size}\n`).update(await readBytes(path, 0, size))
  }
  return hash.digest('hex')
}
