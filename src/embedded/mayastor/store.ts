import type { Actor } from './event.js'
import { type Failure, failure, precondition } from './failure.js'
import type { Cluster, Volume } from './model.js'
import { reportedNexus } from './view.js'

// Around every change of a volume the core writes to etcd: that it begins, and how it ended. The end is what changes
// the record. Where it cannot be written, the change is made but not recorded, and nothing else is begun until it is.

/** Operations that may begin although the target and what is heard of it do not agree. */
const UNSETTLED = new Set(['Publish', 'Unpublish', 'Republish', 'CreateSnapshot', 'DestroySnapshot'])

/** Begins an operation on a volume, unless something keeps it from beginning; `check` is what is its own. */
export function startUpdate(
  cluster: Cluster,
  volume: Volume,
  operation: string,
  by: Actor,
  check: () => Failure | undefined = () => undefined,
): Failure | undefined {
  const refused = busy(cluster, volume) ?? lifeFailure(volume) ?? unsettled(cluster, volume, operation) ?? check()
  if (refused !== undefined) return refused
  return logStart(cluster, volume, operation, by)
}

/** An earlier operation whose end is not recorded. */
export function busy(cluster: Cluster, volume: Volume): Failure | undefined {
  const dirty = volume.operation !== undefined || cluster.faults.hits('dirty', volume.uuid)
  return dirty ? failure('FailedPersist', 'StoreDirty', `Volume '${volume.uuid}' has unsaved changes`) : undefined
}

function lifeFailure({ uuid, life }: Volume): Failure | undefined {
  if (life === 'Created') return undefined
  return life === 'Creating'
    ? precondition('PendingCreation', `Volume '${uuid}' is being created..`)
    : precondition('PendingDeletion', `Volume '${uuid}' is being deleted..`)
}

function unsettled(cluster: Cluster, volume: Volume, operation: string): Failure | undefined {
  if (UNSETTLED.has(operation)) return undefined
  if (volume.target === undefined || reportedNexus(cluster, volume) !== undefined) return undefined
  return failure(
    'Unavailable',
    'NotReady',
    `Volume '${volume.uuid}' is not ready: the state of its target is not known`,
  )
}

export function logStart(cluster: Cluster, volume: Volume, operation: string, by: Actor): Failure | undefined {
  if (!persist(cluster, volume)) return notPersisted
  volume.operation = operation
  cluster.emit('operation-started', { volume: volume.uuid, by, reason: operation })
  return undefined
}

/** Ends the operation that runs. `commit` is what its success changes in the record, and happens when it is recorded. */
export function completeUpdate(
  cluster: Cluster,
  volume: Volume,
  by: Actor,
  failed: Failure | undefined,
  commit: () => void = () => {},
): Failure | undefined {
  if (!persist(cluster, volume)) {
    volume.outcome = failed === undefined
    volume.commit = commit
    return notPersisted
  }
  if (failed === undefined) commit()
  clearOperation(cluster, volume, by, failed?.message ?? 'done')
  return failed
}

/**
 * Records what was left unrecorded: an end that is known, or the failure of what ended without one. A volume that was
 * being created is deleted, and counts as dirty until the next look.
 */
export function flush(cluster: Cluster, volume: Volume): boolean {
  if (volume.operation === undefined) return true
  if (volume.life === 'Creating') {
    volume.life = 'Deleting'
    cluster.emit('volume-deleting', { volume: volume.uuid, by: 'core' })
    return true
  }
  if (!persist(cluster, volume)) return false
  if (volume.outcome) volume.commit?.()
  clearOperation(cluster, volume, 'core', volume.outcome ? 'done' : 'failed')
  return true
}

/** What an operation that had not ended, or whose end nobody recorded, is to a core that starts: without a result. */
export function forgetOutcome(volume: Volume): void {
  volume.outcome = undefined
  volume.commit = undefined
}

function clearOperation(cluster: Cluster, volume: Volume, by: Actor, how: string): void {
  const reason = `${volume.operation} ${how}`
  volume.operation = undefined
  forgetOutcome(volume)
  cluster.emit('operation-ended', { volume: volume.uuid, by, reason })
}

/** One write to etcd about a volume or one of its replicas. */
export function persist(cluster: Cluster, { uuid }: { readonly uuid: string }): boolean {
  const { faults } = cluster
  if (!faults.storeDown && !faults.hits('persist', uuid)) return true
  cluster.emit('persist-failed', { volume: uuid })
  return false
}

export const notPersisted: Failure = failure(
  'FailedPersist',
  'Store',
  'Persistent store request failed',
  'etcd: timeout',
)
