import type { Command } from 'commander'
import { type CliIo, writeTo } from '../io.js'
import { addJsonOption } from '../model.js'

interface ReportOptions {
  readonly output?: string
  readonly json: boolean
}

export function reportCommand(program: Command, io: CliIo): void {
  const command = program
    .command('report')
    .description('show a training run, finished or not, as one HTML file')
    .argument('<run>', 'output folder of the run')
    .option('--output <file>', 'file to write (default: report.html in the folder)')
  addJsonOption(command).action(async (run: string, { output, json }: ReportOptions) => {
    const { writeReport } = await import('../../report/report.js')
    const path = await writeReport(run, output)
    await writeTo(io.stdout, `${json ? JSON.stringify({ report: path }) : path}\n`, io.signal)
  })
}
