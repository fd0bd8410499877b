import type { Json, JsonObject } from '../api/kubernetes.js'
import { parseTime } from '../api/time.js'

/** Careful reading of JSON nobody has checked: the value when it has the type, else undefined. */
export const text = (value: Json | undefined): string | undefined => (typeof value === 'string' ? value : undefined)

export const finite = (value: Json | undefined): number | undefined =>
  typeof value === 'number' && Number.isFinite(value) ? value : undefined

export const object = (value: unknown): JsonObject | undefined =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonObject) : undefined

export const list = (value: Json | undefined): readonly Json[] => (Array.isArray(value) ? value : [])

/** Milliseconds of an RFC 3339 time; undefined when it is none. */
export const time = (value: Json | undefined): number | undefined =>
  typeof value === 'string' ? parseTime(value) : undefined
