/** Writing all of it. */
import type { FileHandle } from 'node:fs/promises'

/** Node.js takes no more than 2 GiB at a time. */
const maxBytes = 2 ** 28

/**
 * A single write may take fewer bytes than it is given, e.g. when the disk is almost full. Without a position the file goes on where the
 * last write ended.
 */
export async function writeAll(handle: FileHandle, bytes: Uint8Array, position?: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const place = position === undefined ? null : position + at
    at += (await handle.write(bytes, at, Math.min(bytes.length - at, maxBytes), place)).bytesWritten
  }
}
