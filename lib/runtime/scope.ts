import type { Tensor } from './tensor.js'

/** Owns tensors and disposes them together: `using scope = new Scope(); const y = scope.own(ops.matmul(…))`. */
export class Scope {
  #owned: Tensor[] = []

  own<T extends Tensor>(tensor: T): T {
    this.#owned.push(tensor)
    return tensor
  }

  dispose(): void {
    for (const tensor of this.#owned) tensor.dispose()
    this.#owned = []
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}
