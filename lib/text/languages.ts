/** The languages of ALMA and X-ALMA: codes, the English names that prompts use, and X-ALMA's module groups. */
import { AlmaError } from '../errors.js'

export interface Language {
  /** ISO 639-1. */
  readonly code: string
  /** English name, as in the prompts. */
  readonly name: string
  /** X-ALMA's module group, 1 to 8; English belongs to none. */
  readonly group?: number
}

// fe1ixxu/ALMA `utils/utils.py` LANG_TABLE; groups from its README (GROUP2LANG). Each row: code, name, other codes that mean it:
// ISO 639-2/3 and the codes of NLLB (arb, pes, plt, zsm, …).
const GROUPS: readonly (readonly (readonly [code: string, name: string, aliases: string])[])[] = [
  // Hausa has prompts and examples in ALMA's repository, but no module of X-ALMA.
  [
    ['en', 'English', 'eng'],
    ['ha', 'Hausa', 'hau'],
  ],
  [
    ['da', 'Danish', 'dan'],
    ['nl', 'Dutch', 'nld dut'],
    ['de', 'German', 'deu ger'],
    ['is', 'Icelandic', 'isl ice'],
    ['no', 'Norwegian', 'nor nb nn nob nno'],
    ['sv', 'Swedish', 'swe'],
    ['af', 'Afrikaans', 'afr'],
  ],
  [
    ['ca', 'Catalan', 'cat'],
    ['ro', 'Romanian', 'ron rum'],
    ['gl', 'Galician', 'glg'],
    ['it', 'Italian', 'ita'],
    ['pt', 'Portuguese', 'por'],
    ['es', 'Spanish', 'spa'],
  ],
  [
    ['bg', 'Bulgarian', 'bul'],
    ['mk', 'Macedonian', 'mkd mac'],
    ['sr', 'Serbian', 'srp'],
    ['uk', 'Ukrainian', 'ukr'],
    ['ru', 'Russian', 'rus'],
  ],
  [
    ['id', 'Indonesian', 'ind'],
    ['ms', 'Malay', 'msa may zsm'],
    ['th', 'Thai', 'tha'],
    ['vi', 'Vietnamese', 'vie'],
    ['mg', 'Malagasy', 'mlg plt'],
    ['fr', 'French', 'fra fre'],
  ],
  [
    ['hu', 'Hungarian', 'hun'],
    ['el', 'Greek', 'ell gre'],
    ['cs', 'Czech', 'ces cze'],
    ['pl', 'Polish', 'pol'],
    ['lt', 'Lithuanian', 'lit'],
    ['lv', 'Latvian', 'lav lvs'],
  ],
  [
    ['ka', 'Georgian', 'kat geo'],
    ['zh', 'Chinese', 'zho chi cmn'],
    ['ja', 'Japanese', 'jpn'],
    ['ko', 'Korean', 'kor'],
    ['fi', 'Finnish', 'fin'],
    ['et', 'Estonian', 'est ekk'],
  ],
  [
    ['gu', 'Gujarati', 'guj'],
    ['hi', 'Hindi', 'hin'],
    ['mr', 'Marathi', 'mar'],
    ['ne', 'Nepali', 'nep npi'],
    ['ur', 'Urdu', 'urd'],
  ],
  [
    ['az', 'Azerbaijani', 'aze azj'],
    ['kk', 'Kazakh', 'kaz'],
    ['ky', 'Kyrgyz', 'kir'],
    ['tr', 'Turkish', 'tur'],
    ['uz', 'Uzbek', 'uzb uzn'],
    ['ar', 'Arabic', 'ara arb'],
    ['he', 'Hebrew', 'heb iw'],
    ['fa', 'Persian', 'fas per pes'],
  ],
]

/** All languages, English first, then by X-ALMA group. */
export const languages: readonly Language[] = GROUPS.flatMap((rows, group) =>
  rows.map(([code, name]) => (group === 0 ? { code, name } : { code, name, group })),
)

const byKey: ReadonlyMap<string, Language> = (() => {
  const map = new Map<string, Language>()
  const rows = GROUPS.flat()
  for (const [index, language] of languages.entries()) {
    const aliases = rows[index]?.[2] ?? ''
    for (const key of [language.code, language.name.toLowerCase(), ...aliases.split(' ')]) map.set(key, language)
  }
  return map
})()

/** The language of a code or name, or undefined. */
export function findLanguage(codeOrName: string): Language | undefined {
  const key = codeOrName.trim().toLowerCase()
  // `de-DE`, `zh_Hans`, `deu_Latn`: the first subtag decides.
  return byKey.get(key) ?? byKey.get(key.split(/[-_]/)[0] ?? '')
}

/**
 * The language of a BCP-47 or ISO 639 code (`de`, `de-DE`, `deu`) or an English name (`German`), in any case.
 * @throws AlmaError ERR_ALMA_LANGUAGE naming the nearest known ones
 */
export function resolveLanguage(codeOrName: string): Language {
  const language = findLanguage(codeOrName)
  if (language !== undefined) return language
  const key = codeOrName.trim().toLowerCase()
  const nearest = languages
    .map((l) => ({ l, distance: Math.min(editDistance(key, l.code), editDistance(key, l.name.toLowerCase())) }))
    // Half of the letters wrong is no misspelling any more; two-letter codes may have one.
    .filter(({ distance }) => distance <= Math.max(1, key.length / 2))
    .sort((a, b) => a.distance - b.distance)
    .slice(0, 3)
    .map(({ l }) => `${l.name} (${l.code})`)
  const hint =
    nearest.length > 0
      ? `did you mean ${nearest.join(', ')}?`
      : 'expected a code such as "de" or a name such as "German"'
  throw new AlmaError('ERR_ALMA_LANGUAGE', `unknown language ${JSON.stringify(codeOrName)}: ${hint}`)
}

/** Levenshtein distance. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const substitute = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(substitute, (row[j] as number) + 1, (next[j - 1] as number) + 1))
    }
    row = next
  }
  return row[b.length] as number
}
