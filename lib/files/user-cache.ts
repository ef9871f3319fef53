import { homedir } from 'node:os'
import { isAbsolute, join } from 'node:path'

/**
 * The folder for what only saves time and may be deleted at any moment: `$ALMA_CACHE`, or `alma-native` in the system's place for such
 * files. Undefined for `ALMA_CACHE=off`, and where there is no such place. It need not exist.
 */
export function userCacheFolder(environment: NodeJS.ProcessEnv = process.env): string | undefined {
  const { ALMA_CACHE: chosen, XDG_CACHE_HOME: xdg, LOCALAPPDATA: local } = environment
  if (chosen === 'off') return undefined
  if (chosen) return chosen
  try {
    if (process.platform === 'darwin') return join(homedir(), 'Library', 'Caches', 'alma-native')
    if (process.platform === 'win32') return local && join(local, 'alma-native', 'Cache')
    // The XDG specification: a relative path is to be ignored.
    return join(xdg && isAbsolute(xdg) ? xdg : join(homedir(), '.cache'), 'alma-native')
  } catch {
    return undefined // a user without a home
  }
}
