import { type LanguageLike, resolveLanguage } from '../text/index.js'

/** How many lines ALMA's post-processing looks at. */
const LINES = 3

/**
 * {@link cleanTranslation} for text that arrives in pieces: the pieces it lets through, joined, are what it makes of the whole text.
 * Whitespace is held back until more of the line follows it, as is a beginning that may turn out to be the prompt's `{to}:`.
 */
export class TranslationLine {
  readonly #label: string
  #text = ''
  #emitted = 0
  #done = false

  constructor(to: LanguageLike) {
    this.#label = `${typeof to === 'string' ? resolveLanguage(to).name : to.name}:`
  }

  /** Whether nothing that follows can change the translation. */
  get done(): boolean {
    return this.#done
  }

  push(piece: string): string {
    this.#text += piece
    return this.#advance(false)
  }

  end(): string {
    return this.#advance(true)
  }

  #advance(ended: boolean): string {
    if (this.#done) return ''
    const line = this.#line(ended)
    const next = line.slice(this.#emitted)
    this.#emitted += next.length
    return next
  }

  /** What is certain of the translation so far, trimmed. */
  #line(ended: boolean): string {
    const lines = this.#text.split('\n')
    for (const [index, line] of lines.entries()) {
      const complete = ended || index + 1 < lines.length
      if (index >= LINES) {
        this.#done = true
        return ''
      }
      if (line.trim() === '') continue
      // The prompt's second line again: what follows it counts.
      const labelled = index > 0 && line.startsWith(this.#label)
      if (index > 0 && !labelled && !complete && this.#label.startsWith(line)) return ''
      this.#done = complete
      return (labelled ? line.slice(this.#label.length) : line).trim()
    }
    return ''
  }
}
