import { applyUpdate, withLastApplied } from './apply.js'
import { type Draft, deepEqual } from './json.js'
import { groupOf, type KubeObject, keyOf, type OwnerReference } from './objects.js'
import { compareKinds, type Resource } from './resources.js'
import { ApiError, type ObjectStore } from './store.js'

/** Objects by kind (`apiVersion kind`) and then by key. */
export type Grouped<T> = ReadonlyMap<string, ReadonlyMap<string, T>>

/** Groups desired children by kind and key; of two with one name the last wins. */
export function groupDesired(children: readonly Draft[], onDuplicate: (key: string) => void): Grouped<Draft> {
  const groups = new Map<string, Map<string, Draft>>()
  for (const child of children) {
    const metadata = (child['metadata'] ?? {}) as Draft
    const kind = `${child['apiVersion'] ?? ''} ${child['kind']}`
    const key = keyOf(String(metadata['name'] ?? ''), metadata['namespace'] as string | undefined)
    const group = groups.get(kind) ?? new Map<string, Draft>()
    if (group.has(key)) onDuplicate(`${kind} ${key}`)
    group.set(key, child)
    groups.set(kind, group)
  }
  return groups
}

export interface ApplyContext {
  readonly store: ObjectStore
  readonly by: string
  readonly owner: OwnerReference
  /** Update method of a kind, by group and kind; OnDelete where nothing is said. */
  readonly method: (group: string, kind: string) => string
  readonly surprise: (what: string) => void
}

/** Makes the children that exist those that are wanted. One that fails does not keep the others; all errors come back. */
export function applyChildren(context: ApplyContext, observed: Grouped<KubeObject>, desired: Grouped<Draft>): Error[] {
  const errors: Error[] = []
  const attempt = (work: () => void) => {
    try {
      work()
    } catch (error) {
      errors.push(error as Error)
    }
  }
  for (const kind of inOrder(observed)) {
    const wanted = desired.get(kind)
    for (const [key, child] of observed.get(kind) ?? []) {
      if (child.metadata.deletionTimestamp === undefined && wanted?.has(key) !== true) {
        attempt(() => remove(context, child))
      }
    }
  }
  for (const kind of inOrder(desired)) {
    const [apiVersion, name] = kind.split(' ') as [string, string]
    const resource = context.store.resourceOfKind(apiVersion, name)
    if (resource === undefined) {
      errors.push(new Error(`discovery: can't find kind ${name} in apiVersion ${apiVersion}`))
      continue
    }
    for (const [key, child] of desired.get(kind) ?? []) {
      const current = observed.get(kind)?.get(key)
      attempt(() => (current === undefined ? create(context, child) : update(context, resource, current, child)))
    }
  }
  return errors
}

function inOrder<T>(groups: Grouped<T>): string[] {
  const kinds = [...groups.keys()].map((kind) => kind.split(' ') as [string, string])
  return kinds.sort(compareKinds).map((kind) => kind.join(' '))
}

function create({ store, by, owner }: ApplyContext, desired: Draft): void {
  const object = withLastApplied(desired, desired)
  const metadata = object['metadata'] as Draft
  const owners = (metadata['ownerReferences'] ?? []) as OwnerReference[]
  if (!owners.some((reference) => reference.uid === owner.uid)) metadata['ownerReferences'] = [...owners, owner]
  try {
    store.create(object, by)
  } catch (error) {
    // Whoever has the name keeps it: no error, no event, and the same attempt again at the next sync.
    if (!isReason(error, 'AlreadyExists')) throw error
  }
}

function update(context: ApplyContext, resource: Resource, observed: KubeObject, desired: Draft): void {
  const { store, by, surprise } = context
  const object = applyUpdate(observed, desired)
  if (deepEqual(object, observed) || observed.metadata.deletionTimestamp !== undefined) return
  const method = context.method(groupOf(resource.apiVersion), resource.kind)
  if (method === 'OnDelete') return
  if (method === 'Recreate') {
    remove(context, observed)
    return
  }
  try {
    const result = store.update(object, by)
    if (result === observed) {
      surprise(
        `${resource.kind} ${observed.metadata.name}: the API server drops or rewrites part of the desired child: one PUT per sync that changes nothing`,
      )
    }
  } catch (error) {
    // A stale cache: the event that is on its way brings another sync.
    if (!isReason(error, 'NotFound') && !isReason(error, 'Conflict')) throw error
  }
}

function remove({ store, by }: ApplyContext, child: KubeObject): void {
  try {
    store.delete(child, by, { uid: child.metadata.uid, propagation: 'Background' })
  } catch (error) {
    if (!isReason(error, 'NotFound')) {
      throw new Error(`can't delete ${child.kind} ${child.metadata.name}: ${(error as Error).message}`, {
        cause: error,
      })
    }
  }
}

export function isReason(error: unknown, reason: ApiError['reason']): boolean {
  return error instanceof ApiError && error.reason === reason
}
