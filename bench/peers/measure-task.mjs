// How a peer's process measures a task of task-peer.ts. `run(count)` continues the prompts by `count` tokens and gives { seconds, tokens }.
// Of a step, a long answer less a short one; with few = 0, of the prompt and `many` tokens; the best of the repeats.
export async function measureTask({ few, many, repeats }, run) {
  await run(Math.max(1, few))
  let [short, long] = [few > 0 ? Number.POSITIVE_INFINITY : 0, Number.POSITIVE_INFINITY]
  let tokens = []
  for (let i = 0; i < repeats; i++) {
    if (few > 0) short = Math.min(short, (await run(few)).seconds)
    const result = await run(many)
    long = Math.min(long, result.seconds)
    tokens = result.tokens
  }
  return { seconds: few > 0 ? (long - short) / (many - few) : long, tokens }
}
