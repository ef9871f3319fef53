import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { beforeAll, describe, expect, it } from 'vitest'
import { readMonolingual, readParallel, readPreference } from '../../lib/text/corpus.js'

let folder: string
let files = 0
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'alma-corpus-'))
})

async function file(content: string | Buffer): Promise<string> {
  // A name that says nothing: formats are detected from the content.
  const path = join(folder, `file${files++}.dat`)
  await writeFile(path, content)
  return path
}

async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = []
  for await (const item of source) list.push(item)
  return list
}

const deEn = { from: 'de', to: 'en' }
const rows = [
  { de: 'Guten "Morgen"!', en: 'Good {morning}]!' },
  { de: '我\\\n爱', en: '' },
  { de: 'Grüße 🙂', en: 'x\ty' },
]
const pairs = rows.map(({ de, en }, i) => ({ source: de, target: en, line: i + 1 }))
const alma = rows.map((translation) => ({ translation }))
const jsonLines = alma.map((row) => JSON.stringify(row)).join('\n')

describe('readParallel', () => {
  const onOneLine = pairs.map((pair) => ({ ...pair, line: 1 }))
  const formats: [string, string, typeof pairs][] = [
    ['ALMA JSON Lines', `${jsonLines}\n`, pairs],
    ['JSON Lines without a last newline', jsonLines, pairs],
    ['JSON Lines with CRLF and a byte order mark', `\ufeff${jsonLines.replaceAll('\n', '\r\n')}\r\n`, pairs],
    ['one JSON array on a line', JSON.stringify(alma), onOneLine],
    [
      'a JSON array with a record a line',
      `\n [\n${alma.map((row) => JSON.stringify(row)).join(',\n')}\n]\n`,
      pairs.map((pair) => ({ ...pair, line: pair.line + 2 })),
    ],
    ['an indented JSON array', JSON.stringify(alma, null, 2), pairs.map((pair, i) => ({ ...pair, line: 2 + 6 * i }))],
    [
      'keys in the other order',
      alma.map(({ translation: { de, en } }) => JSON.stringify({ translation: { en, de } })).join('\n'),
      pairs,
    ],
    ['bare languages', rows.map((row) => JSON.stringify(row)).join('\n'), pairs],
    ['names of languages', rows.map(({ de, en }) => JSON.stringify({ 'en-GB': en, German: de })).join('\n'), pairs],
    ['source and target', rows.map(({ de, en }) => JSON.stringify({ target: en, source: de })).join('\n'), pairs],
  ]
  it.each(formats)('reads %s, plain and gzip', async (_, content, expected) => {
    expect(await collect(readParallel(await file(content), deEn))).toEqual(expected)
    expect(await collect(readParallel(await file(gzipSync(content)), deEn))).toEqual(expected)
  })

  it('reads TSV', async () => {
    const path = await file('Hallo\tHello\r\n\r\n[Ja] \tYes\n\tempty')
    expect(await collect(readParallel(path, deEn))).toEqual([
      { source: 'Hallo', target: 'Hello', line: 1 },
      { source: '[Ja] ', target: 'Yes', line: 3 },
      { source: '', target: 'empty', line: 4 },
    ])
  })

  it('takes the sides that from and to name', async () => {
    const path = await file(jsonLines)
    const [first] = await collect(readParallel(path, { from: 'English', to: 'German' }))
    expect(first).toEqual({ source: 'Good {morning}]!', target: 'Guten "Morgen"!', line: 1 })
  })

  it('reads several gzip members and an array in pieces of any size', async () => {
    const members = jsonLines.split('\n').map((line) => gzipSync(`${line}\n`))
    expect(await collect(readParallel(await file(Buffer.concat(members)), deEn))).toEqual(pairs)
    // Longer than the pieces that files are read in, so that records, strings and characters are cut anywhere.
    const many = Array.from({ length: 20_000 }, (_, i) => ({
      translation: { de: `ä"\\🙂${i}`, en: `{[${'é'.repeat(i % 50)}` },
    }))
    const out = await collect(readParallel(await file(JSON.stringify(many)), deEn))
    expect(out.map(({ source, target }) => ({ translation: { de: source, en: target } }))).toEqual(many)
  })

  it('stops reading when the reader stops', async () => {
    for (const content of [jsonLines, gzipSync(jsonLines)]) {
      for await (const pair of readParallel(await file(content), deEn)) {
        expect(pair).toEqual(pairs[0])
        break
      }
    }
  })

  const broken: [string, string | Buffer, RegExp][] = [
    ['a line that is not JSON', `${jsonLines}\n{"translation": \n`, /dat:4: not JSON/],
    ['a line that is no object', `${jsonLines}\n[1]`, /dat:4: expected a JSON object, found \[1\]/],
    [
      'a missing language',
      '{"translation": {"de": "x", "fr": "y"}}',
      /dat:1: has "de", "fr"; expected the language "en"/,
    ],
    ['no languages', '{}', /dat:1: has no keys; expected the language "de"/],
    ['a translation that is text', '{"translation": "x"}', /dat:1: "translation" is not an object/],
    ['a text that is a number', '{"de": 1, "en": "x"}', /dat:1: "de" is a number; expected a string/],
    ['a text that is null', '{"de": null, "en": "x"}', /dat:1: "de" is null/],
    ['an inherited key', '{"translation": {"constructor": "x"}}', /has "constructor"; expected the language/],
    ['an empty file', '', /has no data; expected JSON objects/],
    ['a file of blank lines', '\n \n', /has no data/],
    ['an empty array', ' [ ] ', /has no data/],
    ['a TSV line of one column', 'a\tb\nc', /dat:2: has 1 columns; expected source, tab and target/],
    ['a TSV line of three columns', 'a\tb\tc', /dat:1: has 3 columns/],
    ['a truncated array', '[{"de": "a", "en": "b"},\n{"de": "c"', /dat:2: the JSON array ends after record 2/],
    ['an array without its end', '[{"de": "a", "en": "b"}\n', /ends after record 1/],
    [
      'an array of other things',
      '[{"de": "a", "en": "b"}, 3]',
      /dat:1: found "3" after record 1; expected a JSON object/,
    ],
    ['an array without commas', '[{"de": "a", "en": "b"} {"de"', /expected "," or "\]"/],
    ['text behind an array', '[{"de": "a", "en": "b"}] {', /nothing behind the array/],
    ['a damaged record of an array', '[{"de": "a" "en": "b"}]', /dat:1 \(record 1\): not JSON/],
    ['invalid UTF-8', Buffer.from([...Buffer.from('a\tb\nc\t'), 0xc3, 0x28]), /dat:2: not valid UTF-8/],
    ['UTF-16', Buffer.from('\ufeffa\tb\n', 'utf16le'), /dat:1: not valid UTF-8/],
    ['truncated gzip', gzipSync(jsonLines).subarray(0, 60), /truncated gzip/],
    [
      'damaged gzip',
      Buffer.concat([gzipSync('a').subarray(0, 10), Buffer.alloc(50, 0xff)]),
      /damaged or truncated gzip/,
    ],
    ['a line without end', Buffer.alloc(17 * 2 ** 20, 'a'), /dat:1: a line of more than 16 MiB/],
    ['a record without end', `[{"de": "${'a'.repeat(17 * 2 ** 20)}"}]`, /dat:1: a record of more than 16 MiB/],
  ]
  it.each(broken)('refuses %s', async (_, content, message) => {
    const reading = collect(readParallel(await file(content), deEn))
    await expect(reading).rejects.toMatchObject({ name: 'AlmaError', code: 'ERR_ALMA_CORPUS' })
    await expect(reading).rejects.toThrow(message)
  })

  it('names a missing file, and a folder', async () => {
    for (const path of [join(folder, 'nothing'), folder]) {
      const reading = collect(readParallel(path, deEn))
      await expect(reading).rejects.toMatchObject({ code: 'ERR_ALMA_IO', message: expect.stringContaining(path) })
    }
    expect(() => readParallel('x', { from: 'de', to: 'xx' })).toThrow(
      expect.objectContaining({ code: 'ERR_ALMA_LANGUAGE' }),
    )
  })
})

describe('readMonolingual', () => {
  const read = async (content: string | Buffer): Promise<unknown[]> =>
    collect(readMonolingual(await file(content), { language: 'de' }))

  it('reads a document a line, skipping blank ones', async () => {
    const text = '[Musik] eins\r\n\n  \n {zwei} \n"drei"'
    const expected = [
      { text: '[Musik] eins', line: 1 },
      { text: ' {zwei} ', line: 4 },
      { text: '"drei"', line: 5 },
    ]
    expect(await read(text)).toEqual(expected)
    expect(await read(gzipSync(text))).toEqual(expected)
  })

  it('reads JSON Lines, and one side of parallel data', async () => {
    expect(await read('{"text": "eins", "id": 1}\n{"text": ""}\n{"text": "zwei\\n"}')).toEqual([
      { text: 'eins', line: 1 },
      { text: 'zwei\n', line: 3 },
    ])
    const sides = '{"translation": {"en": "one", "de": "eins"}}\n{"translation": {"en": "two", "de": ""}}'
    expect(await read(sides)).toEqual([{ text: 'eins', line: 1 }])
    expect(await read(`[${sides.replace('\n', ',')}]`)).toEqual([{ text: 'eins', line: 1 }])
  })

  it('refuses what it does not understand', async () => {
    await expect(read('{"content": "x"}')).rejects.toThrow(/dat:1: has "content"; expected "text" or the language "de"/)
    await expect(read('{"text": ["x"]}')).rejects.toThrow(/"text" is an array; expected a string/)
    await expect(read('{"text": ""}')).rejects.toThrow(/has no data; expected text, a document a line/)
    await expect(read('')).rejects.toMatchObject({ code: 'ERR_ALMA_CORPUS' })
  })
})

describe('readPreference', () => {
  const row = { source: 'Hallo', chosen: 'Hello', rejected: 'Hell', from: 'de', to: 'en' }

  it('reads rows as JSON Lines or an array, and the columns of X-ALMA-Preference', async () => {
    const other = { source: 'Ja', chosen: 'Yes', reject: 'Yo', directions: 'de-en' }
    const expected = [
      { ...row, line: 1 },
      { source: 'Ja', chosen: 'Yes', rejected: 'Yo', from: 'de', to: 'en', line: 2 },
    ]
    const lines = [row, other].map((r) => JSON.stringify(r))
    expect(await collect(readPreference(await file(lines.join('\n'))))).toEqual(expected)
    expect(await collect(readPreference(await file(gzipSync(`[${lines.join(',\n')}]`))))).toEqual(expected)
  })

  it('takes languages from the call where rows have none', async () => {
    const path = await file('{"source": "a", "chosen": "b", "rejected": "c"}')
    const [read] = await collect(readPreference(path, { from: 'German', to: 'cs' }))
    expect(read).toMatchObject({ from: 'de', to: 'cs' })
    await expect(collect(readPreference(path))).rejects.toThrow(/dat:1: .*"from" is missing/)
  })

  it.each([
    ['{"source": "a", "chosen": "b", "from": "de", "to": "en"}', /"rejected" is missing/],
    ['{"source": "a", "chosen": "b", "rejected": " ", "from": "de", "to": "en"}', /"rejected" is blank/],
    ['{"source": "a", "chosen": 1, "rejected": "c", "from": "de", "to": "en"}', /"chosen" is a number/],
    ['a\tb\tc', /dat:1: not JSON/],
    ['', /has no data/],
  ])('refuses %j', async (content, message) => {
    await expect(collect(readPreference(await file(content)))).rejects.toThrow(message)
  })
})
