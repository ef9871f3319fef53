/**
 * Peers of the decoding benchmark: programs of npm that are no dependencies, each in a child process, on our weights in a file format of
 * theirs. `npm install --prefix DIR PACKAGE`, and `ALMA_BENCH_PEERS=DIR` names the folder; one folder does for all of them.
 */
import { existsSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { messageOf } from '../../lib/errors.js'
import { removeStaleTemporaries, temporaryPath } from '../../lib/files/temporary.js'
import type { LlamaForCausalLM } from '../../lib/model/index.js'
import { LinePeer, peerProgram } from './lines.js'
import { type PeerRun, PeerRunner } from './runner.js'

export type TaskDType = 'f32' | 'bf16'

export interface TaskPeer {
  readonly name: string
  /** Of npm. */
  readonly packageName: string
  /** In bench/peers; its arguments are the folder that has node_modules, threads, and what `save` gave. */
  readonly program: string
  readonly dtypes: readonly TaskDType[]
  /** Writes the model into the folder, and gives the path that the program wants. */
  save(model: LlamaForCausalLM, directory: string, dtype: TaskDType): Promise<string>
}

/** Seconds. A peer that takes longer for an answer, loading included, is ended, and has no figures. */
const patience = 20 * 60

export function isInstalled({ packageName }: TaskPeer): boolean {
  const folder = process.env.ALMA_BENCH_PEERS
  return folder !== undefined && existsSync(join(folder, 'node_modules', packageName, 'package.json'))
}

/** A peer with its model, that continues prompts when it is asked to. */
export class TaskRunner extends PeerRunner {
  readonly #directory: string

  private constructor(peer: TaskPeer, directory: string, program: LinePeer | string) {
    super(peer.name, program)
    this.#directory = directory
  }

  /** Never throws: one that is missing or that fails has a `reason`. */
  static async open(peer: TaskPeer, model: LlamaForCausalLM, dtype: TaskDType, threads: number): Promise<TaskRunner> {
    const directory = temporaryPath(join(tmpdir(), 'alma-bench'))
    if (!isInstalled(peer)) {
      const install = `npm install --prefix DIR ${peer.packageName}, and ALMA_BENCH_PEERS=DIR names the folder`
      return new TaskRunner(peer, directory, `not found; ${install}`)
    }
    try {
      // Gigabytes: those of a run that was killed go too.
      await removeStaleTemporaries(tmpdir())
      await mkdir(directory, { mode: 0o700 })
      const path = await peer.save(model, directory, dtype)
      const folder = process.env.ALMA_BENCH_PEERS ?? ''
      const args = [peerProgram(peer.program), folder, String(threads), path]
      return new TaskRunner(peer, directory, new LinePeer(peer.name, process.execPath, args, { patience, rest: 3 }))
    } catch (error) {
      return new TaskRunner(peer, directory, `no figures, ${messageOf(error)}`)
    }
  }

  /** What is continued from now on, by at most `room` tokens: prompts of one length. Loads the model at first. */
  async begin(prompts: readonly (readonly number[])[], room: number): Promise<void> {
    await this.ask({ prompts, room })
  }

  /** Continues all prompts by `count` tokens, greedily and past any end of text. `undefined`: there is a reason. */
  run(count: number): Promise<PeerRun | undefined> {
    return this.ask({ count })
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]()
    await rm(this.#directory, { recursive: true, force: true })
  }
}
