import { describe, expect, it } from 'vitest'
import { findLanguage, languages, resolveLanguage } from '../../lib/text/languages.js'

describe('languages', () => {
  it('has the 50 languages of X-ALMA in their groups, and Hausa', () => {
    expect(languages).toHaveLength(51)
    expect(new Set(languages.map(({ code }) => code)).size).toBe(51)
    const sizes = [1, 2, 3, 4, 5, 6, 7, 8].map((group) => languages.filter((l) => l.group === group).length)
    expect(sizes).toEqual([7, 6, 5, 6, 6, 6, 5, 8])
    expect(resolveLanguage('en')).toEqual({ code: 'en', name: 'English' })
    expect(resolveLanguage('is')).toEqual({ code: 'is', name: 'Icelandic', group: 1 })
    expect(resolveLanguage('fa')).toEqual({ code: 'fa', name: 'Persian', group: 8 })
  })

  it.each(['de', 'DE', 'de-DE', 'de_AT', 'deu', 'ger', 'deu_Latn', 'German', 'german', ' GERMAN '])(
    'understands %j as German',
    (text) => expect(resolveLanguage(text).code).toBe('de'),
  )

  it.each([
    ['nb', 'no'],
    ['zh-Hans', 'zh'],
    ['pes_Arab', 'fa'],
    ['zsm_Latn', 'ms'],
    ['plt_Latn', 'mg'],
    ['arb', 'ar'],
  ])('understands %j as %j', (text, code) => expect(findLanguage(text)?.code).toBe(code))

  it.each([
    ['Germn', /did you mean German \(de\)/],
    ['Icelandik', /Icelandic \(is\)/],
    ['', /such as "de"/],
    ['Klingon', /unknown language "Klingon"/],
    ['__proto__', /unknown language/],
  ])('refuses %j with a suggestion', (text, message) => {
    expect(() => resolveLanguage(text)).toThrow(expect.objectContaining({ code: 'ERR_ALMA_LANGUAGE' }))
    expect(() => resolveLanguage(text)).toThrow(message)
  })
})
