import type { Actor } from './event.js'
import { type Failure, failure } from './failure.js'
import { type Cluster, type Pool, Replica, type Volume } from './model.js'
import type { Steps } from './operations.js'
import { candidates } from './placement.js'
import { reportPool, reportReplica } from './view.js'

/** Puts a replica on a pool, whatever the placement rules say. */
export function putReplica(
  cluster: Cluster,
  volume: Volume,
  pool: Pool,
  of: { uuid: string; synced: boolean; writtenBytes: number },
): Replica {
  const replica = new Replica({ ...of, pool, volume })
  pool.replicas.add(replica)
  volume.replicas.add(replica)
  cluster.replicas.set(replica.uuid, replica)
  reportReplica(replica)
  reportPool(pool)
  return replica
}

/**
 * Creates a replica on the best pool. When that fails the next best is silently tried, and so on, so the replica may
 * land where nobody expected it. The list is made once: what changes meanwhile is not looked at again.
 */
export function* createReplica(
  cluster: Cluster,
  volume: Volume,
  by: Actor,
  created: (replica: Replica) => void,
): Steps {
  const pools = candidates(cluster, volume)
  let last: Failure = failure('ResourceExhausted', 'NotEnoughResources', 'Not enough suitable pools available, 0/1')
  for (const [index, pool] of pools.entries()) {
    if (index > 0) yield { step: 'create replica elsewhere' }
    const fault = createFault(cluster, volume, pool)
    if (fault === undefined) {
      // Nothing was ever written to a volume without NexusInfo, so an empty replica of it lacks nothing.
      const synced = volume.nexusInfo === undefined
      const replica = putReplica(cluster, volume, pool, { uuid: cluster.random.uuid(), synced, writtenBytes: 0 })
      cluster.emit('replica-created', {
        volume: volume.uuid,
        replica: replica.uuid,
        pool: pool.id,
        node: pool.node.id,
        by,
      })
      created(replica)
      return undefined
    }
    last = fault
    cluster.emit('replica-create-failed', { volume: volume.uuid, pool: pool.id, by, reason: fault.details })
  }
  return last
}

function createFault(cluster: Cluster, volume: Volume, pool: Pool): Failure | undefined {
  if (!pool.node.online) return failure('Unavailable', 'NodeNotOnline', `Node '${pool.node.id}' is not online`)
  if (cluster.faults.hits('create', pool.id)) {
    return failure('Internal', 'GrpcRequestError', `create_replica on pool '${pool.id}' failed`)
  }
  if (!volume.thin && pool.freeBytes < volume.sizeBytes) {
    return failure('ResourceExhausted', 'GrpcRequestError', `create_replica: not enough space on pool '${pool.id}'`)
  }
  return undefined
}

/** The volume lets go of a replica in etcd; from here on it is only a leftover on its pool. */
export function disownReplica(cluster: Cluster, replica: Replica, by: Actor): void {
  const volume = replica.owner
  if (volume === undefined) return
  volume.replicas.delete(replica)
  volume.nexusInfo?.healthy.delete(replica.uuid)
  replica.owner = undefined
  replica.deleting = true
  cluster.emit('replica-disowned', { volume: volume.uuid, replica: replica.uuid, pool: replica.pool.id, by })
}

/** Removes a disowned replica from its pool. What its snapshots hold stays there. */
export function destroyReplica(cluster: Cluster, replica: Replica, by: Actor): Failure | undefined {
  const about = { volume: replica.volumeUuid, replica: replica.uuid, pool: replica.pool.id, by }
  const fault = destroyFault(cluster, replica)
  if (fault !== undefined) {
    cluster.emit('replica-destroy-failed', { ...about, reason: fault.details })
    return fault
  }
  replica.pool.replicas.delete(replica)
  replica.pool.leftBehindSnapshotBytes += replica.snapshotBytes
  cluster.replicas.delete(replica.uuid)
  reportReplica(replica)
  reportPool(replica.pool)
  cluster.emit('replica-destroyed', about)
  return undefined
}

function destroyFault(cluster: Cluster, replica: Replica): Failure | undefined {
  if (replica.nexusOwner !== undefined) {
    return failure('InUse', 'InUse', `Replica '${replica.uuid}' is in use by nexus '${replica.nexusOwner}'`)
  }
  if (!replica.node.online) return failure('Unavailable', 'NodeNotOnline', `Node '${replica.node.id}' is not online`)
  if (cluster.faults.hits('destroy', replica.uuid)) {
    return failure('Internal', 'GrpcRequestError', `destroy_replica of '${replica.uuid}' failed`)
  }
  return undefined
}
