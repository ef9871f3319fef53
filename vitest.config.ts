import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/build-dist.ts'],
    // Each file in a process of its own: a native crash then names its file, and no test inherits another's devices.
    pool: 'forks',
    // The device under test uses every core by itself; parallel files would only fight for them.
    maxWorkers: 1,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // Nothing is left in the user's folders.
    env: { ALMA_DEVICE: process.env['ALMA_DEVICE'] ?? 'cpu', ALMA_CACHE: 'off' },
  },
})
