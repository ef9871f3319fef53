// Do C++ and TypeScript name the same things?
//  - every function that native/addon registers is declared in the interface NativeAddon of lib/runtime/native-addon.ts, and back;
//  - every op of native/runtime/ops.h has its camelCase function in lib/runtime/ops/.
// After duckdb-node-neo's bindings/scripts/checkFunctionSignatures.mjs. It reads text, not syntax trees: a registration is
// `exports.Set("name", …)`, `InstanceMethod("name", …)`, or ALMA_EXPORT…("name", …).
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './project.mjs'

const read = (...path) => readFileSync(join(root, ...path), 'utf8')
const withoutComments = (text) => text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|[^:'"])\/\/.*$/gm, '$1')
const camelCase = (name) => name.replace(/_([a-z0-9])/g, (_, letter) => letter.toUpperCase())

export function registeredNames(source) {
  const text = withoutComments(source).replace(/^\s*#\s*define\b(?:.*\\\n)*.*$/gm, '')
  const names = new Set()
  for (const [, name] of text.matchAll(/\bexports\s*\.\s*(?:Set|DefineProperty)\(\s*"(\w+)"/g)) names.add(name)
  for (const [, name] of text.matchAll(/\b(?:InstanceMethod|InstanceValue|StaticMethod)(?:<[^>]*>)?\(\s*"(\w+)"/g))
    names.add(name)
  for (const [, name] of text.matchAll(/\bALMA_EXPORT\w*\(\s*"?(\w+)"?/g)) names.add(name)
  return names
}

/** The members of `export interface NativeAddon { … }`, whose members may have braces of their own. */
export function declaredNames(source) {
  const text = withoutComments(source)
  const start = text.search(/export\s+interface\s+NativeAddon\b[^{]*\{/)
  if (start < 0) throw new Error('lib/runtime/native-addon.ts: no `export interface NativeAddon`')
  const names = new Set()
  let depth = 0
  let member = ''
  for (const character of text.slice(text.indexOf('{', start))) {
    if ('{(['.includes(character)) {
      depth++
      if (depth === 1) continue
    }
    if ('})]'.includes(character)) depth--
    if (depth === 0) break
    // At depth 1, and at the bracket that opens a member's parameters, the text so far is the member's name.
    if (depth === 1 && (character === '\n' || character === ';' || character === ',')) {
      member = ''
      continue
    }
    member += character
    const match = /^\s*(?:readonly\s+)?(\w+)\??\s*[(:<]$/.exec(member)
    if (match && depth <= 2) names.add(match[1])
  }
  return names
}

export function opNames(header) {
  return [...withoutComments(header).matchAll(/\bvirtual\s+void\s+(\w+)\s*\(/g)].map(([, name]) => camelCase(name))
}

export function exportedNames(source) {
  const names = new Set()
  for (const [, name] of withoutComments(source).matchAll(/\bexport\s+(?:async\s+)?(?:function|const)\s+(\w+)/g))
    names.add(name)
  for (const [, list] of withoutComments(source).matchAll(/\bexport\s*\{([^}]*)\}/g)) {
    for (const entry of list.split(','))
      names.add(
        entry
          .trim()
          .split(/\s+as\s+/)
          .at(-1),
      )
  }
  return names
}

function main() {
  const folder = join(root, 'native', 'addon')
  const registered = new Set()
  for (const file of readdirSync(folder).filter((name) => name.endsWith('.cpp'))) {
    for (const name of registeredNames(read('native', 'addon', file))) registered.add(name)
  }
  const declared = declaredNames(read('lib', 'runtime', 'native-addon.ts'))
  const ops = opNames(read('native', 'runtime', 'ops.h'))
  const functions = new Set()
  for (const file of readdirSync(join(root, 'lib', 'runtime', 'ops'))) {
    for (const name of exportedNames(read('lib', 'runtime', 'ops', file))) functions.add(name)
  }

  const problems = []
  for (const name of registered) {
    if (!declared.has(name))
      problems.push(`native/addon registers ${name}, lib/runtime/native-addon.ts does not declare it`)
  }
  for (const name of declared) {
    if (!registered.has(name))
      problems.push(`lib/runtime/native-addon.ts declares ${name}, native/addon does not register it`)
  }
  for (const name of ops) {
    if (!functions.has(name))
      problems.push(`native/runtime/ops.h declares the op ${name}, nothing in lib/runtime/ops/ exports it`)
  }
  // An empty list means that this script no longer understands the sources, and would agree with anything.
  if (registered.size === 0) problems.push('no registration was found in native/addon/*.cpp')
  if (ops.length === 0) problems.push('no op was found in native/runtime/ops.h')

  for (const problem of problems) console.error(problem)
  if (problems.length > 0) process.exitCode = 1
  else console.log(`binding: ${registered.size} functions and ${ops.length} ops agree`)
}

if (process.argv[1] === import.meta.filename) main()
