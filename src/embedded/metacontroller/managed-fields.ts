import { type Draft, deepEqual, isObject } from './json.js'

/**
 * metadata.managedFields much as the API server writes them: who set which fields, by whole writes. They carry close
 * to half of a request's bytes in a cluster, and nobody reads them; ownership between managers is not resolved.
 */
export function managedFields(
  before: Draft | undefined,
  after: Draft,
  manager: string,
  time: string,
  status: boolean,
): Draft[] {
  const entries = (((before?.['metadata'] as Draft | undefined)?.['managedFields'] ?? []) as Draft[]).map((entry) => ({
    ...entry,
  }))
  const changed = changedFields(owned(before ?? {}), owned(after))
  const mine = entries.find((entry) => entry['manager'] === manager && 'subresource' in entry === status)
  if (mine !== undefined) {
    mine['time'] = time
    mine['fieldsV1'] = union(mine['fieldsV1'] as Draft, changed)
    return entries
  }
  entries.push({
    apiVersion: after['apiVersion'],
    fieldsType: 'FieldsV1',
    fieldsV1: changed,
    manager,
    operation: 'Update',
    ...(status ? { subresource: 'status' } : {}),
    time,
  })
  return entries
}

/** The part of an object that fields are tracked for. */
function owned(object: Draft): Draft {
  const { apiVersion: _apiVersion, kind: _kind, metadata, ...rest } = object
  const tracked: Draft = {}
  for (const field of ['annotations', 'finalizers', 'labels', 'ownerReferences']) {
    const value = (metadata as Draft | undefined)?.[field]
    if (value !== undefined) tracked[field] = value
  }
  return Object.keys(tracked).length === 0 ? rest : { metadata: tracked, ...rest }
}

function changedFields(before: Draft, after: Draft): Draft {
  const fields: Draft = {}
  for (const [key, value] of Object.entries(after)) {
    const old = before[key]
    if (deepEqual(old, value)) continue
    fields[`f:${key}`] = isObject(value)
      ? { ...(isObject(old) ? {} : { '.': {} }), ...changedFields(isObject(old) ? old : {}, value) }
      : {}
  }
  return fields
}

function union(a: Draft, b: Draft): Draft {
  const result: Draft = { ...a }
  for (const [key, value] of Object.entries(b)) {
    const old = result[key]
    result[key] = isObject(old) ? union(old, value as Draft) : value
  }
  return result
}
