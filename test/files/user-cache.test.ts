/** Where files go that only save time. */
import { homedir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { userCacheFolder } from '../../lib/files/user-cache.js'

describe('userCacheFolder', () => {
  it('is what ALMA_CACHE says', () => {
    expect(userCacheFolder({ ALMA_CACHE: '/some/where', XDG_CACHE_HOME: '/xdg' })).toBe('/some/where')
    expect(userCacheFolder({ ALMA_CACHE: 'off', XDG_CACHE_HOME: '/xdg' })).toBeUndefined()
  })

  it.runIf(process.platform === 'linux')('is a folder in the place that the desktop specification names', () => {
    expect(userCacheFolder({ XDG_CACHE_HOME: '/xdg' })).toBe('/xdg/alma-native')
    expect(userCacheFolder({ ALMA_CACHE: '', XDG_CACHE_HOME: 'relative' })).toBe(
      join(homedir(), '.cache', 'alma-native'),
    )
  })
})
