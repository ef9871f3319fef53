/** One HTML file that shows a training run: no network, no other files. */
import { createHash } from 'node:crypto'
import { join, resolve } from 'node:path'
import { writeFileAtomic } from '../files/atomic.js'
import { html, Markup } from './html.js'
import { type RunData, readRun } from './run-data.js'
import { script } from './script.js'
import { header, recipeSection, stageSection, tiles } from './sections.js'
import { style } from './style.js'

export const reportFileName = 'report.html'

/**
 * Writes the report of the run in a folder; of a run in progress, what there is of it.
 *
 * @param output the file; default `report.html` in the folder.
 * @returns the path of the file.
 * @throws AlmaError ERR_ALMA_IO when there is no log in the folder or the file cannot be written; ERR_ALMA_CORPUS for a log that is
 *   none of ours.
 */
export async function writeReport(folder: string, output: string = join(folder, reportFileName)): Promise<string> {
  const run = await readRun(folder)
  await writeFileAtomic(output, renderReport(run))
  return resolve(output)
}

/** The page. Even if some text of a corpus came through unescaped, the policy in its head would let nothing of it run or load. */
export function renderReport(run: RunData): string {
  const hash = createHash('sha256').update(script).digest('base64')
  const policy = `default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'`
  const page = html`<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${run.name} – training report</title><style>${new Markup(style)}</style></head>
<body><main>${header(run)}${tiles(run)}
${run.stages.map(stageSection)}
${recipeSection(run)}
<footer>alma-native ${run.version}${run.damagedLines > 0 && ` · ${run.damagedLines} lines of the log could not be read`}</footer></main>
<script>${new Markup(script)}</script></body></html>
`
  return page.text
}
