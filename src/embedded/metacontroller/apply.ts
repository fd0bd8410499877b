import { canonicalJson, type Draft, isObject, toWire } from './json.js'
import type { KubeObject } from './objects.js'

export const LAST_APPLIED = 'metacontroller.k8s.io/last-applied-configuration'

/** Keys by which arrays of objects are taken for maps, in order of precedence. */
const MERGE_KEYS = ['containerPort', 'port', 'mountPath', 'name', 'uid', 'ip', 'path']

const SYSTEM_METADATA = [
  'selfLink',
  'uid',
  'resourceVersion',
  'generation',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
  'managedFields',
]

/** A desired child with the annotation that remembers what was asked for. */
export function withLastApplied(object: Draft, applied: Draft): Draft {
  const metadata = object['metadata'] as Draft
  const annotations = { ...((metadata['annotations'] ?? {}) as Draft), [LAST_APPLIED]: canonicalJson(applied) }
  return { ...object, metadata: { ...metadata, annotations } }
}

/**
 * What an observed child becomes: a three-way merge of what was last asked for, what is asked for now and what is
 * there. Metadata the system keeps and status are always those observed.
 */
export function applyUpdate(observed: KubeObject, desired: Draft): Draft {
  const applied = lastApplied(observed)
  const merged = merge(toWire(observed), applied, withoutLastApplied(desired)) as Draft
  const metadata = merged['metadata'] as Draft
  for (const field of SYSTEM_METADATA) restore(metadata, field, observed.metadata as unknown as Draft)
  restore(merged, 'status', observed)
  return withLastApplied(merged, withoutLastApplied(desired))
}

function lastApplied(observed: KubeObject): unknown {
  const text = observed.metadata.annotations?.[LAST_APPLIED]
  if (text === undefined || text === '') return undefined
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new Error(`can't unmarshal "${LAST_APPLIED}" annotation`, { cause: error })
  }
}

function withoutLastApplied(object: Draft): Draft {
  const metadata = object['metadata'] as Draft
  const annotations = metadata['annotations']
  if (!isObject(annotations) || !Object.hasOwn(annotations, LAST_APPLIED)) return object
  const { [LAST_APPLIED]: _dropped, ...rest } = annotations
  return { ...object, metadata: { ...metadata, annotations: rest } }
}

function restore(target: Draft, field: string, original: Draft): void {
  if (original[field] === undefined) delete target[field]
  else target[field] = original[field]
}

/** Where the kinds of value disagree, the ones that do not fit what is there count as empty. */
function merge(destination: unknown, applied: unknown, desired: unknown): unknown {
  if (isObject(destination)) return mergeObject(destination, objectOr(applied), objectOr(desired))
  if (Array.isArray(destination)) {
    return mergeArray(destination, Array.isArray(applied) ? applied : [], Array.isArray(desired) ? desired : undefined)
  }
  return desired
}

function objectOr(value: unknown): Draft {
  return isObject(value) ? value : {}
}

function mergeObject(destination: Draft, applied: Draft, desired: Draft): Draft {
  for (const key of Object.keys(applied)) if (!Object.hasOwn(desired, key)) delete destination[key]
  for (const [key, value] of Object.entries(desired)) destination[key] = merge(destination[key], applied[key], value)
  return destination
}

function mergeArray(destination: unknown[], applied: unknown[], desired: unknown[] | undefined): unknown {
  const key = listKey([...destination, ...applied, ...(desired ?? [])])
  if (key === undefined) return desired ?? null
  const wanted = desired ?? []
  const identify = (item: unknown) => String((item as Draft)[key])
  const byKey = (items: unknown[]): Draft => Object.fromEntries(items.map((item) => [identify(item), item]))
  const merged = mergeObject(byKey(destination), byKey(applied), byKey(wanted))
  // What was there keeps its place; what is new comes behind.
  const result: unknown[] = []
  const placed = new Set<string>()
  for (const item of destination) {
    const id = identify(item)
    if (!Object.hasOwn(merged, id)) continue
    result.push(merged[id])
    placed.add(id)
  }
  for (const item of wanted) {
    const id = identify(item)
    if (!placed.has(id)) result.push(merged[id])
    placed.add(id)
  }
  return result
}

function listKey(items: readonly unknown[]): string | undefined {
  if (items.length === 0 || !items.every(isObject)) return undefined
  return MERGE_KEYS.find((key) => items.every((item) => Object.hasOwn(item as Draft, key)))
}
