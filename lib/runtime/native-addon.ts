/**
 * The whole native surface as one type. `native/addon/*.cpp` registers these functions; `scripts/check-binding.mjs` checks that the
 * two lists agree. Nothing outside lib/runtime may use it.
 *
 * Devices, graphs and tensors are numbers here. −1 in the place of a tensor stands for "absent". Extents are elements, not bytes.
 * Every function throws an AlmaError; promises are rejected with one.
 */
export interface NativeAddon {
  buildInformation(): BuildInformation
  cudaDevices(): CudaDevices
  setErrorClass(make: new (code: never, message: string) => Error): void
  emptyCall(): void

  deviceOpen(name: string, threads: number, isa: string): number
  deviceClose(device: number): Promise<void>
  deviceDescribe(device: number): { name: string; description: string; threads: number; fusesResiduals: boolean }
  deviceMemory(device: number): DeviceMemory
  deviceResetPeak(device: number): void
  deviceReleaseCached(device: number): void
  deviceSynchronize(device: number): Promise<void>
  deviceProbe(device: number, what: string, size: number, seconds: number): Promise<number>

  graphBegin(device: number): void
  graphEnd(device: number): number
  graphLaunch(graph: number): void
  graphRelease(graph: number): void

  tensorCreate(device: number, dtype: number, count: number): number
  tensorMapFile(device: number, dtype: number, count: number, path: string, offset: number): number
  tensorWasCached(tensor: number): boolean
  tensorFetch(tensor: number, begin: number, count: number): Promise<void>
  tensorView(tensor: number, offset: number, count: number, dtype: number): number
  tensorRelease(tensor: number): boolean
  tensorWrite(tensor: number, bytes: ArrayBufferView): void
  tensorRead(tensor: number): Promise<ArrayBuffer>
  tensorLoadFile(tensor: number, path: string, offset: number, sourceDtype: number): Promise<void>

  opFill(out: number, count: number, value: number): void
  opFillNormal(
    out: number,
    count: number,
    standardDeviation: number,
    seedLow: number,
    seedHigh: number,
    first: number,
  ): void
  opCast(input: number, out: number, count: number): void
  opAdd(a: number, b: number, out: number, count: number): void
  opIncrement(x: number, count: number, by: number): void
  opMatmul(
    a: number,
    b: number,
    c: number,
    m: number,
    n: number,
    k: number,
    layout: number,
    accumulate: boolean,
    invariance: number,
    mayRound: boolean,
  ): void
  opRmsNorm(
    x: number,
    residual: number,
    weight: number,
    y: number,
    sum: number,
    inverseRms: number,
    rows: number,
    cols: number,
    epsilon: number,
  ): void
  opRmsNormBackward(
    dy: number,
    x: number,
    weight: number,
    inverseRms: number,
    dx: number,
    dweight: number,
    rows: number,
    cols: number,
    accumulateDx: boolean,
  ): void
  opRope(
    x: number,
    out: number,
    cosine: number,
    sine: number,
    positions: number,
    tokens: number,
    heads: number,
    headDim: number,
    maxPositions: number,
    inverse: boolean,
  ): void
  opAttention(
    q: number,
    k: number,
    v: number,
    out: number,
    logSumExp: number,
    cuSeqlensQ: number,
    kBegin: number,
    kEnd: number,
    ...shape: [
      ...AttentionShapeArguments,
      invariance: number,
      blockTable: number,
      blocksPerSequence: number,
      blockSize: number,
    ]
  ): void
  opAttentionBackward(
    q: number,
    k: number,
    v: number,
    out: number,
    dout: number,
    logSumExp: number,
    dq: number,
    dk: number,
    dv: number,
    cuSeqlensQ: number,
    kBegin: number,
    kEnd: number,
    ...shape: AttentionShapeArguments
  ): void
  opSwiGlu(gate: number, up: number, out: number, count: number): void
  opSwiGluBackward(gate: number, up: number, dout: number, dgate: number, dup: number, out: number, count: number): void
  opGatherRows(table: number, rows: number, out: number, tableRows: number, cols: number, count: number): void
  opScatterRows(input: number, rows: number, table: number, tableRows: number, cols: number, count: number): void
  opEmbeddingBackward(dout: number, rows: number, dtable: number, tableRows: number, cols: number, count: number): void
  opCrossEntropy(
    logits: number,
    targets: number,
    nll: number,
    logSumExp: number,
    dlogits: number,
    gradScale: number,
    rows: number,
    vocab: number,
    ignoreIndex: number,
    rowScale: number,
    labelSmoothing: number,
  ): void
  opReduceSum(x: number, out: number, count: number, squares: boolean, accumulate: boolean): void
  opClipCoefficient(sumOfSquares: number, norm: number, coefficient: number, maxNorm: number): void
  opAdamw(
    param: number,
    master: number,
    grad: number,
    expAvg: number,
    expAvgSq: number,
    learningRate: number,
    step: number,
    gradScale: number,
    count: number,
    beta1: number,
    beta2: number,
    epsilon: number,
    weightDecay: number,
    seedLow: number,
    seedHigh: number,
  ): void
  opArgmax(logits: number, ids: number, logprob: number, rows: number, vocab: number): void
  opSample(
    logits: number,
    ids: number,
    logprob: number,
    stream: number,
    position: number,
    rows: number,
    vocab: number,
    temperature: number,
    topP: number,
    topK: number,
    seedLow: number,
    seedHigh: number,
  ): void
  opProcessLogits(
    logits: number,
    history: number,
    historyLength: number,
    suppress: number,
    suppressBelow: number,
    rows: number,
    vocab: number,
    historyStride: number,
    suppressCount: number,
    repetitionPenalty: number,
    noRepeatNgram: number,
  ): void
  opAppendTokens(ids: number, history: number, historyLength: number, rows: number, historyStride: number): void
  opCountNonFinite(x: number, out: number, count: number): void
  opScale(x: number, out: number, count: number, factor: number): void
  opDropout(
    x: number,
    out: number,
    step: number,
    count: number,
    probability: number,
    seedLow: number,
    seedHigh: number,
    accumulate: boolean,
  ): void
  opPreferenceLoss(
    nll: number,
    cuRows: number,
    weights: number,
    rowScale: number,
    logps: number,
    losses: number,
    sums: number,
    rows: number,
    pairs: number,
    loss: number,
    beta: number,
    labelSmoothing: number,
    gamma: number,
    relax1: number,
    relax2: number,
  ): void
  opLogSoftmax(logits: number, out: number, rows: number, vocab: number): void
  opWarpScores(
    scores: number,
    rows: number,
    vocab: number,
    temperature: number,
    topP: number,
    topK: number,
    keep: number,
  ): void
  opBeamTopK(
    scores: number,
    beamScores: number,
    totals: number,
    tokens: number,
    parents: number,
    stream: number,
    position: number,
    groups: number,
    beams: number,
    vocab: number,
    k: number,
    seedLow: number,
    seedHigh: number,
  ): void
  opCopyBlocks(table: number, pairs: number, groups: number, blocks: number, blockElements: number, count: number): void
  opNormQkv(
    x: number,
    normWeight: number,
    queryWeight: number,
    keyWeight: number,
    valueWeight: number,
    cosine: number,
    sine: number,
    positions: number,
    cacheRows: number,
    q: number,
    keys: number,
    values: number,
    rows: number,
    cols: number,
    heads: number,
    kvHeads: number,
    headDim: number,
    maxPositions: number,
    tableRows: number,
    epsilon: number,
  ): void
  opNormGateUp(
    x: number,
    normWeight: number,
    gateWeight: number,
    upWeight: number,
    out: number,
    rows: number,
    cols: number,
    outFeatures: number,
    epsilon: number,
  ): void
  opQkv(
    x: number,
    queryWeight: number,
    keyWeight: number,
    valueWeight: number,
    cosine: number,
    sine: number,
    positions: number,
    q: number,
    k: number,
    v: number,
    rows: number,
    cols: number,
    heads: number,
    kvHeads: number,
    headDim: number,
    maxPositions: number,
    invariance: number,
  ): void
  opGateUp(
    x: number,
    gateWeight: number,
    upWeight: number,
    gate: number,
    up: number,
    out: number,
    rows: number,
    cols: number,
    outFeatures: number,
    invariance: number,
  ): void
  opLinearAdd(
    x: number,
    weight: number,
    residual: number,
    out: number,
    rows: number,
    inFeatures: number,
    outFeatures: number,
    invariance: number,
  ): void
}

export type AttentionShapeArguments = [
  batch: number,
  totalQ: number,
  totalK: number,
  heads: number,
  kvHeads: number,
  headDim: number,
  scale: number,
  causal: boolean,
]

/** How the addon was built and what it finds on this machine. */
export interface BuildInformation {
  readonly cuda: boolean
  /** One line for people: built with CUDA or not, and why. */
  readonly cudaNote: string
  /** Whether the device `'emulator'` is there: development builds have it. */
  readonly emulator: boolean
  /** Instruction sets of the CPU backend that this processor can run, best first; development builds have emulated ones among them. */
  readonly cpuInstructionSets: readonly string[]
  /** Processors that this process may use: affinity mask and container quota. */
  readonly processors: number
}

/** The GPUs that the driver reports, in the order of their numbers in `'cuda:N'`. */
export interface CudaDevices {
  readonly devices: readonly {
    readonly name: string
    /** `'9.0'`. */
    readonly computeCapability: string
    readonly memoryBytes: number
  }[]
  /** Why there is none to use; empty when there is one. */
  readonly reason: string
}

/** Bytes. `free` and `total` are the device's (for the CPU: the machine's or the container's). */
export interface DeviceMemory {
  /** In live tensors. */
  readonly allocated: number
  /** Taken from the system: `allocated` and what is kept for reuse. */
  readonly reserved: number
  /** Largest `allocated` since the device was opened or `resetPeakMemory()`. */
  readonly peak: number
  readonly free: number
  readonly total: number
}
