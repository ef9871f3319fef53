/**
 * The processor's best known products: OpenBLAS, BLIS and oneDNN where the system has them, through Python's ctypes (nothing else is
 * needed of it), and PyTorch where it can be imported. Each library in a process of its own, with the device's number of threads.
 */
import type { Device } from '../../lib/runtime/index.js'
import type { PeerFigure } from '../harness.js'
import { LinePeer, peerProgram } from './lines.js'

export interface ProductRequest {
  readonly dtype: 'f32' | 'bf16'
  readonly layout: 'nn' | 'nt' | 'tn'
  readonly m: number
  readonly n: number
  readonly k: number
}

const libraries = ['openblas', 'blis', 'onednn', 'torch'] as const

export class BlasPeers implements AsyncDisposable {
  readonly #peers: ReadonlyMap<string, LinePeer>
  /** Library to why it has no figures. */
  readonly missing = new Map<string, string>()

  constructor(device: Device, python = process.env.ALMA_PYTHON ?? 'python3') {
    const threads = String(device.threads)
    const environment = {
      OMP_NUM_THREADS: threads,
      OPENBLAS_NUM_THREADS: threads,
      BLIS_NUM_THREADS: threads,
      MKL_NUM_THREADS: threads,
    }
    this.#peers = new Map(
      libraries.map((library) => [
        library,
        new LinePeer(library, python, ['-u', peerProgram('blas_peer.py'), library, threads], { environment }),
      ]),
    )
  }

  /** GFLOP/s of all that can do it. */
  async products(request: ProductRequest): Promise<PeerFigure[]> {
    const figures: PeerFigure[] = []
    for (const [library, peer] of this.#peers) {
      if (this.missing.has(library)) continue
      const { name, seconds, reason } = await peer.ask({ ...request })
      if (seconds !== null) {
        figures.push({ name, value: (2 * request.m * request.n * request.k) / seconds / 1e9 })
      } else if (request.dtype === 'f32') {
        this.missing.set(library, reason ?? 'no reason given')
      }
    }
    return figures
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const peer of this.#peers.values()) await peer[Symbol.asyncDispose]()
  }
}
