import type { Actor } from './event.js'
import { type Failure, failure } from './failure.js'
import type { Cluster, Replica, Volume } from './model.js'
import { attachChild, noNexus, removeChild } from './nexus.js'
import type { Operation, Operations, Steps } from './operations.js'
import { canRebuildSnapshots, groupOf } from './placement.js'
import { firstToGo, removalCandidate } from './removal.js'
import { createReplica, destroyReplica, disownReplica } from './replicas.js'
import { reportedNexus, volumeStatus } from './view.js'

/** One call of replica_count, from the lock to the persisted count. */
export function* setReplicaCount(
  cluster: Cluster,
  operations: Operations,
  operation: Operation,
  uuid: string,
  count: number,
): Steps {
  const found = cluster.volumes.get(uuid)
  if (found === undefined) return notFound(uuid)
  const locked = yield* operations.lock(operation, found)
  if (locked !== undefined) return locked
  try {
    const volume = cluster.volumes.get(uuid)
    if (volume === undefined) return notFound(uuid)
    const refused = refusal(cluster, volume, count)
    if (refused !== undefined) return refused
    startUpdate(cluster, volume, 'SetReplica', operation.by)
    const growing = count > volume.numReplicas
    const failed = yield* growing
      ? increase(cluster, volume, operation.by)
      : decrease(cluster, volume, count, operation.by)
    if (failed === undefined) {
      const from = volume.numReplicas
      volume.numReplicas = count
      cluster.emit('replica-count', { volume: uuid, from, to: count, by: operation.by })
    }
    endUpdate(cluster, volume, operation.by, failed)
    return failed
  } finally {
    operations.unlock(operation)
  }
}

export function notFound(uuid: string): Failure {
  return failure('NotFound', 'VolumeNotFound', `Volume '${uuid}' not found`)
}

export function startUpdate(cluster: Cluster, volume: Volume, operation: string, by: Actor): void {
  volume.operation = operation
  cluster.emit('operation-started', { volume: volume.uuid, by, reason: operation })
}

export function endUpdate(cluster: Cluster, volume: Volume, by: Actor, failed: Failure | undefined): void {
  const reason = `${volume.operation} ${failed === undefined ? 'done' : failed.details}`
  volume.operation = undefined
  cluster.emit('operation-ended', { volume: volume.uuid, by, reason })
}

/** The conditions in the order the core checks them, each with the answer it gives. */
function refusal(cluster: Cluster, volume: Volume, count: number): Failure | undefined {
  const { uuid, numReplicas } = volume
  if (cluster.faults.hits('store', uuid)) {
    return failure('FailedPersist', 'StoreDirty', `Volume '${uuid}' has an operation that is not persisted yet`)
  }
  if (volume.target !== undefined && reportedNexus(cluster, volume) === undefined) {
    return failure('Unavailable', 'NotReady', `Volume '${uuid}': the state of its target is not known`)
  }
  if (count === numReplicas) {
    return precondition('ReplicaCountAchieved', `Volume '${uuid}' already has ${count} replicas`)
  }
  if (count < 1) return precondition('LastReplica', `Cannot remove the last replica of volume '${uuid}'`)
  if (Math.abs(count - numReplicas) > 1) {
    return precondition('ReplicaChangeCount', `Cannot change the replicas of volume '${uuid}' by more than 1 at a time`)
  }
  if (count > numReplicas) {
    const status = volumeStatus(cluster, volume)
    if (status !== 'Online') {
      return precondition('ReplicaIncrease', `Cannot add a replica to volume '${uuid}' while it is ${status}`)
    }
    if (volume.snapshots > 0 && !canRebuildSnapshots(volume)) {
      return precondition('UpgradeRequiredToRebuild', `Volume '${uuid}' has snapshots: upgrade the io-engines first`)
    }
  }
  if (volume.affinityGroup !== undefined && count < 2 && !mayBecomeSingle(cluster, volume)) {
    return precondition('RestrictedReplicaCount', `Volume '${uuid}' is in affinity group '${volume.affinityGroup}'`)
  }
  return undefined
}

function precondition(error: string, sentence: string): Failure {
  return failure('FailedPrecondition', error, sentence)
}

/** Since 2.10 a group's member may shrink to one replica unless that would share a node with another single one. */
function mayBecomeSingle(cluster: Cluster, volume: Volume): boolean {
  if (!cluster.atLeast(2, 10)) return false
  const victim = firstToGo(cluster, volume)
  const survivors = [...volume.replicas].filter((replica) => replica !== victim)
  return !groupOf(cluster, volume).some(
    (other) =>
      other.numReplicas === 1 && [...other.replicas].some((single) => survivors.some((s) => s.node === single.node)),
  )
}

function* increase(cluster: Cluster, volume: Volume, by: Actor): Steps {
  yield { step: 'create replica' }
  let added: Replica | undefined
  const failed = yield* createReplica(cluster, volume, by, (replica) => {
    added = replica
  })
  if (failed !== undefined) return failed
  if (volume.target !== undefined && added !== undefined) {
    yield { step: 'attach replica' }
    const unattached = attachChild(cluster, volume, added, by)
    // The replica stays, owned by the volume; the reconciler removes it as surplus.
    if (unattached !== undefined) return unattached
  }
  yield { step: 'commit' }
  return undefined
}

function* decrease(cluster: Cluster, volume: Volume, count: number, by: Actor): Steps {
  yield { step: 'choose replica' }
  const victim = removalCandidate(cluster, volume, count)
  if (victim !== undefined) {
    const failed = yield* removeReplica(cluster, volume, victim, by)
    if (failed !== undefined) return failed
  }
  // With nothing to remove the count is still lowered; the reconciler trims what is too many later.
  yield { step: 'commit' }
  return undefined
}

/** Out of the nexus, out of the volume, off the disk. A failure leaves what was done done. */
export function* removeReplica(cluster: Cluster, volume: Volume, victim: Replica, by: Actor): Steps {
  cluster.emit('removal-chosen', { volume: volume.uuid, replica: victim.uuid, node: victim.node.id, by })
  const inNexus = reportedNexus(cluster, volume)?.children.some((child) => child.replica === victim) ?? false
  if (inNexus) {
    yield { step: 'remove child' }
    const { nexus } = volume
    if (nexus === undefined) return noNexus(cluster, volume)
    const child = nexus.childOf(victim)
    if (child !== undefined) {
      const refused = removeChild(cluster, nexus, child, by)
      if (refused !== undefined) return refused
    }
    victim.nexusOwner = undefined
  }
  yield { step: 'disown replica' }
  disownReplica(cluster, victim, by)
  yield { step: 'destroy replica' }
  return destroyReplica(cluster, victim, by)
}
