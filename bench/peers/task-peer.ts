/**
 * Peers of the decoding benchmark: programs of npm that are no dependencies, each in a child process, on our weights in a file format of
 * theirs. `npm install --prefix DIR PACKAGE`, and `ALMA_BENCH_PEERS=DIR` names the folder; one folder does for all of them.
 */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { messageOf } from '../../lib/errors.js'
import { removeStaleTemporaries, temporaryPath } from '../../lib/files/temporary.js'
import type { LlamaForCausalLM } from '../../lib/model/index.js'
import { peerProgram } from './lines.js'

/** Prompts that are continued together, greedily and past any end of text. */
export interface PeerTask {
  readonly prompts: readonly (readonly number[])[]
  /** Tokens of a short answer; 0: the time of the prompt and `many` tokens is wanted. */
  readonly few: number
  readonly many: number
  readonly repeats: number
}

export interface PeerResult {
  /** With its version. */
  readonly name: string
  readonly seconds: number
  readonly tokens: readonly (readonly number[])[]
}

export type TaskDType = 'f32' | 'bf16'

export interface TaskPeer {
  readonly name: string
  /** Of npm. */
  readonly packageName: string
  /** In bench/peers; its arguments are the folder that has node_modules, what `save` gave, and threads and tasks as JSON. */
  readonly program: string
  readonly dtypes: readonly TaskDType[]
  /** Writes the model into the folder, and gives the path that the program wants. */
  save(model: LlamaForCausalLM, directory: string, dtype: TaskDType): Promise<string>
}

/** No results: `reason` says why, for people. */
export type TaskAnswer = { readonly results: readonly PeerResult[] } | { readonly results: []; readonly reason: string }

/** Milliseconds. A peer that takes longer is ended, and has no figures. */
const patience = 20 * 60_000

export function isInstalled({ packageName }: TaskPeer): boolean {
  const folder = process.env.ALMA_BENCH_PEERS
  return folder !== undefined && existsSync(join(folder, 'node_modules', packageName, 'package.json'))
}

/** One process for all the tasks: it loads the model once. Never throws: a peer that is missing or that fails has no figures. */
export async function askTasks(
  peer: TaskPeer,
  model: LlamaForCausalLM,
  dtype: TaskDType,
  threads: number,
  tasks: readonly PeerTask[],
): Promise<TaskAnswer> {
  const { name, packageName } = peer
  if (!isInstalled(peer)) {
    const reason = `not found; npm install --prefix DIR ${packageName}, and ALMA_BENCH_PEERS=DIR names the folder`
    return { results: [], reason: `${name}: ${reason}` }
  }
  // Gigabytes: those of a run that was killed go too.
  await removeStaleTemporaries(tmpdir())
  const directory = temporaryPath(join(tmpdir(), 'alma-bench'))
  try {
    await mkdir(directory, { mode: 0o700 })
    const path = await peer.save(model, directory, dtype)
    const folder = process.env.ALMA_BENCH_PEERS ?? ''
    const args = [peerProgram(peer.program), folder, path, JSON.stringify({ threads, tasks })]
    const options = { maxBuffer: 2 ** 26, timeout: patience, killSignal: 'SIGKILL' } as const
    const { stdout } = await promisify(execFile)(process.execPath, args, options)
    const answer = JSON.parse(stdout.slice(stdout.lastIndexOf('{"version"'))) as {
      version: string
      tasks: Omit<PeerResult, 'name'>[]
    }
    return { results: answer.tasks.map((result) => ({ name: `${name} ${answer.version}`, ...result })) }
  } catch (error) {
    return { results: [], reason: `${name}: no figures, ${reasonOf(error)}` }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** Of a child process what it said last that names an error: the message itself would repeat all the prompts. */
function reasonOf(error: unknown): string {
  const { stderr, signal, code } = error as { stderr?: string; signal?: string | null; code?: unknown }
  if (stderr === undefined) return messageOf(error)
  const lines = stderr.split('\n').filter((line) => line.trim() !== '')
  const said = lines.findLast((line) => /error/i.test(line)) ?? lines.at(-1) ?? ''
  return `${signal == null ? `exit status ${code}` : `ended by ${signal}`}${said === '' ? '' : `: ${said.trim()}`}`
}
