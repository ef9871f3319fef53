import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { readRecipe } from '../../lib/train/index.js'

const folder = mkdtempSync(join(tmpdir(), 'alma-recipe-'))

function write(name: string, text: string): string {
  const path = join(folder, name)
  writeFileSync(path, text)
  return path
}

const recipe = {
  model: 'base',
  output: '../trained',
  stages: [{ kind: 'monolingual', sources: [{ path: 'mono/de.txt', language: 'de' }], maxSteps: 3 }],
}

describe('recipes', () => {
  test('paths are relative to the file, in JSON and in YAML', async () => {
    const yaml = [
      'model: base',
      'output: ../trained',
      'stages:',
      '  - kind: monolingual',
      '    sources: [{ path: mono/de.txt, language: de }]',
      '    maxSteps: 3',
    ].join('\n')
    const [fromJson, fromYaml] = [
      await readRecipe(write('a.json', JSON.stringify(recipe))),
      await readRecipe(write('a.yaml', yaml)),
    ]
    expect(fromJson).toEqual(fromYaml)
    expect(fromJson).toEqual({
      model: join(folder, 'base'),
      output: join(folder, '..', 'trained'),
      stages: [{ kind: 'monolingual', sources: [{ path: join(folder, 'mono/de.txt'), language: 'de' }], maxSteps: 3 }],
    })
  })

  const bad: [string, string, RegExp][] = [
    ['not JSON', '{"model": ', /broken\.json: /],
    ['a list', '[]', /broken\.json: expected an object/],
    ['an unknown field', JSON.stringify({ ...recipe, ouput: 'x' }), /unknown field "ouput"/],
    ['no stages', JSON.stringify({ ...recipe, stages: [] }), /"stages": expected a list/],
    ['no model', JSON.stringify({ ...recipe, model: 3 }), /"model": expected a folder, got 3/],
    [
      'a wrong stage',
      JSON.stringify({ ...recipe, stages: [{ kind: 'monolingual' }] }),
      /stages\[0\]: "sources" is missing/,
    ],
    ['__proto__', '{"__proto__": {"x": 1}, "model": "a", "output": "b", "stages": []}', /unknown field "__proto__"/],
  ]
  test.each(bad)('%s is refused', async (_, text, message) => {
    await expect(readRecipe(write('broken.json', text))).rejects.toMatchObject({
      code: 'ERR_ALMA_RECIPE',
      message: expect.stringMatching(message),
    })
  })

  test('a missing file is named', async () => {
    await expect(readRecipe('/nowhere/recipe.json')).rejects.toMatchObject({
      code: 'ERR_ALMA_IO',
      message: expect.stringContaining('/nowhere/recipe.json'),
    })
  })

  test('a YAML bomb is refused', async () => {
    const levels = Array.from({ length: 12 }, (_, i) =>
      i === 0
        ? 'a0: &a0 [x, x]'
        : `a${i}: &a${i} [${Array(9)
            .fill(`*a${i - 1}`)
            .join(', ')}]`,
    )
    await expect(readRecipe(write('bomb.yaml', levels.join('\n')))).rejects.toMatchObject({ code: 'ERR_ALMA_RECIPE' })
  })
})
