import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Alma } from '../../lib/alma.js'
import { fixtureCases } from '../support/fixtures.js'

/** greedy.json of fixtures/decode: computed by transformers on the batch padded on the left. */
interface GreedyFile {
  readonly cases: readonly {
    readonly name: string
    readonly params: Readonly<Record<string, number>>
    readonly eos_token_id: number
    readonly pad_token_id: number
    readonly prompts: number[][]
    readonly expected: readonly (number[] | readonly { readonly tokens: number[]; readonly sum_logprob: number }[])[]
  }[]
}

const camelCase: Readonly<Record<string, string>> = {
  max_new_tokens: 'maxNewTokens',
  min_new_tokens: 'minNewTokens',
  repetition_penalty: 'repetitionPenalty',
  no_repeat_ngram_size: 'noRepeatNgramSize',
  num_beams: 'numBeams',
  length_penalty: 'lengthPenalty',
}

function optionsOf(params: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(params).map(([name, value]) => {
      const option = camelCase[name]
      if (option === undefined) throw new Error(`the fixtures have an unknown parameter ${name}`)
      return [option, value]
    }),
  )
}

const cases = fixtureCases('decode').filter(({ folder }) => existsSync(join(folder, 'greedy.json')))

describe.skipIf(cases.length === 0)('greedy decoding gives the reference ids', () => {
  for (const { name, folder } of cases) {
    describe(name, () => {
      const file = JSON.parse(readFileSync(join(folder, 'greedy.json'), 'utf8')) as GreedyFile
      let alma: Alma
      beforeAll(async () => {
        alma = await Alma.load(folder, { device: process.env.ALMA_DEVICE ?? 'cpu', dtype: 'f32' })
      })
      afterAll(() => alma?.dispose())

      for (const { name: label, params, eos_token_id, pad_token_id, prompts, expected } of file.cases) {
        it(label, async () => {
          const results = await alma.generate(prompts, {
            ...optionsOf(params),
            eosTokenId: eos_token_id,
            padTokenId: pad_token_id,
          })
          expect(results).toHaveLength(expected.length)
          for (const [index, { tokenIds, sumLogprob, score, finishReason }] of results.entries()) {
            const [best] = [expected[index] ?? []].flat()
            const ids = typeof best === 'object' ? best.tokens : (expected[index] as number[])
            expect(tokenIds).toEqual(ids)
            if (typeof best === 'object') expect(Math.abs(sumLogprob - best.sum_logprob)).toBeLessThan(1e-4)
            expect(score).toBeCloseTo(sumLogprob / ids.length, 12)
            expect(finishReason).toBe(ids.at(-1) === eos_token_id ? 'eos' : 'length')
          }
        })
      }
    })
  }
})
