/**
 * The one error class of this library.
 *
 * `code` is stable across releases and is what programs should match on; `message` is for people and names the file, the
 * field or the tensor, what was found there and what was expected.
 */

/** Every code that an {@link AlmaError} can carry. The list is documented in docs/errors.md. */
export type AlmaErrorCode =
  | 'ERR_ALMA_CHECKPOINT' // weights or a training checkpoint: missing, truncated, of the wrong shape or dtype, not finite
  | 'ERR_ALMA_ADAPTER' // a LoRA adapter: missing, damaged, of a kind that is not supported, or for another base model
  | 'ERR_ALMA_CONFIG' // config.json: missing, not JSON, a field out of range or unsupported
  | 'ERR_ALMA_TOKENIZER' // tokenizer.json or tokenizer.model: missing, damaged, or not fitting the model's vocabulary
  | 'ERR_ALMA_CORPUS' // training or test data: missing, empty, not UTF-8, a line that is not what the format says
  | 'ERR_ALMA_RECIPE' // a recipe file of `alma train`: an unknown or contradictory field
  | 'ERR_ALMA_DIVERGED' // training stopped: the loss or the gradients were not finite several steps in a row
  | 'ERR_ALMA_OPTION' // an option given in code or on the command line
  | 'ERR_ALMA_LANGUAGE' // a language code or name that is not known
  | 'ERR_ALMA_CONTEXT' // a prompt or text longer than the model's context
  | 'ERR_ALMA_IO' // the operating system refused a read or a write (disk full, permission, missing folder)
  | 'ERR_ALMA_DEVICE' // a device that does not exist, cannot be used, or failed while computing
  | 'ERR_ALMA_OUT_OF_MEMORY' // an allocation on a device: the message has the bytes needed and the bytes free
  | 'ERR_ALMA_SHAPE' // an op or tensor call whose shapes, dtypes or devices do not fit together
  | 'ERR_ALMA_DISPOSED' // use of an object after dispose()
  | 'ERR_ALMA_NATIVE' // the native addon could not be loaded, or an internal error of it

export class AlmaError extends Error {
  /** Stable identifier of the kind of failure. */
  readonly code: AlmaErrorCode

  constructor(code: AlmaErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }

  static {
    // On the prototype, as Node's own errors have it: `name` is not an own, enumerable property of each instance.
    Object.defineProperty(AlmaError.prototype, 'name', { value: 'AlmaError', configurable: true, writable: true })
  }
}

/** The message of anything that was thrown, for use inside another message. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** Wraps a failed system call (`ENOSPC`, `ENOENT`, `EACCES`, …) so that the message names the file and says what to do. */
export function ioError(action: string, path: string, error: unknown): AlmaError {
  const code = (error as { code?: string } | null)?.code
  const hint =
    code === 'ENOSPC'
      ? 'the disk is full'
      : code === 'ENOENT'
        ? 'no such file or folder'
        : code === 'EACCES' || code === 'EPERM'
          ? 'permission denied'
          : messageOf(error)
  return new AlmaError('ERR_ALMA_IO', `cannot ${action} ${path}: ${hint}`, { cause: error })
}
