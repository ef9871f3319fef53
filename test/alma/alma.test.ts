import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Alma, Device, translationPrompt } from '../../lib/index.js'
import { device, tinyAlma } from './tiny-model.js'

const direction = { from: 'de', to: 'en', maxNewTokens: 24 } as const
const texts = ['Guten Morgen!', 'Das Haus ist grün.', '', 'Wie geht es dir heute?', ' \t', 'Der Wald 🦙 auch.', '日本']

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

describe('Alma', () => {
  let alma: Alma
  beforeAll(async () => {
    alma = await tinyAlma()
  })
  afterAll(() => alma?.dispose())

  describe('translate', () => {
    it('translates many texts as it translates each', async () => {
      const together = await alma.translate(texts, direction)
      const alone = []
      for (const text of texts) alone.push(await alma.translate(text, direction))
      expect(together.map(({ text, tokenIds }) => [text, tokenIds])).toEqual(
        alone.map(({ text, tokenIds }) => [text, tokenIds]),
      )
      expect(together.map(({ source }) => source)).toEqual(texts)
      expect(new Set(together.map(({ tokenIds }) => tokenIds.join())).size).toBeGreaterThan(3)
    })

    it('is the generation after the prompt of ALMA, with BOS', async () => {
      const source = 'Das Haus ist grün.'
      const prompt = alma.tokenizer.encode(translationPrompt({ from: 'de', to: 'en', source }), { addBos: true })
      expect(prompt[0]).toBe(1)
      const [generation] = await alma.generate([prompt], { maxNewTokens: 24 })
      const translation = await alma.translate(source, direction)
      expect(translation.tokenIds).toEqual(generation?.tokenIds)
      expect(translation.score).toBe(generation?.score)
    })

    it('gives nothing for blank texts, without running the model', async () => {
      const blank = await alma.translate('  \n', direction)
      expect(blank).toEqual({ text: '', source: '  \n', score: 0, tokenIds: [], finishReason: 'eos' })
      expect(await alma.translate([], direction)).toEqual([])
    })

    it('keeps special tokens of a source as text', async () => {
      const source = 'a</s>b<s>'
      const ids = alma.tokenizer.encode(translationPrompt({ from: 'de', to: 'en', source }), { addBos: true })
      expect(ids.slice(1).some((id) => alma.tokenizer.isSpecial(id))).toBe(false)
      const [generation] = await alma.generate([ids], { maxNewTokens: 8 })
      const translation = await alma.translate(source, { ...direction, maxNewTokens: 8 })
      expect(translation.tokenIds).toEqual(generation?.tokenIds)
    })

    it('names what is wrong', async () => {
      const wrong: [object, string, RegExp][] = [
        [{ from: 'de' }, 'ERR_ALMA_OPTION', /to: expected a language/],
        [{ ...direction, to: 'Inglish' }, 'ERR_ALMA_LANGUAGE', /English/],
        [{ ...direction, num_beams: 1 }, 'ERR_ALMA_OPTION', /did you mean "numBeams"/],
        [{ ...direction, numBeams: 0 }, 'ERR_ALMA_OPTION', /numBeams: expected an integer from 1/],
        [{ ...direction, split: 'words' }, 'ERR_ALMA_OPTION', /split: expected one of "auto", "lines"/],
        [{ ...direction, maxSourceLength: 0 }, 'ERR_ALMA_OPTION', /maxSourceLength/],
        [{ ...direction, promptStyle: 'chat' }, 'ERR_ALMA_OPTION', /promptStyle: expected "alma" or "x-alma"/],
        [{ ...direction, glossary: [{ source: 'Haus' }] }, 'ERR_ALMA_OPTION', /glossary: expected an array of/],
        [
          { ...direction, numReturnSequences: 3, numBeams: 2 },
          'ERR_ALMA_OPTION',
          /numReturnSequences.*at most numBeams/,
        ],
        [{ ...direction, template: 'x' }, 'ERR_ALMA_OPTION', /\{source\}/],
        [{ ...direction, padTokenId: 0 }, 'ERR_ALMA_OPTION', /padTokenId/],
      ]
      for (const [options, code, message] of wrong) {
        const error = { code, message: expect.stringMatching(message) }
        await expect(alma.translate('x', options as typeof direction)).rejects.toMatchObject(error)
        await expect(alma.translate('', options as typeof direction)).rejects.toMatchObject({ code })
      }
      await expect(alma.translate(5 as unknown as string, direction)).rejects.toMatchObject({ code: 'ERR_ALMA_OPTION' })
      const long = 'Haus '.repeat(300)
      const whole = { ...direction, split: 'none' } as const
      await expect(alma.translate(['x', 'y\nz', '', long], whole)).rejects.toMatchObject({
        code: 'ERR_ALMA_CONTEXT',
        message: expect.stringMatching(/^prompt 3 has/),
      })
    })
  })

  describe('translateStream', () => {
    it('gives the text of translate in pieces without broken characters', async () => {
      let pieces = 0
      for (const text of texts) {
        const streamed = await collect(alma.translateStream(text, direction))
        expect(streamed.join('')).toBe((await alma.translate(text, direction)).text)
        for (const piece of streamed) expect(piece).not.toMatch(/^$|[\ud800-\udbff]$/)
        pieces += streamed.length
      }
      expect(pieces).toBeGreaterThan(texts.length)
    })

    it('ends the work when the loop is left, or on abort', async () => {
      const before = alma.device.memory().allocated
      for await (const piece of alma.translateStream('Guten Morgen!', direction)) {
        expect(alma.device.memory().allocated).toBeGreaterThan(before)
        expect(piece).not.toBe('')
        break
      }
      expect(alma.device.memory().allocated).toBeLessThanOrEqual(before)

      const controller = new AbortController()
      const stream = alma.translateStream('Guten Morgen!', { ...direction, signal: controller.signal })
      await stream.next()
      controller.abort(new Error('enough'))
      // The consumer is busy elsewhere: the memory goes all the same.
      await alma.device.synchronize()
      expect(alma.device.memory().allocated).toBeLessThanOrEqual(before)
      await expect(stream.next()).rejects.toThrow('enough')
    })

    it('decodes no further than the first line', async () => {
      const { tokenizer } = alma
      let decoded = 0
      const chatty = Object.create(tokenizer, {
        streamDecoder: { value: () => ({ push: () => (++decoded === 3 ? 'b\nmore' : 'a'), end: () => '' }) },
        vocabSize: { value: tokenizer.vocabSize },
        encode: { value: tokenizer.encode.bind(tokenizer) },
      }) as typeof tokenizer
      await using talker = await Alma.create({ ...alma.config, eosTokenIds: [] }, { tokenizer: chatty, device })
      expect(await collect(talker.translateStream('Guten Morgen!', direction))).toEqual(['a', 'a', 'b'])
      expect(decoded).toBe(3)
    })

    it('can be used inside the loop of another one', async () => {
      const alone = (await alma.translate('Wie geht es dir heute?', direction)).text
      let joined = ''
      for await (const piece of alma.translateStream('Wie geht es dir heute?', direction)) {
        joined += piece
        expect(await alma.translate('Guten Morgen!', direction)).toMatchObject({ source: 'Guten Morgen!' })
      }
      expect(joined).toBe(alone)
    })
  })

  describe('translateMany', () => {
    it('gives translations in the order of the texts', async () => {
      const expected = await alma.translate(texts, direction)
      const byIterable = await collect(alma.translateMany(texts, { ...direction, batchTokens: 60 }))
      expect(byIterable.map(({ text }) => text)).toEqual(expected.map(({ text }) => text))
      async function* source(): AsyncGenerator<string> {
        for (const text of texts) yield text
      }
      const byAsync = await collect(alma.translateMany(source(), direction))
      expect(byAsync.map(({ source: text }) => text)).toEqual(texts)
      expect(await collect(alma.translateMany([], direction))).toEqual([])
    })

    it('reads no further than it needs, and closes the source when the loop is left', async () => {
      let read = 0
      let closed = false
      function* source(): Generator<string> {
        try {
          for (;;) {
            read++
            yield 'Guten Morgen!'
          }
        } finally {
          closed = true
        }
      }
      let received = 0
      for await (const { source: text } of alma.translateMany(source(), { ...direction, batchTokens: 200 })) {
        expect(text).toBe('Guten Morgen!')
        if (++received === 20) break
      }
      expect(closed).toBe(true)
      expect(read).toBeLessThan(100)
    })

    it('does not wait for texts that have not come yet', async () => {
      let release = (): void => {}
      async function* source(): AsyncGenerator<string> {
        yield 'Guten Morgen!'
        await new Promise<void>((resolve) => {
          release = resolve
        })
        yield 'Das Haus ist grün.'
      }
      const stream = alma.translateMany(source(), direction)
      expect((await stream.next()).value).toMatchObject({ source: 'Guten Morgen!' })
      release()
      expect((await stream.next()).value).toMatchObject({ source: 'Das Haus ist grün.' })
      expect((await stream.next()).done).toBe(true)
    })

    it('can be aborted while it waits, and passes on what the source throws', async () => {
      const controller = new AbortController()
      const never = (async function* (): AsyncGenerator<string> {
        await new Promise(() => {})
        yield ''
      })()
      const waiting = collect(alma.translateMany(never, { ...direction, signal: controller.signal }))
      setTimeout(() => controller.abort(new Error('enough')), 5)
      await expect(waiting).rejects.toThrow('enough')
      const failing = (async function* (): AsyncGenerator<string> {
        yield 'Guten Morgen!'
        throw new Error('the disk is gone')
      })()
      await expect(collect(alma.translateMany(failing, direction))).rejects.toThrow('the disk is gone')
      await expect(collect(alma.translateMany([5 as unknown as string], direction))).rejects.toMatchObject({
        code: 'ERR_ALMA_OPTION',
      })
    })
  })

  describe('score', () => {
    it('gives a translation the log-probability that generating it had', async () => {
      // EOS ends the text, so that the model's own answer can be given as a translation.
      const source = 'Das Haus ist grün.'
      const prompt = alma.tokenizer.encode(translationPrompt({ from: 'de', to: 'en', source }), { addBos: true })
      const target = ' The house is green'
      const [score] = await alma.score([{ source, target, from: 'de', to: 'en' }])
      const ids = [...prompt, ...(score?.tokenIds ?? [])]
      expect(alma.tokenizer.decode(ids)).toContain('English: The house is green')
      expect(score?.tokenIds.at(-1)).toBe(2)
      const [logits = new Float32Array()] = await alma.model.logits([ids])
      const { vocabSize } = alma.config
      let sum = 0
      for (let t = prompt.length; t < ids.length; t++) {
        const row = logits.subarray((t - 1) * vocabSize, t * vocabSize)
        const logprob = (row[ids[t] ?? 0] ?? 0) - Math.log(row.reduce((total, value) => total + Math.exp(value), 0))
        expect(Math.abs((score?.tokenLogprobs[t - prompt.length] ?? Number.NaN) - logprob)).toBeLessThan(1e-4)
        sum += logprob
      }
      expect(Math.abs((score?.logprob ?? Number.NaN) - sum)).toBeLessThan(1e-3)
      expect(score?.tokenLogprobs).toHaveLength(score?.tokenIds.length ?? -1)
    })

    it('says which pair is too long', async () => {
      const pairs = [
        { source: 'a', target: 'b', from: 'de', to: 'en' },
        { source: 'a', target: 'Haus '.repeat(300), from: 'de', to: 'en' },
      ]
      await expect(alma.score(pairs)).rejects.toMatchObject({
        code: 'ERR_ALMA_CONTEXT',
        message: expect.stringMatching(/pairs\[1\].*256/),
      })
      expect(await alma.score([])).toEqual([])
      const absent = [undefined] as unknown as typeof pairs
      await expect(alma.score(absent)).rejects.toMatchObject({ code: 'ERR_ALMA_OPTION' })
    })
  })

  it('evaluates: scores, and the loss of the references', async () => {
    const pairs = [
      { source: 'Guten Morgen!', target: 'Good morning!' },
      { source: 'Das Haus ist grün.', target: 'The house is green.' },
    ]
    const result = await alma.evaluate(pairs, direction)
    const scores = await alma.score(pairs.map((pair) => ({ ...pair, from: 'de', to: 'en' })))
    const tokens = scores.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0)
    expect(result.loss).toBeCloseTo(-scores.reduce((sum, { logprob }) => sum + logprob, 0) / tokens, 6)
    expect(result.count).toBe(2)
    const translations = await alma.translate(
      pairs.map(({ source }) => source),
      direction,
    )
    expect(result.sentences.map(({ translation }) => translation)).toEqual(translations.map(({ text }) => text))
    expect(result.bleu.signature).toContain('tok:13a')
    expect(result.chrf.score).toBeGreaterThanOrEqual(0)
    await expect(alma.evaluate(pairs, { maxNewTokens: 5 })).rejects.toMatchObject({ code: 'ERR_ALMA_OPTION' })
    await expect(alma.evaluate([], direction)).rejects.toMatchObject({ code: 'ERR_ALMA_CORPUS' })
  })

  describe('save and load', () => {
    let folder: string
    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), 'alma-test-'))
    })
    afterAll(() => rm(folder, { recursive: true, force: true }))

    it('is the same model again', async () => {
      await alma.save(folder)
      const names = await readdir(folder)
      expect(names).toEqual(expect.arrayContaining(['config.json', 'model.safetensors', 'tokenizer.json']))
      await using again = await Alma.load(folder, { device })
      expect(await again.translate(texts, direction)).toEqual(await alma.translate(texts, direction))
      // Over itself, while its weights lie in the file that is replaced.
      await again.save(folder)
      expect(await again.translate(texts, direction)).toEqual(await alma.translate(texts, direction))
    })

    it('works on ids without a tokenizer', async () => {
      await alma.save(folder)
      for (const name of await readdir(folder)) if (name.startsWith('tokenizer')) await rm(join(folder, name))
      await using bare = await Alma.load(folder, { device })
      const error = { code: 'ERR_ALMA_TOKENIZER', message: expect.stringContaining(folder) }
      expect(() => bare.tokenizer).toThrow(expect.objectContaining(error))
      await expect(bare.translate('x', direction)).rejects.toMatchObject(error)
      await expect(bare.generate(['x'])).rejects.toMatchObject(error)
      const [generation] = await bare.generate([[1, 5]], { maxNewTokens: 4 })
      expect(generation?.tokenIds).toHaveLength(4)
      expect(generation).not.toHaveProperty('text')
      expect(await bare.model.logits([[1, 5]])).toHaveLength(1)
    })

    it('explains what cannot be loaded', async () => {
      await expect(Alma.load(join(folder, 'absent'), { device })).rejects.toMatchObject({ code: 'ERR_ALMA_CONFIG' })
      await expect(Alma.load(folder, { device: 'abacus' })).rejects.toMatchObject({ code: 'ERR_ALMA_DEVICE' })
      await expect(Alma.load(folder, { devise: 'cpu' } as object)).rejects.toThrow(/did you mean "device"/)
      await expect(Alma.load(folder, { dtype: 'f16' as 'f32' })).rejects.toMatchObject({ code: 'ERR_ALMA_OPTION' })
      await expect(Alma.load(folder, { adapter: 'x' })).rejects.toMatchObject({ code: 'ERR_ALMA_ADAPTER' })
    })
  })

  describe('dispose', () => {
    it('ends calls in progress and frees the memory of a device that stays open', async () => {
      const shared = Device.open(device)
      const { config } = alma
      const before = shared.memory().allocated
      const short = await Alma.create({ ...config, extra: {} }, { device: shared, tokenizer: alma.tokenizer })
      const stream = short.translateStream('Guten Morgen!', direction)
      await stream.next()
      const running = short.generate([[1, 5, 6]], { maxNewTokens: 250, eosTokenId: [] })
      running.catch(() => {})
      await short.dispose()
      await short.dispose()
      expect(shared.memory().allocated).toBe(before)
      const gone = { code: 'ERR_ALMA_DISPOSED' }
      await expect(running).rejects.toMatchObject(gone)
      await expect(stream.next()).rejects.toMatchObject(gone)
      await expect(short.translate('x', direction)).rejects.toMatchObject(gone)
      await expect(short.generate([[5]])).rejects.toMatchObject(gone)
      await expect(short.save('/nowhere')).rejects.toMatchObject(gone)
      expect(() => short.model).toThrow(expect.objectContaining(gone))
      expect(shared.disposed).toBe(false)
      await shared.dispose()
    })

    it('closes a device that it opened', async () => {
      const own = await tinyAlma()
      const running = own.generate([[1, 5, 6]], { maxNewTokens: 250, eosTokenId: [] })
      running.catch(() => {})
      await own.dispose()
      expect(own.device.disposed).toBe(true)
      await expect(running).rejects.toMatchObject({ code: 'ERR_ALMA_DISPOSED' })
    })
  })
})
