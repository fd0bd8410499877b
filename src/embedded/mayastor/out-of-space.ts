import { precondition } from './failure.js'
import type { Cluster, Pool, Replica, Volume } from './model.js'
import { attachChild, removeChild } from './nexus.js'
import { type Operation, type Operations, type Steps, volumeLock } from './operations.js'
import { createReplica, destroyReplica, disownReplica } from './replicas.js'
import { isReportedOnline, reportedNexus } from './view.js'

/**
 * Where a pool ran full under replicas whose volumes go on without them, the largest of these is made again elsewhere,
 * on another pool of the same node too, and removed at once. Nobody is asked: it needs no `self_heal` and shows as no
 * operation.
 */
export function* moveOutOfSpace(cluster: Cluster, operations: Operations, operation: Operation): Steps {
  for (const replicas of fullPools(cluster).values()) {
    const largest = cluster.best('move-replica', replicas, (replica) => -allocatedBytes(replica))
    const volume = largest?.owner
    if (largest === undefined || volume === undefined) continue
    yield* operations.holding(operation, volumeLock(volume), () => move(cluster, volume, largest))
  }
  return undefined
}

function fullPools(cluster: Cluster): Map<Pool, Replica[]> {
  const found = new Map<Pool, Replica[]>()
  for (const volume of cluster.volumes.values()) {
    const nexus = reportedNexus(cluster, volume)
    if (nexus?.state !== 'Degraded') continue
    for (const { replica, reason } of nexus.children) {
      if (reason !== 'OutOfSpace' || !isReportedOnline(replica)) continue
      found.set(replica.pool, [...(found.get(replica.pool) ?? []), replica])
    }
  }
  return found
}

function allocatedBytes(replica: Replica): number {
  return replica.node.reportedReplicas.get(replica.uuid)?.allocatedBytes ?? 0
}

function* move(cluster: Cluster, volume: Volume, from: Replica): Steps {
  if (!volume.replicas.has(from)) return undefined
  let to: Replica | undefined
  const failed = yield* createReplica(
    cluster,
    volume,
    'out-of-space',
    (replica) => {
      to = replica
    },
    from,
  )
  if (failed !== undefined || to === undefined) return failed
  yield { step: 'attach replica' }
  const unattached = attachChild(cluster, volume, to, 'out-of-space')
  if (unattached !== undefined) return unattached
  const about = { volume: volume.uuid, replica: from.uuid, pool: from.pool.id, node: from.node.id }
  if (!hasOtherHealthy(cluster, volume, from)) {
    return precondition('NoHealthyReplicas', `No healthy replicas are available for Volume '${volume.uuid}'`)
  }
  yield { step: 'remove child' }
  cluster.emit('removal-chosen', { ...about, by: 'out-of-space' })
  const refused = removeChild(cluster, volume, from, 'out-of-space')
  if (refused !== undefined) return refused
  yield { step: 'destroy replica' }
  disownReplica(cluster, from, 'out-of-space')
  cluster.emit('replica-moved', { ...about, by: 'out-of-space', reason: to.uuid })
  return destroyReplica(cluster, from, 'out-of-space')
}

function hasOtherHealthy(cluster: Cluster, volume: Volume, replica: Replica): boolean {
  const children = reportedNexus(cluster, volume)?.children ?? []
  return children.some(
    (child) => child.replica !== replica && child.state === 'Online' && child.replica.healthyRecorded,
  )
}
