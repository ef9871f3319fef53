import type { BleuTokenizer } from './bleu.js'

/** What WMT uses for a target language (ISO 639-1): 'zh' for Chinese; 'char' for Japanese and Thai, written without spaces. */
export function bleuTokenizerFor(code: string): BleuTokenizer {
  return code === 'zh' ? 'zh' : code === 'ja' || code === 'th' ? 'char' : '13a'
}
