/** What the benchmark makes of runs, and of programs that answer a line a request. */
import { describe, expect, it } from 'vitest'
import { LinePeer } from '../../bench/peers/lines.js'
import { type Contestant, costsInTurns, type Run } from '../../bench/turns.js'

/** Takes the next of `runs`, and remembers what it was asked for. */
function scripted(name: string, log: string[], runs: readonly (number | Run | undefined)[]): Contestant {
  let at = 0
  return async (tokens) => {
    log.push(`${name}${tokens}`)
    const run = runs[at++]
    return typeof run === 'number' ? { seconds: run } : run
  }
}

describe('costs in turns', () => {
  it('are those of the tokens between a short answer and a long one, of each the best', async () => {
    const log: string[] = []
    const a = scripted('a', log, [99, 3, 14, 2, 13])
    const b = scripted('b', log, [99, 10, 30, 11, 27])
    const costs = await costsInTurns([a, b], { few: 2, many: 12, repeats: 2 })
    expect(log).toEqual(['a2', 'b2', 'a2', 'a12', 'b2', 'b12', 'a2', 'a12', 'b2', 'b12'])
    expect(costs.map((cost) => cost?.seconds)).toEqual([1.1, 1.7])
  })

  it('are those of the whole answer where no short one is asked for', async () => {
    const log: string[] = []
    const costs = await costsInTurns([scripted('a', log, [99, 5, 4, 6])], { few: 0, many: 1, repeats: 3 })
    expect(log).toEqual(['a1', 'a1', 'a1', 'a1'])
    expect(costs).toEqual([{ seconds: 4, busy: 0 }])
  })

  it("have JavaScript's part of the steps", async () => {
    const runs = [
      99,
      { seconds: 2, busy: 1 },
      { seconds: 12, busy: 3 },
      { seconds: 3, busy: 0.5 },
      { seconds: 13, busy: 4 },
    ]
    const [cost] = await costsInTurns([scripted('a', [], runs)], { few: 5, many: 10, repeats: 2 })
    expect(cost).toEqual({ seconds: 2, busy: 0.25 })
  })

  it('leave out who has no answer, and ask no more', async () => {
    const log: string[] = []
    const a = scripted('a', log, [9, 1, 1])
    const b = scripted('b', log, [9, undefined])
    expect(await costsInTurns([b, a], { few: 0, many: 1, repeats: 2 })).toEqual([undefined, { seconds: 1, busy: 0 }])
    expect(log).toEqual(['b1', 'a1', 'b1', 'a1', 'a1'])
  })
})

describe('a program that answers lines', () => {
  const peer = (program: string, patience = 60): LinePeer =>
    new LinePeer('a peer', process.execPath, ['-e', program], { patience })

  it('may say other things meanwhile', async () => {
    const program = `
      console.log('welcome')
      require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
        console.error('working')
        console.log('almost there\\n' + JSON.stringify({ name: 'it', seconds: JSON.parse(line).n / 4 }))
      })`
    await using it = peer(program)
    expect(await it.ask({ n: 6 })).toEqual({ name: 'it', seconds: 1.5 })
    expect(await it.ask({ n: 2 })).toEqual({ name: 'it', seconds: 0.5 })
  })

  it.each([
    ['ends', 'process.stdin.once("data", () => process.exit(3))', 'exit status 3'],
    ['fails', 'throw new RangeError("too much")', 'exit status 1: RangeError: too much'],
    [
      'talks nonsense',
      'process.stdin.once("data", () => console.log("{nonsense"))',
      expect.stringMatching(/^not an answer: /),
    ],
  ])('that %s has no figure', async (_, program, reason) => {
    await using it = peer(program)
    expect(await it.ask({})).toEqual({ name: 'a peer', seconds: null, reason })
    expect(await it.ask({})).toEqual({ name: 'a peer', seconds: null, reason })
  })

  it.skipIf(process.platform !== 'linux')('has its figure when it is idle again', async () => {
    const program = `
      require('node:readline').createInterface({ input: process.stdin }).on('line', () => {
        console.log(JSON.stringify({ name: 'it', seconds: 1 }))
        setTimeout(() => { for (const end = performance.now() + 700; performance.now() < end; ); }, 10)
      })`
    await using it = peer(program)
    const begin = performance.now()
    expect(await it.ask({})).toEqual({ name: 'it', seconds: 1 })
    expect(performance.now() - begin).toBeGreaterThan(600)
  })

  it('that takes too long is ended', async () => {
    await using it = peer('setInterval(() => {}, 1000)', 0.2)
    expect(await it.ask({})).toEqual({ name: 'a peer', seconds: null, reason: 'no answer within 0.2 s' })
  })

  it('that does not exist has no figure', async () => {
    await using it = new LinePeer('a peer', 'no-such-program-anywhere', [])
    expect(await it.ask({})).toEqual({ name: 'a peer', seconds: null, reason: 'spawn no-such-program-anywhere ENOENT' })
  })
})
