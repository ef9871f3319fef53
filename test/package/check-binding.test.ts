/** scripts/check-binding.mjs reads text; these are the shapes of text that it must understand. */
import { describe, expect, it } from 'vitest'
// @ts-expect-error: a script, without types
import { declaredNames, exportedNames, opNames, registeredNames } from '../../scripts/check-binding.mjs'

describe('check-binding', () => {
  it('reads registrations', () => {
    const source = `
      #define ALMA_EXPORT(name, function) \\
        exports.Set(name, function)
      exports.Set("one", f);  // exports.Set("not", f);
      exports.Set( "two" , f);
      ALMA_EXPORT("three", f);
      ALMA_EXPORT_RAW("four", f);
      ALMA_EXPORT(five, f);
      InstanceMethod<&A::six>("six"), InstanceMethod("seven", &A::seven)`
    expect([...registeredNames(source)].sort()).toEqual(['five', 'four', 'one', 'seven', 'six', 'three', 'two'])
  })

  it('reads an interface, with members of several lines and types with braces', () => {
    const source = `
      export interface Other { no(): void }
      export interface NativeAddon {
        one(a: number): void
        /** two(): void, in a comment */
        three(
          b: number,
          c: { d: number; e(): void },
        ): { f: number; g: string }
        readonly four: number
        five?(): Promise<void>; six(make: new (code: never) => Error): void
      }
      export interface Last { no(): void }`
    expect([...declaredNames(source)]).toEqual(['one', 'three', 'four', 'five', 'six'])
  })

  it('reads ops and exports', () => {
    expect(opNames('virtual void rms_norm(const A&) = 0;\n virtual ~Ops();\n // virtual void no(')).toEqual(['rmsNorm'])
    const source = 'export function a() {}\nexport const b = 1\nexport { c, d as e }\nexport async function f() {}'
    expect([...exportedNames(source)].sort()).toEqual(['a', 'b', 'c', 'e', 'f'])
  })
})
