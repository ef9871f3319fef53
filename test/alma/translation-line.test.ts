import { describe, expect, it } from 'vitest'
import { TranslationLine } from '../../lib/alma/translation-line.js'
import { cleanTranslation } from '../../lib/text/index.js'

/** Every way to cut a text into pieces of one to three characters would be many; pseudo-random ones do. */
function piecesOf(text: string, seed: number): string[] {
  const pieces: string[] = []
  let state = seed
  for (let at = 0; at < text.length; ) {
    state = (state * 48271) % 2147483647
    const length = 1 + (state % 3)
    pieces.push(text.slice(at, at + length))
    at += length
  }
  return pieces
}

const parts = ['', ' ', '\n', '\t', 'Hello.', 'English:', 'Eng', 'English', 'a b', '  x  ', 'German: y', ':']

describe('TranslationLine', () => {
  it('lets through what cleanTranslation makes of the whole text', () => {
    let compared = 0
    for (let seed = 1; seed < 4000; seed++) {
      let state = seed
      let text = ''
      for (let i = 0; i < 7; i++) {
        state = (state * 48271) % 2147483647
        text += parts[state % parts.length]
      }
      const line = new TranslationLine('en')
      let streamed = ''
      let done = false
      for (const piece of piecesOf(text, seed)) {
        const next = line.push(piece)
        // After `done` nothing may come.
        if (done) expect(next).toBe('')
        done = line.done
        streamed += next
      }
      streamed += line.end()
      expect(streamed, JSON.stringify(text)).toBe(cleanTranslation(text, { to: 'en' }))
      if (streamed !== '') compared++
    }
    expect(compared).toBeGreaterThan(1000)
  })

  it('is done at the end of the first line that is not blank', () => {
    const line = new TranslationLine('German')
    expect(line.push(' \n Guten')).toBe('Guten')
    expect(line.push(' ')).toBe('')
    expect(line.push('Tag ')).toBe(' Tag')
    expect(line.done).toBe(false)
    expect(line.push('\nmore')).toBe('')
    expect(line.done).toBe(true)
  })
})
