/**
 * The international tokenisation of mteval-v14 (sacreBLEU `tokenizer_intl.py`): punctuation apart unless between
 * digits, symbols always apart, by Unicode category.
 */
export function tokenizeIntl(line: string): string {
  return line
    .replace(/(\P{N})(\p{P})/gu, '$1 $2 ')
    .replace(/(\p{P})(\P{N})/gu, ' $1 $2')
    .replace(/(\p{S})/gu, ' $1 ')
}
