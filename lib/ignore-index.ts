/** A label that the loss does not count: torch's and transformers' ignore_index. */
export const IGNORE_INDEX = -100
