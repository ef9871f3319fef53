/** What decoding takes, ours in turns with itself and with other programs on the same weights, threads and prompts. */
import type { LlamaForCausalLM } from '../lib/model/index.js'
import { ours } from './decode-ours.js'
import type { PeerFigure } from './harness.js'
import { syntheticIds } from './models.js'
import { type TaskDType, type TaskPeer, TaskRunner } from './peers/task-peer.js'
import { TorchLlama } from './peers/torch-llama.js'
import { type Contestant, type Cost, costsInTurns, type Lengths } from './turns.js'

/** Tokens. */
export const [promptLength, longPrompt] = [16, 512] as const
export const numBeams = 5

/** A long prompt, so many short ones continued together, or one with beams. */
export type Task = 'prompt' | 'beams' | number

/** What other programs do too. */
const compared: readonly Task[] = ['prompt', 1, 8]

export class DecodeComparison {
  readonly #model: LlamaForCausalLM
  readonly #lengths: Lengths
  /** The best of all turns. */
  readonly #best = new Map<Task, number>()
  /** Of those in turns with each other. */
  readonly #steps = new Map<Task, Cost>()
  readonly #others = new Map<Task, PeerFigure[]>()

  constructor(model: LlamaForCausalLM, lengths: Lengths) {
    this.#model = model
    this.#lengths = lengths
  }

  /** The long prompt, and the steps of several batches and of beams in turns. */
  async alone(batches: readonly number[]): Promise<void> {
    const [prompt] = await costsInTurns([this.#ours('prompt')], this.#lengthsOf('prompt'))
    this.#keep('prompt', prompt)
    const steps: readonly Task[] = [...batches, 'beams']
    const costs = await costsInTurns(
      steps.map((task) => this.#ours(task)),
      this.#lengths,
    )
    for (const [index, task] of steps.entries()) {
      const cost = costs[index]
      this.#keep(task, cost)
      if (cost !== undefined) this.#steps.set(task, cost)
    }
  }

  /** Returns why there are no figures, or not all of them. */
  async beside(peer: TaskPeer, dtype: TaskDType): Promise<string | undefined> {
    await using runner = await TaskRunner.open(peer, this.#model, dtype, this.#model.device.threads)
    for (const task of compared) {
      await runner.begin(this.#prompts(task), this.#lengths.many)
      if (runner.reason !== undefined) break
      const theirs = await this.#compare(task, (count) => runner.run(count))
      if (theirs !== undefined) this.#addOther(task, runner.name, theirs)
    }
    return runner.reason
  }

  /** The long prompt alone. Returns why there is no figure. */
  async besideTorch(dtype: TaskDType): Promise<string | undefined> {
    const { device, config } = this.#model
    await using torch = new TorchLlama(device, config, { op: 'prompt', dtype, length: longPrompt })
    // Builds its model at first; without one there is nothing to compare.
    if ((await torch.run()) === undefined) return torch.reason
    const theirs = await this.#compare('prompt', () => torch.run())
    if (theirs !== undefined) this.#addOther('prompt', torch.name, theirs)
    return torch.reason
  }

  /** Tokens a second, of all sequences together. */
  tokensPerSecond(task: Task): number {
    return tokensOf(task) / (this.#best.get(task) ?? Number.NaN)
  }

  /** In tokens a second. */
  others(task: Task): readonly PeerFigure[] {
    return this.#others.get(task) ?? []
  }

  /** Seconds of a step beside one of a single sequence. */
  besideSingle(task: Task): number {
    return this.#step(task).seconds / this.#step(1).seconds
  }

  /** The part of a step that the JavaScript thread computes. */
  busy(task: Task): number {
    return this.#step(task).busy
  }

  #step(task: Task): Cost {
    return this.#steps.get(task) ?? { seconds: Number.NaN, busy: Number.NaN }
  }

  #ours(task: Task): Contestant {
    return ours(this.#model, this.#prompts(task), task === 'beams' ? { numBeams } : {})
  }

  #prompts(task: Task): number[][] {
    if (task === 'prompt') return [syntheticIds(this.#model.config, longPrompt)]
    const sequences = task === 'beams' ? 1 : task
    return Array.from({ length: sequences }, (_, i) => syntheticIds(this.#model.config, promptLength, i + 1))
  }

  #lengthsOf(task: Task): Lengths {
    return task === 'prompt' ? { few: 0, many: 1, repeats: this.#lengths.repeats } : this.#lengths
  }

  async #compare(task: Task, other: Contestant): Promise<Cost | undefined> {
    const [own, theirs] = await costsInTurns([this.#ours(task), other], this.#lengthsOf(task))
    this.#keep(task, own)
    return theirs
  }

  #keep(task: Task, cost: Cost | undefined): void {
    if (cost !== undefined)
      this.#best.set(task, Math.min(cost.seconds, this.#best.get(task) ?? Number.POSITIVE_INFINITY))
  }

  #addOther(task: Task, name: string, { seconds }: Cost): void {
    this.#others.set(task, [...this.others(task), { name, value: tokensOf(task) / seconds }])
  }
}

function tokensOf(task: Task): number {
  return task === 'prompt' ? longPrompt : task === 'beams' ? 1 : task
}
