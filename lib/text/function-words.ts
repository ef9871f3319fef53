/**
 * A guess at the language of a whole file by its commonest words: enough to notice that the columns of a file are exchanged, or that
 * a file has another language's name. Single sentences are too short for it.
 */

/** Words of the language that the others here do not have, or rarely. ISO 639-1 codes of languages in Latin letters. */
const wordsOf: Readonly<Record<string, string>> = {
  en: 'the of and to that is was for with are this have from they which',
  de: 'der die das und ist nicht mit ein eine auf dem den von sich auch wird',
  nl: 'het een van dat niet zijn voor met op aan ook wordt maar deze',
  sv: 'och att det som är inte för ett av på den med jag har',
  da: 'og at det er ikke af en på til som der med har blev',
  no: 'og å det er ikke av en på til som har ble jeg fra',
  is: 'og að er það ekki sem við þetta en um var með hann',
  af: 'die en nie is van het dat vir wat om met sy ons',
  fr: 'le la les des et est une dans que pour pas qui sur avec nous',
  es: 'el los las que y en una por para con del se como pero',
  pt: 'o os as que e em uma por para com do da não mais',
  it: 'il gli che di e non una per con della sono nel anche più',
  ca: 'el els les que i en una per amb del no és aquest com',
  gl: 'o os as que e en unha por para con do da non máis',
  ro: 'și de în la care nu este un cu pe din mai sau pentru',
  cs: 'a se na je v že to s jsem do ale jako tak by',
  pl: 'i w nie na się że do z jest to jak od po ale',
  hu: 'a az és hogy nem is egy ez meg van de csak volt',
  fi: 'ja on ei että se hän oli mutta kun ovat myös tai niin',
  et: 'ja on ei et see ta oli kui aga ka mis oma selle',
  lt: 'ir yra kad ne tai į su jis buvo bet iš kaip apie',
  lv: 'un ir ka ne tas ar uz bija no kas bet par kā',
  tr: 've bir bu için da de çok ile ne gibi daha olarak ama',
  id: 'yang dan di itu dengan untuk tidak ini dari dalam akan pada ada',
  vi: 'và của là không có một cho người được trong với này các',
}

const vocabulary = new Map<string, readonly string[]>()
for (const [code, words] of Object.entries(wordsOf)) {
  for (const word of words.split(' ')) vocabulary.set(word, [...(vocabulary.get(word) ?? []), code])
}

/** Texts after which more change nothing. */
const ENOUGH_TEXTS = 2000
/** Fewer hits are chance. */
const FEWEST_HITS = 50
/** How many times as many hits another language needs: Danish and Norwegian share most of their words. */
const CLEARLY_MORE = 3

export class LanguageGuess {
  readonly #hits = new Map<string, number>()
  #texts = 0

  add(text: string): void {
    if (this.#texts++ >= ENOUGH_TEXTS) return
    for (const [word] of text.toLowerCase().matchAll(/\p{L}+/gu)) {
      for (const code of vocabulary.get(word) ?? []) this.#hits.set(code, (this.#hits.get(code) ?? 0) + 1)
    }
  }

  /** Another language that the texts clearly are rather in; undefined when they may be in `code`, or nothing is known of it. */
  otherThan(code: string): string | undefined {
    if (!Object.hasOwn(wordsOf, code)) return undefined
    const own = this.#hits.get(code) ?? 0
    const [best] = [...this.#hits].sort(([, a], [, b]) => b - a)
    if (best === undefined || best[1] < FEWEST_HITS || best[1] < CLEARLY_MORE * own) return undefined
    return best[0]
  }
}
