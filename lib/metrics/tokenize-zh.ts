/** The Chinese tokenisation (sacreBLEU `tokenizer_zh.py`): Chinese characters one by one, the rest as in 13a. */
import { splitPunctuation } from './tokenize-13a.js'

/**
 * The ranges that sacreBLEU in fact tests. It writes the supplementary planes as '\u20000'..'\u2a6d6', which Python
 * reads as two characters each; compared as strings they take in U+2001..U+2A6D and U+2F81..U+2FA1 (dashes, quotation
 * marks, the ellipsis, arrows) and leave real Extension B out. The same scores need the same ranges.
 */
const chinese =
  /([\u3400-\u4db5\u4e00-\u9fbb\uf900-\ufa2d\ufa30-\ufa6a\ufa70-\ufad9\u2001-\u2a6d\u2f81-\u2fa1\uff00-\uffef\u2e80-\u2eff\u3000-\u303f\u31c0-\u31ef\u2f00-\u2fdf\u2ff0-\u2fff\u3100-\u312f\u31a0-\u31bf\ufe10-\ufe1f\ufe30-\ufe4f\u3200-\u33ff])/g

export function tokenizeZh(line: string): string {
  return splitPunctuation(line.replace(chinese, ' $1 '))
}
