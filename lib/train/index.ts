export type { FinetuneReport, StageReport, StepRecord, TrainingEvent, ValidationRecord } from './events.js'
export { type FinetuneOptions, finetune } from './finetune.js'
export { Optimizer, type OptimizerOptions } from './optimizer.js'
export { createProgressReporter, type ProgressReporter } from './progress.js'
export { type Recipe, readRecipe } from './recipe.js'
export { learningRateAt, type ScheduleOptions, warmupSteps } from './schedule.js'
export type {
  MonolingualSource,
  MonolingualStage,
  ParallelSource,
  ParallelStage,
  ScheduleName,
  Stage,
} from './stages.js'
