import type { KeyValueCache, LlamaForCausalLM } from '../model/index.js'
import { type Graph, ops, type Tensor } from '../runtime/index.js'
import type { BlockPool } from './block-pool.js'
import type { Chosen } from './request.js'
import { type ChoicePart, type ChoiceSettings, type Row, TokenChoice } from './token-choice.js'
import { UploadBuffer } from './upload-buffer.js'

type Part = 'ids' | 'positions' | 'cacheRows' | 'kBegin' | 'kEnd' | 'cuSeqlens' | 'table' | 'copies'

/**
 * One more token for so many rows: an upload, and the launch of a graph that was captured once. Nothing is allocated on the device per
 * token. A second token can follow without the host between them: the ids that were chosen go into the next step on the device.
 */
export class DecodingStep {
  readonly rows: number
  readonly #model: LlamaForCausalLM
  readonly #cache: KeyValueCache
  readonly #inputs: UploadBuffer<Part | ChoicePart>
  readonly #choice: TokenChoice
  /** Blocks that the table has room for, a row. */
  readonly #blocksPerRow: number
  #graph: Graph | undefined

  /** @param stride longest history, tokens. */
  constructor(
    model: LlamaForCausalLM,
    cache: KeyValueCache,
    settings: ChoiceSettings,
    { rows, blocksPerRow, stride }: { rows: number; blocksPerRow: number; stride: number },
  ) {
    const { device, config } = model
    this.rows = rows
    this.#model = model
    this.#cache = cache
    this.#blocksPerRow = blocksPerRow
    const extents = { rows, beams: settings.numBeams, vocab: config.vocabSize, stride }
    this.#inputs = new UploadBuffer<Part | ChoicePart>(device, {
      ...TokenChoice.parts(settings, extents),
      ids: [rows],
      positions: [rows],
      cacheRows: [rows],
      kBegin: [rows],
      kEnd: [rows],
      cuSeqlens: [rows + 1],
      table: [rows, blocksPerRow],
      copies: [rows, 2],
    })
    for (let i = 0; i <= rows; i++) this.#inputs.host.cuSeqlens[i] = i
    this.#choice = new TokenChoice(device, settings, extents, this.#inputs)
  }

  /**
   * Enqueues the step. Every row has a newest token, which goes into the cache. Returns how many blocks are copied.
   *
   * @param tokens for each row: 2 where a row's choice depends on nothing but its logits, and every row has room for both.
   */
  launch(rows: readonly Row[], pool: BlockPool, tokens: 1 | 2): number {
    const copied = this.#launchOne(rows, pool, 0)
    if (tokens === 1) return copied
    this.#choice.keep()
    return copied + this.#launchOne(rows, pool, 1)
  }

  /** @param ahead tokens of each row that are chosen, but not known to the host. */
  #launchOne(rows: readonly Row[], pool: BlockPool, ahead: 0 | 1): number {
    const { ids, positions, cacheRows, kEnd, table, copies } = this.#inputs.host
    let [copied, i] = [0, 0]
    copies.fill(-1)
    for (const { request, branch } of rows) {
      const position = request.prompt.ids.length + branch.tokens.length - 1 + ahead
      const from = branch.extend(pool, position)
      const block = branch.blocks[Math.floor(position / pool.blockSize)] ?? 0
      if (from !== undefined) {
        copies[2 * copied] = from
        copies[2 * copied++ + 1] = block
      }
      ids[i] = branch.tokens.at(-1) ?? 0
      positions[i] = position
      cacheRows[i] = this.#cache.row(block, position % pool.blockSize)
      kEnd[i] = position + 1
      table.set(branch.blocks, i++ * this.#blocksPerRow)
    }
    this.#choice.write(rows, ahead)
    this.#inputs.upload()
    if (ahead > 0) ops.cast(this.#choice.ids, this.#inputs.tensors.ids)
    if (this.#graph === undefined) {
      this.#model.reservePositions(this.#positions)
      this.#graph = this.#model.device.capture(() => this.#enqueue())
    }
    this.#graph.launch()
    return copied
  }

  /** All that the table of blocks has room for: the rotary table must reach as far as the graph is used. */
  get #positions(): number {
    return this.#blocksPerRow * this.#cache.blockSize
  }

  /** What was chosen, token after token. */
  read(tokens: 1 | 2): Promise<readonly Chosen[]> {
    return this.#choice.read(tokens)
  }

  dispose(): void {
    this.#graph?.dispose()
    this.#graph = undefined
    this.#choice.dispose()
    this.#inputs.dispose()
  }

  #enqueue(): void {
    const inputs = this.#inputs.tensors
    const size = this.#cache.blockSize
    this.#cache.copyBlocks(inputs.copies)
    using logits: Tensor = this.#model.forward(
      {
        ids: inputs.ids,
        positions: inputs.positions,
        bounds: {
          cuSeqlensQ: inputs.cuSeqlens,
          kBegin: inputs.kBegin,
          kEnd: inputs.kEnd,
          blocks: { table: inputs.table, size },
        },
        longest: this.#positions,
      },
      { cache: { store: this.#cache, rows: inputs.cacheRows }, invariance: 'fewRows' },
    )
    this.#choice.enqueue(logits)
  }
}
