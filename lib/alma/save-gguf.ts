import { type GgufValue, type LlamaForCausalLM, type SaveGgufOptions, saveGguf } from '../model/index.js'
import { ggufTokenizer, type Tokenizer } from '../text/index.js'

/**
 * Weights and tokenizer as one GGUF file, for llama.cpp and what is built on it.
 *
 * @throws AlmaError ERR_ALMA_TOKENIZER, ERR_ALMA_IO; the signal's reason
 */
export async function saveModelAsGguf(
  model: LlamaForCausalLM,
  tokenizer: Tokenizer | undefined,
  path: string,
  options: Omit<SaveGgufOptions, 'tokenizer'> = {},
): Promise<void> {
  if (tokenizer === undefined) return await saveGguf(model, path, options)
  const { config } = model
  const {
    model: kind,
    pre,
    tokens,
    scores,
    types,
    merges,
    addSpacePrefix,
  } = await ggufTokenizer(tokenizer, config.vocabSize)
  const metadata = new Map<string, GgufValue>([
    ['tokenizer.ggml.model', { type: 'string', value: kind }],
    ['tokenizer.ggml.pre', { type: 'string', value: pre }],
    ['tokenizer.ggml.tokens', { type: 'strings', value: tokens }],
    ['tokenizer.ggml.scores', { type: 'f32s', value: scores }],
    ['tokenizer.ggml.token_type', { type: 'i32s', value: types }],
    ...(merges.length > 0 ? ([['tokenizer.ggml.merges', { type: 'strings', value: merges }]] as const) : []),
    ['tokenizer.ggml.add_bos_token', { type: 'bool', value: true }],
    ['tokenizer.ggml.add_eos_token', { type: 'bool', value: false }],
    ['tokenizer.ggml.add_space_prefix', { type: 'bool', value: addSpacePrefix }],
  ])
  const id = (key: string, value: number | undefined): void => {
    if (value !== undefined) metadata.set(`tokenizer.ggml.${key}_token_id`, { type: 'u32', value })
  }
  id('bos', config.bosTokenId ?? tokenizer.bosTokenId)
  id('eos', config.eosTokenIds[0] ?? tokenizer.eosTokenId)
  id('unknown', tokenizer.unkTokenId)
  id('padding', config.padTokenId ?? tokenizer.padTokenId)
  await saveGguf(model, path, { ...options, tokenizer: metadata })
}
