import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Alma } from '../../lib/alma.js'
import { fixtureCases } from '../support/fixtures.js'

interface Answer {
  readonly tokens: number[]
  readonly score: number
  readonly sum_logprob: number
}

/** beam.json of fixtures/decode and fixtures/real-model: `expected` is what transformers 4.46 gives, `differs` what later ones do. */
interface BeamFile {
  readonly cases: readonly {
    readonly name: string
    readonly params: {
      readonly num_beams: number
      readonly length_penalty: number
      readonly early_stopping: boolean | 'never'
      readonly max_new_tokens: number
      readonly num_return_sequences: number
    }
    readonly eos_token_id: number
    readonly pad_token_id: number
    readonly prompts: number[][]
    readonly expected: readonly (readonly Answer[])[]
    /** By release, then by prompt; null: as expected. */
    readonly differs?: Readonly<Record<string, readonly (readonly Answer[] | null)[]>>
  }[]
}

const cases = ['decode', 'real-model']
  .flatMap((kind) => fixtureCases(kind))
  .filter(({ folder }) => existsSync(join(folder, 'beam.json')))

/** What the newest release of which the file knows gives for a prompt. */
function newest(file: BeamFile['cases'][number], prompt: number): readonly Answer[] {
  const releases = Object.entries(file.differs ?? {}).sort(([a], [b]) => a.localeCompare(b, 'en', { numeric: true }))
  return releases.at(-1)?.[1][prompt] ?? file.expected[prompt] ?? []
}

describe.skipIf(cases.length === 0)('beam search gives the reference answers and scores', () => {
  for (const { name, folder } of cases) {
    describe(name, () => {
      const file = JSON.parse(readFileSync(join(folder, 'beam.json'), 'utf8')) as BeamFile
      let alma: Alma
      beforeAll(async () => {
        alma = await Alma.load(folder, { device: process.env.ALMA_DEVICE ?? 'cpu', dtype: 'f32' })
      })
      afterAll(() => alma?.dispose())

      it('has cases', () => {
        expect(file.cases.length).toBeGreaterThan(0)
      })

      for (const one of file.cases) {
        it.each(['transformers-4.46', 'transformers'] as const)(`${one.name}: %s`, async (compat) => {
          const { params, prompts, expected } = one
          const results = await alma.generate(prompts, {
            compat,
            numBeams: params.num_beams,
            lengthPenalty: params.length_penalty,
            earlyStopping: params.early_stopping,
            maxNewTokens: params.max_new_tokens,
            numReturnSequences: params.num_return_sequences,
            eosTokenId: one.eos_token_id,
          })
          for (const [index, result] of results.entries()) {
            const answers = compat === 'transformers' ? newest(one, index) : (expected[index] ?? [])
            const { candidates = [result] } = result
            expect(candidates.map(({ tokenIds }) => tokenIds)).toEqual(answers.map(({ tokens }) => tokens))
            expect(candidates[0]).toEqual({ ...result, candidates: undefined })
            for (const [i, { tokenIds, score, sumLogprob, finishReason, text }] of candidates.entries()) {
              expect(Math.abs(score - (answers[i]?.score ?? Number.NaN))).toBeLessThan(1e-4)
              const length = tokenIds.length ** params.length_penalty
              expect(sumLogprob / length).toBeCloseTo(score, 10)
              expect(finishReason).toBe(tokenIds.at(-1) === one.eos_token_id ? 'eos' : 'length')
              expect(text === undefined).toBe(result.text === undefined)
            }
          }
        })
      }
    })
  }
})
