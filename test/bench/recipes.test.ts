import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, describe, expect, test } from 'vitest'
import { prepareData } from '../../bench/recipes/data.js'
import { copyBaseline } from '../../bench/recipes/measure.js'
import { recipeSettings } from '../../bench/recipes/settings.js'
import { markdownTable } from '../../bench/recipes/table.js'
import { variantsOf } from '../../bench/recipes/variants.js'
import { resolveStage } from '../../lib/train/stages.js'

const folder = mkdtempSync(join(tmpdir(), 'alma-recipes-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const settings = { ...recipeSettings.tiny, vocabSize: 300, testSentences: 2 }

function write(name: string, pairs: readonly (readonly [string, string])[]): void {
  const [, from = '', to = ''] = /\.(..)-(..)\./.exec(name) ?? []
  const lines = pairs.map(([a, b]) => JSON.stringify({ translation: { [from]: a, [to]: b } }))
  writeFileSync(join(folder, name), gzipSync(`${lines.join('\n')}\n`))
}

describe('data of the recipes', () => {
  test('holds nothing that is tested on, and no sentence twice', async () => {
    const long = 'Ein langer Satz, '.repeat(10).trim()
    write('train.de-en.jsonl.gz', [
      ['Eins.', 'One.'],
      ['Zwei.', 'Two.'],
      ['Geprüft.', 'Not tested.'],
      [long, 'Long.'],
    ])
    write('train.cs-en.jsonl.gz', [
      ['Jedna.', 'One.'],
      ['Tři.', 'Three.'],
      ['Zkouška.', 'Tested.'],
      ['Platné.', 'Valid.'],
    ])
    write('valid.de-en.jsonl.gz', [['Gültig.', 'Valid.']])
    write('test.de-en.jsonl.gz', [
      ['Geprüft.', 'Tested.'],
      ['Auch.', 'Too.'],
      ['Drittens.', 'Third.'],
    ])
    write('test.en-de.jsonl.gz', [['Reverse.', 'Umgekehrt.']])
    const data = await prepareData(folder, join(folder, 'out'), settings, 1)
    const lines = (path: string): string[] => readFileSync(path, 'utf8').trim().split('\n').sort()
    expect(data.trainPairs).toEqual([
      { de: 'Eins.', en: 'One.' },
      { de: 'Zwei.', en: 'Two.' },
    ])
    // The pair that is too long to train on is still monolingual text.
    expect(lines(data.monolingual.de)).toEqual(['Eins.', long, 'Zwei.'].sort())
    expect(lines(data.monolingual.en)).toEqual(['Long.', 'One.', 'Three.', 'Two.'])
    expect(data.test['de-en']).toHaveLength(2)
    expect(data.test['en-de']).toEqual([{ de: 'Umgekehrt.', en: 'Reverse.' }])

    const variants = variantsOf(data, settings, 1000, 1)
    expect(variants.map(({ name, stages }) => [name, stages.length])).toEqual([
      ['stage 2 alone', 1],
      ['stage 1 (25 %)', 1],
      ['stage 1 (25 %), stage 2 by LoRA', 1],
      ['stage 1 (25 %), stage 2', 2],
      ['stage 1 (50 %), stage 2', 2],
      ['stage 1 (100 %), stage 2', 2],
      ['stage 1 (100 %), stage 2, CPO', 0],
    ])
    for (const { stages } of variants) for (const stage of stages) resolveStage(stage, 'stage')
    const names = variants.map(({ name }) => name)
    for (const { from } of variants) if (from !== undefined) expect(names).toContain(from)
    const preference = variants.at(-1)?.preference
    expect(resolveStage({ ...preference, kind: 'preference', data: 'x.jsonl' }, 'stage')).toMatchObject({ loss: 'cpo' })
    const table = markdownTable([copyBaseline(data)]).split('\n')
    expect(table).toHaveLength(3)
    expect(table[2]).toMatch(/^\| source copied \| – \| [\d.]+ \| [\d.]+ \| – /)
  })

  test('a missing file is named', async () => {
    await expect(prepareData(join(folder, 'out'), join(folder, 'out2'), settings, 1)).rejects.toMatchObject({
      code: 'ERR_ALMA_CORPUS',
      message: expect.stringContaining('test.de-en.jsonl'),
    })
  })
})
