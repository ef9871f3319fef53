/** Trains a tokenizer of LLaMA-2's kind from text, for models that are trained from scratch. */
import { AlmaError } from '../errors.js'
import { META_SPACE } from './bpe.js'
import { type BpeMerge, learnMerges } from './bpe-merges.js'

export interface TrainBpeOptions {
  /** Ids in all: 3 + 256 bytes + characters + merges + special tokens. Fewer come out when the text has no more merges. */
  readonly vocabSize: number
  /** Further control tokens, e.g. `<pad>`; they get the last ids. Default none. */
  readonly specialTokens?: readonly string[]
  /** Share of the text's characters that become pieces, the frequent first; the others are spelt in bytes. Default 0.9995. */
  readonly characterCoverage?: number
  /** Longest piece in characters. Default 16, as SentencePiece. */
  readonly maxPieceLength?: number
}

/** A Hugging Face `tokenizer.json`, as far as this kind of tokenizer needs it. */
export interface TokenizerJson {
  readonly version: '1.0'
  readonly truncation: null
  readonly padding: null
  readonly added_tokens: readonly AddedTokenJson[]
  readonly normalizer: object
  readonly pre_tokenizer: null
  readonly post_processor: object
  readonly decoder: object
  readonly model: {
    readonly type: 'BPE'
    readonly dropout: null
    readonly unk_token: string
    readonly continuing_subword_prefix: null
    readonly end_of_word_suffix: null
    readonly fuse_unk: boolean
    readonly byte_fallback: boolean
    readonly ignore_merges: boolean
    readonly vocab: { readonly [piece: string]: number }
    readonly merges: readonly string[]
  }
}

interface AddedTokenJson {
  readonly id: number
  readonly content: string
  readonly single_word: boolean
  readonly lstrip: boolean
  readonly rstrip: boolean
  readonly normalized: boolean
  readonly special: boolean
}

export const UNK_TOKEN = '<unk>'
export const BOS_TOKEN = '<s>'
export const EOS_TOKEN = '</s>'

const LONE_SURROGATE = /\p{Cs}/gu

const bytePiece = (byte: number): string => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`

/**
 * Learns a BPE vocabulary with byte fallback. Words (text up to the next space) are counted, merges do not cross them, and the most frequent
 * pair is merged first; of equally frequent pairs the one that sorts first, so that equal text gives equal files.
 *
 * Ids: 0 `<unk>`, 1 `<s>`, 2 `</s>`, then the 256 bytes, the characters by frequency, the merges, the special tokens.
 * @throws AlmaError ERR_ALMA_OPTION for a vocabSize without room for bytes and characters, ERR_ALMA_CORPUS for no text at all
 */
export function trainBpeTokenizer(lines: Iterable<string>, options: TrainBpeOptions): TokenizerJson {
  const { vocabSize, specialTokens = [], characterCoverage = 0.9995, maxPieceLength = 16 } = options
  const control = [UNK_TOKEN, BOS_TOKEN, EOS_TOKEN]
  const bytes = Array.from({ length: 256 }, (_, byte) => bytePiece(byte))
  const fixed = [...control, ...bytes, ...specialTokens]
  if (new Set(fixed).size !== fixed.length || specialTokens.includes(''))
    throw new AlmaError(
      'ERR_ALMA_OPTION',
      `specialTokens: empty, repeated or already there: ${specialTokens.join(', ')}`,
    )
  if (!(characterCoverage > 0 && characterCoverage <= 1))
    throw new AlmaError(
      'ERR_ALMA_OPTION',
      `characterCoverage: expected a share above 0 and up to 1, got ${characterCoverage}`,
    )
  const room = vocabSize - fixed.length
  if (!Number.isInteger(vocabSize) || room < 1)
    throw new AlmaError(
      'ERR_ALMA_OPTION',
      `vocabSize: expected an integer above ${fixed.length} (special tokens and bytes), got ${vocabSize}`,
    )
  const words = countWords(lines)
  if (words.size === 0) throw new AlmaError('ERR_ALMA_CORPUS', 'trainBpeTokenizer: the text is empty')
  const characters = frequentCharacters(words, characterCoverage).slice(0, room)
  const reserved = new Set(fixed)
  const merges = learnMerges(words, {
    characters,
    maxPieces: room - characters.length,
    maxPieceLength,
    isAllowed: (piece) => !reserved.has(piece),
  })
  const pieces = [...control, ...bytes, ...characters, ...newPieces(merges, characters)]
  const special = [...control, ...specialTokens]
  return tokenizerJson([...pieces, ...specialTokens], special, merges)
}

/** Two merges may lead to the same piece; it has one id. */
function newPieces(merges: readonly BpeMerge[], characters: readonly string[]): string[] {
  const known = new Set(characters)
  return merges.flatMap(({ left, right }) => {
    const piece = left + right
    if (known.has(piece)) return []
    known.add(piece)
    return [piece]
  })
}

/** Words as the encoder sees them: spaces as `▁` in front. Runs of spaces stay with the word behind them. */
function countWords(lines: Iterable<string>): Map<string, number> {
  const words = new Map<string, number>()
  for (const line of lines) {
    if (line.trim() === '') continue
    // Control characters (tabs, line breaks) are always spelt in bytes, so no piece contains one and words end there.
    for (const part of (META_SPACE + line.replace(LONE_SURROGATE, '\ufffd'))
      .replaceAll(' ', META_SPACE)
      .split(/\p{Cc}+/u)) {
      for (const word of part.match(/\u2581*[^\u2581]+|\u2581+/g) ?? []) words.set(word, (words.get(word) ?? 0) + 1)
    }
  }
  return words
}

function frequentCharacters(words: ReadonlyMap<string, number>, coverage: number): string[] {
  const counts = new Map<string, number>()
  let total = 0
  for (const [word, count] of words) {
    for (const character of word) {
      counts.set(character, (counts.get(character) ?? 0) + count)
      total += count
    }
  }
  const sorted = [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))
  let covered = 0
  let kept = 0
  while (kept < sorted.length && covered < coverage * total) covered += sorted[kept++]?.[1] ?? 0
  return sorted.slice(0, kept).map(([character]) => character)
}

function tokenizerJson(
  pieces: readonly string[],
  special: readonly string[],
  merges: readonly BpeMerge[],
): TokenizerJson {
  const vocab = Object.fromEntries(pieces.map((piece, id) => [piece, id]))
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: special
      .map((content) => ({ id: vocab[content] as number, content, single_word: false, lstrip: false, rstrip: false }))
      .map((token) => ({ ...token, normalized: false, special: true }))
      .sort((a, b) => a.id - b.id),
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: META_SPACE },
        { type: 'Replace', pattern: { String: ' ' }, content: META_SPACE },
      ],
    },
    pre_tokenizer: null,
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: BOS_TOKEN, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [
        { SpecialToken: { id: BOS_TOKEN, type_id: 0 } },
        { Sequence: { id: 'A', type_id: 0 } },
        { SpecialToken: { id: BOS_TOKEN, type_id: 1 } },
        { Sequence: { id: 'B', type_id: 1 } },
      ],
      special_tokens: { [BOS_TOKEN]: { id: BOS_TOKEN, ids: [vocab[BOS_TOKEN]], tokens: [BOS_TOKEN] } },
    },
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: META_SPACE }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: UNK_TOKEN,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
      vocab,
      merges: merges.map(({ left, right }) => `${left} ${right}`),
    },
  }
}
