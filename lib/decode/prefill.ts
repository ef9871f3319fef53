import type { KeyValueCache, LlamaForCausalLM } from '../model/index.js'
import { ops, Tensor } from '../runtime/index.js'
import type { BlockPool } from './block-pool.js'
import type { Chosen, DecodingRequest } from './request.js'
import { type ChoiceSettings, type Row, TokenChoice } from './token-choice.js'
import { UploadBuffer } from './upload-buffer.js'

/** Prompt tokens of one pass: enough to use the machine well, and few enough that others do not wait long for their next token. */
const PREFILL_TOKENS = 1024

/** Tokens `from` up to `to` of a prompt. */
interface Piece {
  readonly request: DecodingRequest
  readonly from: number
  readonly to: number
}

/** A pass over prompts that has been enqueued. */
export interface PrefillPass {
  /** Requests whose prompts are complete with it, in the order of the rows that were chosen for them. */
  readonly completed: readonly DecodingRequest[]
  readonly tokens: number
  /** The first tokens of the completed ones; undefined, when the pass is over, where there are none. */
  readonly read: Promise<Chosen | undefined>
}

/**
 * Enqueues a pass over the prompts that are not in the cache yet, packed without padding, in their order; undefined when there are
 * none. Blocks that hold the same beginning of a prompt are computed once.
 */
export function enqueuePrefill(
  model: LlamaForCausalLM,
  cache: KeyValueCache,
  pool: BlockPool,
  requests: readonly DecodingRequest[],
  settings: ChoiceSettings,
): PrefillPass | undefined {
  const pieces = cutPieces(requests, pool)
  if (pieces.length === 0) return undefined
  const completed = pieces.filter(({ request, to }) => to === request.prompt.ids.length).map(({ request }) => request)
  const owned: Tensor[] = []
  try {
    const logits = enqueuePass(model, cache, pieces, owned)
    const tokens = pieces.reduce((sum, { from, to }) => sum + to - from, 0)
    const read =
      completed.length === 0
        ? model.device.synchronize().then(() => undefined)
        : chooseFirst(model, completed, settings, logits, owned)
    return { completed, tokens, read }
  } finally {
    for (const tensor of owned) tensor.dispose()
  }
}

/** The next PREFILL_TOKENS. New requests get their blocks; what a piece completes may be shared by the pieces behind it. */
function cutPieces(requests: readonly DecodingRequest[], pool: BlockPool): Piece[] {
  const pieces: Piece[] = []
  let room = PREFILL_TOKENS
  for (const request of requests) {
    const { ids } = request.prompt
    const [root] = request.rows
    if (room === 0) break
    if (root === undefined || request.prefilled === ids.length) continue
    if (root.blocks.length === 0) {
      // The last token is always computed: its logits are wanted.
      if (request.sharesPrefix) root.blocks.push(...pool.match(ids, Math.floor((ids.length - 1) / pool.blockSize)))
      request.prefilled = root.blocks.length * pool.blockSize
      while (root.blocks.length < pool.blocksOf(ids.length)) root.blocks.push(pool.allocate())
    }
    const from = request.prefilled
    const to = Math.min(ids.length, from + room)
    pieces.push({ request, from, to })
    request.prefilled = to
    room -= to - from
    if (!request.sharesPrefix) continue
    for (let block = Math.floor(from / pool.blockSize); (block + 1) * pool.blockSize <= to; block++) {
      pool.register(ids, root.blocks, block)
    }
  }
  return pieces
}

/** Logits of the last token of every piece that completes a prompt; of one token when there is none. */
function enqueuePass(model: LlamaForCausalLM, cache: KeyValueCache, pieces: readonly Piece[], owned: Tensor[]): Tensor {
  const own = (data: ArrayLike<number>, shape?: readonly number[]): Tensor => {
    const tensor = Tensor.from(model.device, Int32Array.from(data), shape)
    owned.push(tensor)
    return tensor
  }
  const size = cache.blockSize
  const blocksPerPiece = Math.max(...pieces.map(({ request }) => request.rows[0]?.blocks.length ?? 0))
  const table = new Int32Array(pieces.length * blocksPerPiece)
  const ids: number[] = []
  const positions: number[] = []
  const cacheRows: number[] = []
  const cuSeqlens = [0]
  const lastRows: number[] = []
  for (const [i, { request, from, to }] of pieces.entries()) {
    const { ids: prompt } = request.prompt
    const blocks = request.rows[0]?.blocks ?? []
    table.set(blocks, i * blocksPerPiece)
    for (let position = from; position < to; position++) {
      ids.push(prompt[position] ?? 0)
      positions.push(position)
      cacheRows.push(cache.row(blocks[Math.floor(position / size)] ?? 0, position % size))
    }
    cuSeqlens.push(ids.length)
    if (to === prompt.length) lastRows.push(ids.length - 1)
  }
  // A pass that ends inside its only prompt wants no logits; one row is the least that the output layer can do.
  if (lastRows.length === 0) lastRows.push(ids.length - 1)
  const logits = model.forward(
    {
      ids: own(ids),
      positions: own(positions),
      bounds: {
        cuSeqlensQ: own(cuSeqlens),
        kBegin: own(new Int32Array(pieces.length)),
        kEnd: own(pieces.map(({ to }) => to)),
        blocks: { table: own(table, [pieces.length, blocksPerPiece]), size },
      },
      longest: blocksPerPiece * size,
    },
    { cache: { store: cache, rows: own(cacheRows) }, logitRows: own(lastRows), invariance: 'manyRows' },
  )
  owned.push(logits)
  return logits
}

/** The first tokens: several rows for a prompt that gets several answers. */
function chooseFirst(
  { device, config }: LlamaForCausalLM,
  completed: readonly DecodingRequest[],
  settings: ChoiceSettings,
  logits: Tensor,
  owned: Tensor[],
): Promise<Chosen | undefined> {
  const rows = completed.flatMap((request, i): (Row & { from: number })[] =>
    Array.from({ length: request.firstRows }, (_, answer) => ({
      request,
      branch: request.firstBranch(answer),
      from: i,
    })),
  )
  let scores = logits
  if (rows.length > completed.length) {
    const sources = Tensor.from(
      device,
      Int32Array.from(rows, ({ from }) => from),
    )
    scores = ops.gatherRows(logits, sources)
    owned.push(sources, scores)
  }
  const stride = Math.max(...completed.map(({ prompt }) => prompt.pads + prompt.ids.length))
  const extents = { rows: rows.length, beams: 1, vocab: config.vocabSize, stride }
  const inputs = new UploadBuffer(device, TokenChoice.parts(settings, extents))
  const choice = new TokenChoice(device, settings, extents, inputs)
  try {
    choice.write(rows)
    inputs.upload()
    choice.enqueue(scores)
    return choice.read().then(([chosen]) => chosen)
  } finally {
    choice.dispose()
    inputs.dispose()
  }
}
