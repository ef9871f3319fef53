/**
 * Token caches: what a file becomes under a tokenizer and a stage's options, in a folder that many runs may share. The name of a cache
 * says what it was made of, so a changed text, option or tokenizer finds no cache instead of a wrong one.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, readdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { AlmaError, ioError } from '../errors.js'
import type { Tokenizer } from '../text/index.js'
import { TokenStore, writeTokenStore } from '../text/token-store.js'
import { tokenizerFingerprint } from '../text/tokenizer-fingerprint.js'
import type { FileReport } from './data-report.js'
import { inspect } from './inspect.js'
import type { TextFile } from './sequence-files.js'

/** Raised when sequences are made differently: older caches are then not found. */
const VERSION = 1

export interface CachedFile {
  readonly store: TokenStore
  readonly report: FileReport
}

/** Opens the cache of a file, or makes it. @throws AlmaError ERR_ALMA_IO, ERR_ALMA_CORPUS, ERR_ALMA_TOKENIZER; the signal's reason */
export async function openTokenCache(
  folder: string,
  tokenizer: Tokenizer,
  file: TextFile,
  signal?: AbortSignal,
): Promise<CachedFile> {
  const fingerprint = await tokenizerFingerprint(tokenizer)
  const corpus = await fileHash(file.path, signal)
  const options = { version: VERSION, ...file.options }
  const content = createHash('sha256').update(JSON.stringify({ corpus, options })).digest('hex').slice(0, 32)
  const path = join(folder, `${content}-${fingerprint.slice(0, 16)}.tokens`)
  const warnings: string[] = []

  const found = await openExisting(path, signal)
  if (found instanceof TokenStore) {
    const { about } = found
    if (about.tokenizer === fingerprint && about.corpus === corpus) {
      return { store: found, report: { ...(about.report as FileReport), path: file.path } }
    }
    await found.close()
    const what = about.tokenizer === fingerprint ? 'of another text' : 'written by another tokenizer'
    throw new AlmaError(
      'ERR_ALMA_CORPUS',
      `${path}: this token cache is ${what}; was it renamed? Remove it to have it made anew`,
    )
  }
  if (found !== undefined) warnings.push(`${found}; the cache is made anew`)
  else if (await hasOther(folder, content, path)) {
    warnings.push(
      `${folder} has a token cache of this text by another tokenizer, which is not used; another one is made`,
    )
  }

  await makeFolder(folder)
  await writeTokenStore(path, tokenizer.vocabSize, async (add) => {
    const report = await inspect(file, {
      onSequence: (sequence) => add(sequence ?? { ids: [], firstLabel: 0 }),
      ...(signal && { signal }),
    })
    return { tokenizer: fingerprint, corpus, options, report }
  })
  const store = await TokenStore.open(path, signal)
  const report = store.about.report as FileReport
  return { store, report: { ...report, path: file.path, warnings: [...report.warnings, ...warnings] } }
}

/** The store, undefined when there is none, or what is wrong with it. */
async function openExisting(path: string, signal?: AbortSignal): Promise<TokenStore | string | undefined> {
  try {
    return await TokenStore.open(path, signal)
  } catch (error) {
    if (!(error instanceof AlmaError)) throw error
    if (error.code === 'ERR_ALMA_CORPUS') return error.message
    if ((error.cause as { code?: string } | undefined)?.code === 'ENOENT') return undefined
    throw error
  }
}

async function hasOther(folder: string, content: string, path: string): Promise<boolean> {
  const names = await readdir(folder).catch(() => [])
  return names.some((name) => name.startsWith(`${content}-`) && name !== basename(path))
}

async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true })
  } catch (error) {
    throw ioError('create', folder, error)
  }
}

/** SHA-256 of a file, hexadecimal. */
async function fileHash(path: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256')
  try {
    for await (const piece of createReadStream(path, { highWaterMark: 2 ** 18 })) {
      signal?.throwIfAborted()
      hash.update(piece as Buffer)
    }
  } catch (error) {
    signal?.throwIfAborted()
    throw ioError('read', path, error)
  }
  return hash.digest('hex')
}
