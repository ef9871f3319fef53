import type { Command } from 'commander'
import { AlmaError } from '../../errors.js'
import { addJsonOption } from '../model.js'

interface BenchModule {
  runBench(args: readonly string[]): Promise<unknown>
}

// A variable, as the benchmarks are no part of the library: the compiler must not look for them.
const benchModule: string = '../../../bench/main.js'

export function benchCommand(program: Command): void {
  const command = program
    .command('bench')
    .description('measure this machine: ops, decode, train or addon')
    .argument('[what...]', 'default: all')
    .option('--device <name>', 'auto, cpu, cuda or cuda:N')
    .allowUnknownOption()
  addJsonOption(command).action(async (what: string[], { device, json }: { device?: string; json: boolean }) => {
    const args = [...what, ...(device === undefined ? [] : ['--device', device]), ...(json ? ['--json'] : [])]
    await (await load()).runBench(args)
  })
}

async function load(): Promise<BenchModule> {
  try {
    return (await import(benchModule)) as BenchModule
  } catch (error) {
    if ((error as { code?: string }).code !== 'ERR_MODULE_NOT_FOUND') throw error
    throw new AlmaError('ERR_ALMA_IO', 'the benchmarks are not part of this installation', { cause: error })
  }
}
