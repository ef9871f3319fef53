/** The cases of one operation: <fixtures>/ops/<op>/cases.json, and a safetensors file for each. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'vitest'
import { fixtureFolder } from './fixtures.js'
import { loadTensors } from './safetensors.js'

export interface OpCase {
  readonly name: string
  readonly params: Readonly<Record<string, unknown>>
  /** Relative L2 error that a reference run in this dtype had, per output. */
  measured(dtype: 'f32' | 'bf16', output: string): number
  load(): OpTensors
}

export class OpTensors {
  readonly #tensors: ReturnType<typeof loadTensors>

  constructor(file: string) {
    this.#tensors = loadTensors(file)
  }

  shape(name: string): readonly number[] {
    return this.tensor(name).shape
  }

  floats(name: string): Float32Array {
    const { data } = this.tensor(name)
    if (!(data instanceof Float32Array)) throw new Error(`${name} holds integers`)
    return data
  }

  ints(name: string): Int32Array {
    const { data } = this.tensor(name)
    if (!(data instanceof Int32Array)) throw new Error(`${name} holds floating-point numbers`)
    return data
  }

  tensor(name: string): { readonly shape: readonly number[]; readonly data: Float32Array | Int32Array } {
    const found = this.#tensors.get(name)
    if (found === undefined) throw new Error(`the fixture has no tensor ${name}`)
    return found
  }
}

/** One describe block a case, named as the case is; one visibly skipped test when there are none. */
export function describeOpCases(op: string, body: (opCase: OpCase) => void): void {
  const folder = fixtureFolder(`ops/${op}`)
  const cases = folder === undefined ? [] : readCases(folder)
  if (cases.length === 0) it.skip(`fixtures ops/${op}: there are none`, () => {})
  for (const opCase of cases) describe(`fixture ${op}/${opCase.name}`, () => body(opCase))
}

export function readCases(folder: string): OpCase[] {
  const { cases } = JSON.parse(readFileSync(join(folder, 'cases.json'), 'utf8')) as { cases: CaseEntry[] }
  return cases.map(({ name, file, params, measured }) => ({
    name,
    params,
    measured: (dtype, output) => measured?.[dtype]?.[output]?.rel_l2 ?? 0,
    load: () => new OpTensors(join(folder, file)),
  }))
}

interface CaseEntry {
  readonly name: string
  readonly file: string
  readonly params: Readonly<Record<string, unknown>>
  readonly measured?: Readonly<Record<string, Readonly<Record<string, { readonly rel_l2?: number }>>>>
}

export function numberOf(params: OpCase['params'], key: string, byDefault?: number): number {
  const value = params[key] ?? byDefault
  if (typeof value !== 'number') throw new Error(`params.${key} is not a number`)
  return value
}
