import { isReason } from './children.js'
import { controllerOf, type KubeObject, type OwnerReference } from './objects.js'
import type { LabelMatch } from './selector.js'
import { ApiError, type ObjectStore } from './store.js'

export interface Claimer {
  readonly store: ObjectStore
  readonly by: string
  readonly parent: KubeObject
  readonly owner: OwnerReference
  readonly selects: LabelMatch
}

/**
 * Which of the candidates are this parent's children: its own that still match, and orphans that match, which are
 * adopted. Its own that match no longer are released; those of others are none of its business.
 */
export function claim(claimer: Claimer, candidates: readonly KubeObject[]): KubeObject[] {
  const { store, by, parent, owner, selects } = claimer
  const claimed: KubeObject[] = []
  const errors: string[] = []
  const deleting = parent.metadata.deletionTimestamp !== undefined
  for (const child of candidates) {
    const current = controllerOf(child)
    const matches = selects(child.metadata.labels)
    if (current !== undefined && current.uid !== parent.metadata.uid) continue
    if (current !== undefined && matches) {
      claimed.push(child)
      continue
    }
    if (deleting || (current === undefined && (!matches || child.metadata.deletionTimestamp !== undefined))) continue
    try {
      if (current === undefined) {
        recheck(store, parent)
        setOwners(store, by, child, (owners) => [...owners.filter(({ uid }) => uid !== owner.uid), owner])
        claimed.push(child)
      } else {
        setOwners(store, by, child, (owners) => owners.filter(({ uid }) => uid !== owner.uid))
      }
    } catch (error) {
      if (!isReason(error, 'NotFound')) errors.push((error as Error).message)
    }
  }
  if (errors.length > 0) throw new Error(`can't claim children: ${errors.join(', ')}`)
  return claimed
}

/** Nothing is adopted for a parent that, read now, is being deleted or is another object of that name. */
function recheck(store: ObjectStore, parent: KubeObject): void {
  const fresh = store.get(parent)
  if (fresh === undefined || fresh.metadata.uid !== parent.metadata.uid) {
    throw new Error(`can't adopt: original ${parent.kind} ${parent.metadata.name} is gone`)
  }
  if (fresh.metadata.deletionTimestamp !== undefined) {
    throw new Error(`can't adopt: ${parent.kind} ${parent.metadata.name} has just been deleted`)
  }
}

function setOwners(
  store: ObjectStore,
  by: string,
  child: KubeObject,
  change: (owners: readonly OwnerReference[]) => OwnerReference[],
): void {
  const live = store.get(child)
  if (live === undefined || live.metadata.uid !== child.metadata.uid) {
    throw new ApiError('NotFound', `${child.kind} ${child.metadata.name} not found`)
  }
  store.patchMetadata(live, { ownerReferences: change(live.metadata.ownerReferences ?? []) }, by)
}
