/** Fine-tuning with LoRA: what is trained, what is written, and going on. */
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Alma, type Stage } from '../../lib/index.js'
import { readSafetensorsHeader } from '../../lib/model/safetensors.js'
import type { TrainingEvent } from '../../lib/train/index.js'
import { type TinyData, tinyAlma, tinyData } from './support.js'

const device = process.env.ALMA_DEVICE ?? 'cpu'
let data: TinyData
let folder: string
let base: string
beforeAll(async () => {
  data = await tinyData()
  folder = await mkdtemp(join(tmpdir(), 'alma-lora-train-'))
  base = join(folder, 'base')
  await using alma = await tinyAlma(data, 5, 'f32', device, 0.2)
  // Something to adapt: a stage of all weights first.
  await alma.finetune(parallel({ lora: undefined, maxSteps: 20 }))
  await alma.save(base)
})
afterAll(async () => {
  await rm(folder, { recursive: true, force: true })
  await rm(data.folder, { recursive: true, force: true })
})

const load = (directory = base): Promise<Alma> => Alma.load(directory, { device, dtype: 'f32' })

function parallel(fields: object = {}): Stage {
  return {
    kind: 'parallel',
    pairs: [{ path: data.train, from: 'de', to: 'en' }],
    validation: [{ path: data.validation, from: 'de', to: 'en' }],
    batchSize: 16,
    maxSteps: 12,
    learningRate: 1e-2,
    lora: { rank: 4, alpha: 8, dropout: 0.1, targetModules: 'all-linear' },
    ...fields,
  }
}

async function weightsOf(alma: Alma): Promise<Map<string, Float32Array>> {
  const weights = new Map<string, Float32Array>()
  for (const [name, tensor] of alma.model.namedParameters()) weights.set(name, await tensor.readFloats())
  for (const { name, tensor } of alma.model.adapter?.parameters() ?? []) weights.set(name, await tensor.readFloats())
  return weights
}

describe('finetune with lora', () => {
  test('lowers the loss with the weights as they were, and leaves an adapter that opens', async () => {
    await using untouched = await load()
    const before = await weightsOf(untouched)
    await using alma = await load()
    const output = join(folder, 'trained')
    const { stages } = await alma.finetune(parallel({ maxSteps: 40, learningRate: 3e-2 }), { output })
    const losses = stages[0]?.validation.map(({ loss }) => loss) ?? []
    expect(losses.at(-1)).toBeLessThan((losses[0] ?? 0) - 0.1)
    const after = await weightsOf(alma)
    for (const [name, values] of before) expect(after.get(name), name).toEqual(values)
    expect(after.size).toBe(before.size + 2 * 14)

    const files = await readdir(output)
    expect(files).toContain('adapter_config.json')
    expect(files).not.toContain('model.safetensors')
    await using opened = await load(output)
    expect(await weightsOf(opened)).toEqual(after)
    const text = { from: 'de', to: 'en', maxNewTokens: 20 } as const
    const source = 'Das Haus ist alt.'
    expect((await opened.translate(source, text)).tokenIds).toEqual((await alma.translate(source, text)).tokenIds)
  })

  test('gradients and moments are those of the adapter alone', async () => {
    const allocated = async (fields: object): Promise<number> => {
      await using alma = await load()
      let most = 0
      await alma.finetune(parallel({ maxSteps: 1, validation: undefined, ...fields }), {
        onProgress: (event) => {
          if (event.type === 'step') most = event.memory.allocated
        },
      })
      return most
    }
    await using alma = await load()
    const bytes = alma.model.parameterCount * 4
    // A full fine-tune has gradients and two moments of every weight besides.
    expect((await allocated({ lora: undefined })) - (await allocated({}))).toBeGreaterThan(2 * bytes)
  })

  test.each([3, 9])(
    'aborted in step %i and resumed, it ends with the same bits; checkpoints hold the adapter only',
    async (step) => {
      const expected = await (async () => {
        await using alma = await load()
        const report = await alma.finetune(parallel(), { output: join(folder, `whole-${step}`) })
        return { weights: await weightsOf(alma), losses: report.stages[0]?.losses }
      })()
      const output = join(folder, `resumed-${step}`)
      {
        await using alma = await load()
        const controller = new AbortController()
        const onProgress = (event: TrainingEvent): void => {
          if (event.type === 'step' && event.record.step === step) controller.abort(new Error('stop now'))
        }
        const run = alma.finetune(parallel(), { output, signal: controller.signal, onProgress })
        await expect(run).rejects.toThrow('stop now')
      }
      const [checkpoint = ''] = await readdir(join(output, 'checkpoints'))
      const header = await readSafetensorsHeader(join(output, 'checkpoints', checkpoint, 'training-state.safetensors'))
      const names = [...header.tensors.keys()]
      expect(names.length).toBe(3 * 2 * 14)
      expect(
        names.every((name) => /^(param|exp_avg|exp_avg_sq)\.base_model\.model\..*\.lora_[AB]\.weight$/.test(name)),
      ).toBe(true)
      await using alma = await load()
      const report = await alma.finetune(parallel(), { output, resume: true })
      expect(report.stages[0]?.losses).toEqual(expected.losses)
      expect(await weightsOf(alma)).toEqual(expected.weights)
    },
  )

  test('after a stage of all weights the whole model is left, and resuming brings both back', async () => {
    const stages = (): Stage[] => [
      parallel({ lora: undefined, maxSteps: 4, learningRate: 1e-3 }),
      parallel({ maxSteps: 6 }),
    ]
    await using whole = await load()
    const report = await whole.finetune(stages(), { output: join(folder, 'both') })
    const output = join(folder, 'both-resumed')
    {
      await using alma = await load()
      const controller = new AbortController()
      const onProgress = (event: TrainingEvent): void => {
        if (event.type === 'step' && event.stage === 1 && event.record.step === 2) controller.abort(new Error('stop'))
      }
      await expect(alma.finetune(stages(), { output, signal: controller.signal, onProgress })).rejects.toThrow('stop')
    }
    await using alma = await load()
    const resumed = await alma.finetune(stages(), { output, resume: true })
    expect(resumed.stages.map(({ losses }) => losses)).toEqual(report.stages.map(({ losses }) => losses))
    expect(await weightsOf(alma)).toEqual(await weightsOf(whole))
    expect(existsSync(join(output, 'model.safetensors'))).toBe(true)
    expect(existsSync(join(output, 'adapter_config.json'))).toBe(false)
    await using opened = await load(output)
    await using other = await load(join(folder, 'both'))
    expect(await weightsOf(opened)).toEqual(await weightsOf(other))
    const ids = [[1, 5, 9]]
    const [a, b] = [(await opened.model.logits(ids))[0] ?? [], (await alma.model.logits(ids))[0] ?? []]
    expect(Math.max(...Array.from(a, (x, i) => Math.abs(x - (b[i] ?? 0))))).toBeLessThan(1e-3)
  })

  test('a second stage of the same form goes on with the adapter, whatever its dropout', async () => {
    await using alma = await load()
    const output = join(folder, 'two-stages')
    const lora = { rank: 4, alpha: 8, targetModules: 'all-linear' } as const
    await alma.finetune([parallel({ maxSteps: 3 }), parallel({ maxSteps: 3, lora: { ...lora, dropout: 0 } })], {
      output,
    })
    expect(alma.adapters).toEqual(['default'])
    expect(existsSync(join(output, 'adapter_config.json'))).toBe(true)
    expect(existsSync(join(output, 'model.safetensors'))).toBe(false)
  })

  test('activation checkpointing changes no bit, dropout included', async () => {
    const run = async (activationCheckpointing: string): Promise<number[]> => {
      await using alma = await load()
      const report = await alma.finetune(parallel({ maxSteps: 4, activationCheckpointing }))
      return report.stages[0]?.losses.flatMap(({ loss, gradNorm }) => [loss, gradNorm]) ?? []
    }
    const kept = await run('none')
    for (const mode of ['selective', 'full']) expect(await run(mode), mode).toEqual(kept)
  })

  test('a step over micro-batches without dropout equals the step over the whole batch', async () => {
    const run = async (microBatchSize: number): Promise<number[]> => {
      await using alma = await load()
      const lora = { rank: 4, dropout: 0, targetModules: ['q_proj', 'down_proj'] }
      const report = await alma.finetune(parallel({ maxSteps: 4, microBatchSize, lora }))
      return report.stages[0]?.losses.map(({ loss }) => loss) ?? []
    }
    const [whole, parts] = [await run(16), await run(4)]
    for (const [i, loss] of whole.entries()) expect(parts[i]).toBeCloseTo(loss, 4)
  })

  test.each([
    [{ rnak: 4 }, /lora.*"rnak".*did you mean "rank"/],
    [{ rank: 0 }, /lora.*positive integer for "rank", got 0/],
    [{ dropout: 1 }, /"dropout", got 1/],
    [{ targetModules: ['down_porj'] }, /targetModules/],
  ])('lora: %j is refused', async (lora, message) => {
    await using alma = await load()
    await expect(alma.finetune(parallel({ lora }))).rejects.toMatchObject({
      code: 'ERR_ALMA_OPTION',
      message: expect.stringMatching(message),
    })
  })
})
