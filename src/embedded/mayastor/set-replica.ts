import type { Actor } from './event.js'
import { type Failure, notFound, precondition } from './failure.js'
import type { Cluster, Replica, Volume } from './model.js'
import { attachChild, upgradeRequired } from './nexus.js'
import { groupLock, type Operation, type Operations, type Steps, volumeLock } from './operations.js'
import { canRebuildSnapshots } from './placement.js'
import { moveRefusal } from './pool-drain.js'
import { removalCandidate } from './removal.js'
import { removeReplica } from './remove-replica.js'
import { createReplica } from './replicas.js'
import { completeUpdate, startUpdate } from './store.js'
import { volumeStatus } from './view.js'

/** One call of replica_count, from the lock to the recorded count. */
export function* setReplicaCount(
  cluster: Cluster,
  operations: Operations,
  operation: Operation,
  uuid: string,
  count: number,
): Steps {
  const volume = cluster.volumes.get(uuid)
  if (volume === undefined) return notFound('Volume', uuid)
  return yield* operations.holding(operation, volumeLock(volume), function* () {
    if (cluster.volumes.get(uuid) !== volume) return notFound('Volume', uuid)
    const { by } = operation
    const refused = startUpdate(cluster, volume, 'SetReplica', by, () => refusal(cluster, volume, count))
    if (refused !== undefined) return refused
    let begun = false
    const failed = yield* operations.holding(operation, groupLock(volume), function* () {
      begun = true
      return yield* count > volume.numReplicas ? increase(cluster, volume, by) : decrease(cluster, volume, count, by)
    })
    // Without the group's lock it gives up as it stands: its begin stays recorded, until the reconciler clears it.
    if (!begun) return failed
    return completeUpdate(cluster, volume, by, failed, () => {
      const from = volume.numReplicas
      volume.numReplicas = count
      cluster.emit('replica-count', { volume: uuid, from, to: count, by })
    })
  })
}

/** The conditions of its own in the order the core checks them, each with the answer it gives. */
function refusal(cluster: Cluster, volume: Volume, count: number): Failure | undefined {
  const { uuid, numReplicas } = volume
  if (count === numReplicas) {
    return precondition('ReplicaCountAchieved', `Replica count of Volume '${uuid}' is already '${count}'`)
  }
  if (count < 1) return precondition('LastReplica', `Cannot remove the last replica '' of volume '${uuid}'`)
  if (Math.abs(count - numReplicas) > 1) {
    return precondition('ReplicaChangeCount', 'Replica count only allowed to change by a maximum of one at a time')
  }
  const status = volumeStatus(cluster, volume)
  if (count > numReplicas && status !== 'Online') {
    const sentence = `Unable to increase replica count due to volume '${uuid}' in state '${status}'`
    return precondition('ReplicaIncrease', sentence)
  }
  if (volume.affinityGroup !== undefined && count < 2 && !cluster.atLeast(2, 10)) return restricted(count)
  if (count > numReplicas && volume.snapshots > 0 && !canRebuildSnapshots(volume)) return upgradeRequired
  return moveRefusal(volume, count)
}

function restricted(count: number): Failure {
  return precondition('RestrictedReplicaCount', `Replica Count of ${count} is not attainable for AffinityGroup`)
}

function* increase(cluster: Cluster, volume: Volume, by: Actor): Steps {
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
  if (victim === 'restricted') return restricted(count)
  if (victim !== undefined) {
    const failed = yield* removeReplica(cluster, volume, victim, by)
    if (failed !== undefined) return failed
  }
  // With nothing to remove the count is still lowered; the reconciler trims what is too many later.
  yield { step: 'commit' }
  return undefined
}
