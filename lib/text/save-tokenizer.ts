/** Writes a trained tokenizer into a model's folder. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ioError } from '../errors.js'
import { BOS_TOKEN, EOS_TOKEN, type TokenizerJson, UNK_TOKEN } from './train-bpe.js'

/**
 * Writes tokenizer.json, tokenizer_config.json and special_tokens_map.json as transformers reads them. Padding is `<unk>`, as in
 * ALMA's models, unless the tokenizer has a special token `<pad>`.
 * @throws AlmaError ERR_ALMA_IO
 */
export async function saveTrainedTokenizer(directory: string, json: TokenizerJson): Promise<void> {
  const special = json.added_tokens.map(({ content }) => content)
  const tokens = {
    bos_token: BOS_TOKEN,
    eos_token: EOS_TOKEN,
    unk_token: UNK_TOKEN,
    pad_token: special.includes('<pad>') ? '<pad>' : UNK_TOKEN,
  }
  const config = {
    ...tokens,
    add_bos_token: true,
    add_eos_token: false,
    added_tokens_decoder: Object.fromEntries(json.added_tokens.map(({ id, ...token }) => [String(id), token])),
    clean_up_tokenization_spaces: false,
    padding_side: 'left',
    // The generic class takes tokenizer.json as it is; LlamaTokenizerFast would rebuild parts of it by its own defaults.
    tokenizer_class: 'PreTrainedTokenizerFast',
  }
  const files = { 'tokenizer.json': json, 'tokenizer_config.json': config, 'special_tokens_map.json': tokens }
  try {
    await mkdir(directory, { recursive: true })
    for (const [name, content] of Object.entries(files))
      await writeFile(join(directory, name), `${JSON.stringify(content, null, 2)}\n`)
  } catch (error) {
    throw ioError('write the tokenizer to', directory, error)
  }
}
