import { openSentencePieceSegmenter } from '../text/sentencepiece-segmenter.js'
import type { PieceTokenizer } from './bleu.js'
import { splitWords } from './python-text.js'

/**
 * A tokenizer of BLEU by a SentencePiece model, as sacreBLEU's `spm`, `flores101` and `flores200` are. The models are not part
 * of this package; sacreBLEU downloads them to `~/.sacrebleu/models`.
 *
 * @param path the model file
 * @param name in the signature
 * @throws AlmaError ERR_ALMA_IO, ERR_ALMA_TOKENIZER
 */
export async function sentencePieceTokenizer(path: string, name = 'flores200'): Promise<PieceTokenizer> {
  const segmenter = await openSentencePieceSegmenter(path)
  // Through text and back, as in sacreBLEU: white space inside an unknown piece divides it.
  return { name, pieces: (line) => splitWords(segmenter.pieces(line).join(' ')) }
}
