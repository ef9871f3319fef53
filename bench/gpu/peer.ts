/** PyTorch on the same GPU: bench/peers/torch_peer.py. */
import { LinePeer, type PeerAnswer, peerProgram } from '../peers/lines.js'

export interface PeerRequest {
  readonly op: string
  readonly [argument: string]: number | string | boolean
}

export class TorchPeer implements AsyncDisposable {
  readonly #peer: LinePeer

  constructor(python = process.env.ALMA_PYTHON ?? 'python3') {
    this.#peer = new LinePeer('PyTorch', python, ['-u', peerProgram('torch_peer.py')])
  }

  /** Never throws: a peer that is missing or that fails has no figure. */
  ask(request: PeerRequest): Promise<PeerAnswer> {
    return this.#peer.ask(request)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#peer[Symbol.asyncDispose]()
  }
}
