import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Alma } from '../../lib/alma.js'
import { fixtureCases } from '../support/fixtures.js'
import { loadTensors } from '../support/safetensors.js'

interface GreedyFile {
  readonly stop_ids: number[]
  readonly cases: readonly {
    readonly text: string
    readonly prompt_ids: number[]
    readonly greedy_ids: number[]
    readonly greedy_text: string
    readonly stopped_at_end_token: boolean
  }[]
}

interface TeacherForcedFile {
  readonly cases: readonly { readonly text: string; readonly ids: number[]; readonly token_logprobs: number[] }[]
}

const models = fixtureCases('real-model').filter(({ folder }) => existsSync(join(folder, 'greedy.json')))

describe.skipIf(models.length === 0)('a pretrained model', () => {
  for (const { name, folder } of models) {
    describe(name, () => {
      const read = <T>(file: string): T => JSON.parse(readFileSync(join(folder, file), 'utf8')) as T
      let alma: Alma
      beforeAll(async () => {
        alma = await Alma.load(folder, { device: process.env.ALMA_DEVICE ?? 'cpu', dtype: 'f32' })
      })
      afterAll(() => alma?.dispose())

      it('continues texts with the reference ids', async () => {
        const { cases, stop_ids } = read<GreedyFile>('greedy.json')
        expect(cases.length).toBeGreaterThan(0)
        for (const { text, prompt_ids, greedy_ids, stopped_at_end_token } of cases) {
          expect(alma.tokenizer.encode(text, { addBos: true })).toEqual(prompt_ids)
          const options = { eosTokenId: stop_ids, maxNewTokens: greedy_ids.length }
          const [ofIds] = await alma.generate([prompt_ids], options)
          expect(ofIds?.tokenIds.slice(0, greedy_ids.length)).toEqual(greedy_ids)
          expect(ofIds?.finishReason).toBe(stopped_at_end_token ? 'eos' : 'length')
          const [ofText] = await alma.generate([text], options)
          expect(ofText).toEqual(ofIds)
        }
      })

      it('gives the reference text', async () => {
        const { cases, stop_ids } = read<GreedyFile>('greedy.json')
        for (const { prompt_ids, greedy_ids, greedy_text, text } of cases) {
          const [result] = await alma.generate([prompt_ids], { eosTokenId: stop_ids, maxNewTokens: greedy_ids.length })
          const whole = alma.tokenizer.decode([...prompt_ids, ...(result?.tokenIds ?? [])])
          expect([whole.trim(), result?.text?.trim()]).toContain(greedy_text.trim())
          expect(whole.startsWith(text)).toBe(true)
        }
      })

      it('has the reference logits', async () => {
        const tensors = loadTensors(join(folder, 'logits.safetensors'))
        const names = [...tensors.keys()].filter((key) => key.endsWith('.logits'))
        expect(names.length).toBeGreaterThan(0)
        for (const key of names) {
          const ids = [...(tensors.get(key.replace('.logits', '.input_ids'))?.data ?? [])]
          const expected = tensors.get(key)?.data ?? new Float32Array()
          const [logits = new Float32Array()] = await alma.model.logits([ids])
          expect(logits).toHaveLength(expected.length)
          let [difference, norm, largest] = [0, 0, 0]
          for (const [i, value] of logits.entries()) {
            const delta = value - (expected[i] ?? Number.NaN)
            difference += delta * delta
            norm += (expected[i] ?? 0) ** 2
            largest = Math.max(largest, Math.abs(delta))
          }
          expect(Math.sqrt(difference / norm)).toBeLessThan(1e-5)
          expect(largest).toBeLessThan(1e-4)
        }
      })

      it('scores a given text token by token, as the log-probabilities of its logits', async () => {
        const { cases } = read<TeacherForcedFile>('teacher_forced.json')
        expect(cases.length).toBeGreaterThan(0)
        const { vocabSize } = alma.config
        for (const { ids, token_logprobs } of cases) {
          const [logits = new Float32Array()] = await alma.model.logits([ids])
          for (let t = 1; t < ids.length; t++) {
            const row = logits.subarray((t - 1) * vocabSize, t * vocabSize)
            const most = Math.max(...row)
            const logSumExp = most + Math.log(row.reduce((sum, value) => sum + Math.exp(value - most), 0))
            expect(Math.abs((row[ids[t] ?? 0] ?? 0) - logSumExp - (token_logprobs[t] ?? 0))).toBeLessThan(1e-4)
          }
        }
      })

      it('scores translations as teacher forcing does, whatever the batch', async () => {
        const { cases } = read<TeacherForcedFile>('teacher_forced.json')
        // A template that is the source alone: prompt and target together are the text of the fixture.
        const pairs = cases.map(({ text }) => {
          const cut = text.lastIndexOf(' ')
          return { source: text.slice(0, cut), target: text.slice(cut), from: 'en', to: 'de' }
        })
        for (const batchTokens of [1, 4096]) {
          const scores = await alma.score(pairs, { template: '{source}', batchTokens })
          for (const [index, { tokenIds, tokenLogprobs, logprob }] of scores.entries()) {
            const { ids = [], token_logprobs = [] } = cases[index] ?? {}
            // Behind the text comes EOS, which the fixture does not have.
            const scored = tokenIds.slice(0, -1)
            expect(scored.length).toBeGreaterThan(0)
            expect(scored).toEqual(ids.slice(ids.length - scored.length))
            for (const [i, expected] of token_logprobs.slice(ids.length - scored.length).entries()) {
              expect(Math.abs((tokenLogprobs[i] ?? Number.NaN) - expected)).toBeLessThan(1e-4)
            }
            expect(tokenIds.at(-1)).toBe(alma.tokenizer.eosTokenId)
            expect(logprob).toBeCloseTo(
              tokenLogprobs.reduce((sum, value) => sum + value, 0),
              9,
            )
          }
        }
      })
    })
  }
})
