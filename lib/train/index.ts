export type { DataFinding, DataReport, DroppedFinding, FileReport, FindingCount } from './data-report.js'
export type { BestMetric, EvaluationOptions } from './evaluation-options.js'
export type {
  DirectionScores,
  FinetuneReport,
  RunEvent,
  StageReport,
  StepRecord,
  TrainingEvent,
  TranslationSample,
  ValidationRecord,
} from './events.js'
export { type FinetuneOptions, finetune } from './finetune.js'
export type { CheckpointingOption, MemoryNeed, MemoryPlan } from './memory-plan.js'
export { Optimizer, type OptimizerOptions } from './optimizer.js'
export type { PreferenceStage } from './preference-stage.js'
export { type Preset, presetNames, recipePreset } from './presets.js'
export { createProgressReporter, type ProgressReporter } from './progress.js'
export { type Recipe, readRecipe } from './recipe.js'
export { learningRateAt, type ScheduleOptions, warmupSteps } from './schedule.js'
export type {
  MonolingualSource,
  ParallelSource,
  PreferenceSource,
  PseudoMonolingualSource,
  TextSource,
} from './sources.js'
export type { MonolingualStage, ParallelStage, ScheduleName, Stage } from './stages.js'
