import type { Sequence } from './sequence.js'

/**
 * Groups of sequences that are decoded together, each within a budget of cache tokens: `sequences × longest capacity ≤ batchTokens`.
 * Sorted by length, longest first: neighbours waste little of their slots, and a group that is too large for the memory fails
 * before any work was done. A sequence that is larger than the budget is a group of its own.
 */
export function planBatches(sequences: readonly Sequence[], batchTokens: number): Sequence[][] {
  const sorted = sequences.toSorted((a, b) => b.capacity - a.capacity || a.index - b.index)
  const groups: Sequence[][] = []
  let group: Sequence[] = []
  for (const sequence of sorted) {
    // The first one is the longest of its group.
    const slot = group[0]?.capacity ?? sequence.capacity
    if (group.length > 0 && (group.length + 1) * slot > batchTokens) {
      groups.push(group)
      group = []
    }
    group.push(sequence)
  }
  if (group.length > 0) groups.push(group)
  return groups
}
