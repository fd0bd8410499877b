import { Compile } from 'typebox/compile'
import Value from 'typebox/value'
import { parseDuration } from '../api/duration.js'
import type { KubernetesObject } from '../api/kubernetes.js'
import { RESUME_ANNOTATION } from '../api/names.js'
import { StoragePolicySpec } from '../api/storage-policy.js'
import { formatTime, parseTime } from '../api/time.js'
import { type LabelSelector, selectsSomething } from './selector.js'

/** What the server's options say about every policy. */
export interface PolicyOptions {
  /** Decide and report; start nothing. */
  readonly dryRun: boolean
  /** Keep the old replica after a move. */
  readonly preservationMode: boolean
  /** Migrations in the whole cluster at once, 1 and up. */
  readonly maxConcurrentMigrations: number
  /** Used where the policy sets no migrationTimeout; minutes, 1 and up. */
  readonly migrationTimeoutMinutes: number
}

/** A policy that can be acted on: defaults filled in, durations read. */
export interface Policy {
  readonly name: string
  readonly uid: string
  readonly spec: StoragePolicySpec
  readonly windowMs: number
  readonly cooldownMs: number
  readonly migrationTimeout: string
  /** The trip of the breaker that a person has seen. */
  readonly resumed: string | undefined
  readonly nvmeSelector: LabelSelector
  readonly sataSelector: LabelSelector
}

/** Why a policy cannot be acted on: a sentence for each bad field. */
export interface InvalidPolicy {
  readonly problems: readonly string[]
}

/** Problems of the shape of a policy that are reported at once. */
const PROBLEMS_LIMIT = 8

const validator = Compile(StoragePolicySpec)

/**
 * Reads a policy with its defaults. The API server refuses most bad values; what still gets through (an older CRD,
 * a request by hand) is reported by field and value.
 */
export function readPolicy(parent: KubernetesObject, options: PolicyOptions): Policy | InvalidPolicy {
  const spec = Value.Default(StoragePolicySpec, structuredClone(parent.spec ?? {}))
  if (!validator.Check(spec)) {
    return {
      problems: validator
        .Errors(spec)
        // Of a label map; the label that is wrong has an error of its own.
        .filter((error) => error.keyword !== 'additionalProperties')
        .slice(0, PROBLEMS_LIMIT)
        .flatMap((error) => sentences(spec, error)),
    }
  }
  const problems: string[] = []
  const duration = (field: 'samplingWindow' | 'cooldownPeriod' | 'migrationTimeout' | 'migrationHardTimeout') => {
    const text = spec[field]
    const ms = text === undefined ? undefined : parseDuration(text)
    if (text !== undefined && ms === undefined) {
      problems.push(`spec.${field} is ${show(text)}: must be above zero and at most a year`)
    }
    return ms ?? 0
  }
  const windowMs = duration('samplingWindow')
  const cooldownMs = duration('cooldownPeriod')
  duration('migrationTimeout')
  duration('migrationHardTimeout')
  if (spec.lowWatermarkIOPS >= spec.highWatermarkIOPS) {
    problems.push(
      `spec.lowWatermarkIOPS is ${spec.lowWatermarkIOPS}: must be below highWatermarkIOPS, ${spec.highWatermarkIOPS}`,
    )
  }
  for (const field of ['nvmePoolSelector', 'sataPoolSelector'] as const) {
    const selector = spec[field] as LabelSelector
    if (!selectsSomething(selector)) {
      problems.push(`spec.${field} selects by negations only: needs a matchLabels, In or Exists`)
    }
    for (const { key, operator, values } of selector.matchExpressions ?? []) {
      const wantsValues = operator === 'In' || operator === 'NotIn'
      if (wantsValues !== (values !== undefined && values.length > 0)) {
        problems.push(`spec.${field}: ${key} ${operator} ${wantsValues ? 'needs values' : 'takes no values'}`)
      }
    }
  }
  if (problems.length > 0) return { problems }
  return {
    name: parent.metadata?.name ?? '',
    uid: parent.metadata?.uid ?? '',
    spec,
    windowMs,
    cooldownMs,
    migrationTimeout: spec.migrationTimeout ?? `${options.migrationTimeoutMinutes}m`,
    resumed: readResumed(parent),
    nvmeSelector: spec.nvmePoolSelector as LabelSelector,
    sataSelector: spec.sataPoolSelector as LabelSelector,
  }
}

/** The annotation, where it is a time at all. */
function readResumed({ metadata }: KubernetesObject): string | undefined {
  const text = metadata?.annotations?.[RESUME_ANNOTATION]
  const ms = text === undefined ? undefined : parseTime(text)
  return ms === undefined ? undefined : formatTime(ms)
}

function sentences(spec: unknown, error: { instancePath: string; message: string; params: object }): string[] {
  // A JSON pointer; label keys have slashes.
  const parts = error.instancePath.split('/').map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
  const path = ['spec', ...parts.slice(1)].join('.')
  if ('requiredProperties' in error.params) {
    return (error.params.requiredProperties as string[]).map((field) => `${path}.${field} is missing`)
  }
  let value: unknown = spec
  for (const part of parts.slice(1)) value = (value as Record<string, unknown>)[part]
  return [`${path} is ${show(value)}: ${error.message}`]
}

function show(value: unknown): string {
  const text = JSON.stringify(value)
  return text.length > 64 ? `${text.slice(0, 61)}...` : text
}
