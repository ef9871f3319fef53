/**
 * What all benchmarks share: figures, the ceilings that stand beside them, and timing.
 *
 * A ceiling is measured on the same machine in the same run, right before the figures that are held against it: other programs come
 * and go, and a ceiling from yesterday says little. No timing ever fails anything.
 */
import Benchmark from 'benchmark'
import type { Device } from '../lib/runtime/index.js'

export interface Figure {
  readonly name: string
  readonly shape: string
  readonly value: number
  readonly unit: string
  /** What the machine can do at best, in the same unit. */
  readonly ceiling: number | null
  /** Of what is better when it is larger: value / ceiling; of what is better when it is smaller: ceiling / value. 1 is perfect. */
  readonly ratioToCeiling: number | null
  /** Another program that does the same. */
  readonly peer: string | null
  readonly peerValue: number | null
  readonly ratioToPeer: number | null
  /** Slower ones. */
  readonly otherPeers: readonly PeerFigure[]
  /** For people: `≥ 50 %`, `< 2 µs`. */
  readonly goal: string
}

export interface PeerFigure {
  readonly name: string
  readonly value: number
}

export interface Report {
  section(title: string): void
  add(figure: Figure, goal?: string): void
  /** What is not a figure: a peer that is missing, and how to get it. Said once. */
  note(text: string): void
}

export interface BenchContext {
  readonly device: Device
  readonly report: Report
  /** Small problems only: whether everything works, not how fast. */
  readonly quick?: boolean
}

export type Bench = (context: BenchContext) => Promise<void>

export interface FigureInput {
  readonly name: string
  readonly shape: string
  readonly value: number
  readonly unit: string
  readonly ceiling?: number
  /** Times and bytes: the ceiling lies below the value. Default false. */
  readonly smallerIsBetter?: boolean
  readonly peer?: PeerFigure
  /** Several of them; the best is the one to beat. */
  readonly peers?: readonly PeerFigure[]
}

export function figure(input: FigureInput): Figure {
  const { name, shape, value, unit, ceiling, smallerIsBetter = false } = input
  const better = (a: PeerFigure, b: PeerFigure): number => (smallerIsBetter ? a.value - b.value : b.value - a.value)
  const [peer, ...otherPeers] = [...(input.peer === undefined ? [] : [input.peer]), ...(input.peers ?? [])].sort(better)
  const ratio = (to: number | undefined): number | null => {
    if (to === undefined) return null
    return smallerIsBetter ? to / value : value / to
  }
  return {
    name,
    shape,
    value,
    unit,
    ceiling: ceiling ?? null,
    ratioToCeiling: ratio(ceiling),
    peer: peer?.name ?? null,
    peerValue: peer?.value ?? null,
    ratioToPeer: ratio(peer?.value),
    otherPeers,
    goal: '',
  }
}

type Ceiling = 'fma' | 'bf16dot' | 'read' | 'copy'

const bestSeen = new WeakMap<Device, Map<Ceiling, number>>()

/**
 * The device's best: FLOP/s for `'fma'` and `'bf16dot'`, bytes/s for `'read'` and `'copy'`. Measured now, but never below what was seen earlier in
 * this run: another program that happens to run during the probe must not make a figure look good.
 */
export async function ceilingOf(device: Device, what: Ceiling): Promise<number> {
  const seen = bestSeen.get(device) ?? new Map<Ceiling, number>()
  bestSeen.set(device, seen)
  const seconds = seen.has(what) ? 0.3 : 1
  const best = Math.max(seen.get(what) ?? 0, await device.probe(what, { bytes: 256 * 2 ** 20, seconds }))
  seen.set(what, best)
  return best
}

/** FLOP/s of products: those of bf16 are f32 multiply-adds where the processor has nothing better. */
export async function productCeilingOf(device: Device, dtype: 'f32' | 'bf16'): Promise<number> {
  const fma = await ceilingOf(device, 'fma')
  return dtype === 'bf16' ? Math.max(fma, await ceilingOf(device, 'bf16dot')) : fma
}

/**
 * What is measured at a time, at least; the best piece counts. Long enough that the way to the device and back is little of it, short enough
 * that what else the machine does leaves some pieces alone: the ceilings and the other programs are the best of single calls.
 */
const PIECE_SECONDS = 0.02

/**
 * Seconds that one call of `enqueue` takes on the device: the best sample of benchmark.js, as the ceilings are the best of theirs.
 * As many as fill a piece at `atBest` seconds each share one round trip, so that its cost does not count for short ops.
 */
export async function deviceSeconds(
  device: Device,
  enqueue: () => void,
  atBest = Number.POSITIVE_INFINITY,
): Promise<number> {
  const calls = Math.max(1, Math.round(PIECE_SECONDS / atBest))
  enqueue()
  await device.synchronize()
  const best = await bestOf((deferred) => {
    for (let i = 0; i < calls; i++) enqueue()
    device.synchronize().then(
      () => deferred.resolve(),
      () => deferred.benchmark.abort(),
    )
  })
  // Whatever went wrong comes out here, with its own message.
  await device.synchronize()
  return best / calls
}

/**
 * Seconds of what reads `bytes` of memory, in short turns with the bandwidth of reading, bytes/s: the best of both. On a machine that is shared,
 * memory is half as fast in one second as in the next, so that the best of the whole run would say nothing.
 */
export async function besideReading(
  device: Device,
  enqueue: () => void,
  bytes: number,
): Promise<{ seconds: number; bandwidth: number }> {
  const read = (): Promise<number> => device.probe('read', { bytes: 256 * 2 ** 20, seconds: 0.05 })
  let bandwidth = await read()
  let seconds = Number.POSITIVE_INFINITY
  for (let turn = 0; turn < 12; turn++) {
    const calls = Math.max(1, Math.round((PIECE_SECONDS * bandwidth) / bytes))
    for (let piece = 0; piece < 3; piece++) {
      const begin = performance.now()
      for (let i = 0; i < calls; i++) enqueue()
      await device.synchronize()
      seconds = Math.min(seconds, (performance.now() - begin) / 1000 / calls)
    }
    bandwidth = Math.max(bandwidth, await read())
  }
  return { seconds, bandwidth }
}

/** Seconds of a synchronous body on the JavaScript thread. */
export function callSeconds(body: () => void): Promise<number> {
  return new Promise((resolve, reject) => {
    new Benchmark({
      fn: body,
      maxTime: 0.5,
      async: true,
      onComplete(this: Benchmark) {
        settle(this, resolve, reject)
      },
    }).run({ async: true })
  })
}

function bestOf(body: (deferred: { resolve(): void; benchmark: Benchmark }) => void): Promise<number> {
  return new Promise((resolve, reject) => {
    new Benchmark({
      fn: body,
      defer: true,
      maxTime: 0.6,
      minTime: PIECE_SECONDS,
      minSamples: 4,
      onComplete(this: Benchmark) {
        settle(this, resolve, reject)
      },
    }).run({ async: true })
  })
}

function settle(done: Benchmark, resolve: (seconds: number) => void, reject: (error: unknown) => void): void {
  const samples = done.stats.sample as number[]
  if (samples.length === 0) reject(done.error ?? new Error('the benchmark gave no sample'))
  else resolve(Math.min(...samples))
}
