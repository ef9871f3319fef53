import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { Random } from '../../lib/text/index.js'
import { type TokenSequence, TokenStore, writeTokenStore } from '../../lib/text/token-store.js'

const folder = mkdtempSync(join(tmpdir(), 'alma-store-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function randomSequences(count: number, vocabSize: number): TokenSequence[] {
  const random = new Random(7)
  return Array.from({ length: count }, () => {
    const ids = Array.from({ length: random.below(40) }, () => random.below(vocabSize))
    return { ids, firstLabel: random.below(ids.length + 1) }
  })
}

async function write(name: string, sequences: readonly TokenSequence[], vocabSize: number): Promise<string> {
  const path = join(folder, name)
  await writeTokenStore(path, vocabSize, async (add) => {
    for (const sequence of sequences) await add(sequence)
    return { about: 'this' }
  })
  return path
}

describe('token stores', () => {
  test.each([
    ['two bytes a token', 65_536, 2],
    ['four bytes a token', 65_537, 4],
  ])('%s', async (name, vocabSize, width) => {
    const sequences = [...randomSequences(300, vocabSize), { ids: [vocabSize - 1, 0], firstLabel: 2 }]
    const path = await write(name, sequences, vocabSize)
    const store = await TokenStore.open(path)
    expect(store.count).toBe(301)
    expect(store.about).toEqual({ about: 'this' })
    // In any order.
    for (let i = sequences.length - 1; i >= 0; i--) {
      expect(await store.read(i)).toEqual(sequences[i])
      expect(store.lengthOf(i)).toBe(sequences[i]?.ids.length)
    }
    await store.close()
    const tokens = sequences.reduce((sum, { ids }) => sum + ids.length, 0)
    expect(statSync(path).size).toBeLessThan(tokens * width + sequences.length * 8 + 200)
  })

  test('without any sequence, and larger than the pieces in which it is written', async () => {
    const empty = await TokenStore.open(await write('empty', [], 100))
    expect(empty.count).toBe(0)
    await empty.close()
    const long = { ids: Array.from({ length: 900_000 }, (_, i) => i % 70_000), firstLabel: 3 }
    const store = await TokenStore.open(await write('long', [long, { ids: [5], firstLabel: 0 }], 70_000))
    expect(await store.read(0)).toEqual(long)
    expect(await store.read(1)).toEqual({ ids: [5], firstLabel: 0 })
    await store.close()
  })

  test('every flipped byte and every cut is noticed', async () => {
    const path = await write('whole', randomSequences(4, 500), 500)
    const whole = readFileSync(path)
    const broken = join(folder, 'broken')
    for (let at = 0; at < whole.length; at++) {
      const flipped = Buffer.from(whole)
      flipped[at] = (flipped[at] as number) ^ 0x10
      writeFileSync(broken, flipped)
      await expect(TokenStore.open(broken), `byte ${at}`).rejects.toMatchObject({ code: 'ERR_ALMA_CORPUS' })
      writeFileSync(broken, whole.subarray(0, at))
      await expect(TokenStore.open(broken), `${at} bytes`).rejects.toMatchObject({ code: 'ERR_ALMA_CORPUS' })
    }
  })

  test('a store that could not be completed leaves nothing behind', async () => {
    const path = join(folder, 'failed')
    const writing = writeTokenStore(path, 10, async (add) => {
      await add({ ids: [1], firstLabel: 0 })
      throw new Error('no more text')
    })
    await expect(writing).rejects.toThrow('no more text')
    await expect(TokenStore.open(path)).rejects.toMatchObject({ code: 'ERR_ALMA_IO' })
  })
})
