import type { Actor } from './event.js'
import { engineFailure, type Failure, failure, nodeNotOnline, precondition } from './failure.js'
import { type Cluster, type Node, type Pool, Replica, type Snapshot, type Volume } from './model.js'
import type { Steps } from './operations.js'
import { candidates } from './placement.js'
import { notPersisted, persist } from './store.js'
import { reportPool, reportReplica } from './view.js'

/** Puts a replica on a pool, whatever the placement rules say. */
export function putReplica(
  cluster: Cluster,
  volume: Volume,
  pool: Pool,
  of: { uuid: string; synced: boolean; writtenBytes: number },
): Replica {
  const replica = recordReplica(cluster, volume, pool, of)
  replica.life = 'Created'
  onDisk(replica)
  return replica
}

function recordReplica(
  cluster: Cluster,
  volume: Volume,
  pool: Pool,
  of: { uuid: string; synced: boolean; writtenBytes: number },
): Replica {
  const replica = new Replica({ ...of, pool, volume })
  volume.replicas.add(replica)
  cluster.replicas.set(replica.uuid, replica)
  return replica
}

function onDisk(replica: Replica): void {
  replica.pool.replicas.add(replica)
  reportReplica(replica)
  reportPool(replica.pool)
}

export const noPools: Failure = failure(
  'ResourceExhausted',
  'NotEnoughResources',
  'Not enough resources available',
  'Not enough suitable pools available, 0/1',
)

/**
 * Creates a replica on the best pool. When that fails the next best is silently tried, and so on, so the replica may
 * land where nobody expected it. The list is made once: of what changes meanwhile only a node's cordon is looked at.
 */
export function* createReplica(
  cluster: Cluster,
  volume: Volume,
  by: Actor,
  created: (replica: Replica) => void,
  moving?: Replica,
): Steps {
  let last: Failure = noPools
  for (const pool of candidates(cluster, volume, moving)) {
    const failed = yield* createReplicaOn(cluster, volume, pool, by, created)
    if (failed === undefined) return undefined
    last = failed
  }
  return last
}

/**
 * Recorded first, then made, then recorded as made. One that could not be made, or whose making could not be recorded,
 * stays the volume's in etcd, for the reconciler to clear.
 */
export function* createReplicaOn(
  cluster: Cluster,
  volume: Volume,
  pool: Pool,
  by: Actor,
  created: (replica: Replica) => void,
): Steps {
  const { node } = pool
  const about = { volume: volume.uuid, pool: pool.id, node: node.id, by }
  const refused = node.cordoned
    ? precondition('CordonedNode', `Replica create attempted on cordoned node '${node.id}'`)
    : persist(cluster, volume)
      ? undefined
      : notPersisted
  if (refused !== undefined) {
    cluster.emit('replica-create-failed', { ...about, reason: refused.message })
    return refused
  }
  const uuid = cluster.random.uuid()
  const replica = recordReplica(cluster, volume, pool, { uuid, synced: false, writtenBytes: 0 })
  yield { step: 'create replica' }
  const fault = createFault(cluster, volume, pool)
  if (fault !== undefined) {
    replica.life = 'Deleting'
    cluster.emit('replica-create-failed', { ...about, replica: replica.uuid, reason: fault.details })
    return fault
  }
  // Nothing was ever written to a volume without NexusInfo, so an empty replica of it lacks nothing.
  replica.synced = volume.nexusInfo === undefined
  onDisk(replica)
  cluster.emit('replica-created', { ...about, replica: replica.uuid })
  if (!persist(cluster, volume)) {
    replica.life = 'Deleting'
    return notPersisted
  }
  replica.life = 'Created'
  created(replica)
  return undefined
}

function createFault(cluster: Cluster, volume: Volume, pool: Pool): Failure | undefined {
  if (!pool.node.online) return unreachable(pool.node)
  if (!pool.imported) return engineFailure('NotFound', 'create_replica', `pool '${pool.id}' not found`)
  if (cluster.faults.hits('create', pool.id)) return engineFailure('Internal', 'create_replica', `pool '${pool.id}'`)
  if (!volume.asThin && pool.freeBytes < volume.sizeBytes) {
    return engineFailure('ResourceExhausted', 'create_replica', `not enough space on pool '${pool.id}'`)
  }
  return undefined
}

/** What the core says of a node it cannot reach: that it is offline if it knows, else that nobody answered. */
export function unreachable(node: Node): Failure {
  if (node.reportedStatus !== 'Online') return nodeNotOnline(node.id)
  return failure('Timeout', 'GrpcConnectTimeout', `Timed out attempting to connect to node '${node.id}'`)
}

/** The volume lets go of a replica in etcd; from here on it is only a leftover on its pool. */
export function disownReplica(cluster: Cluster, replica: Replica, by: Actor): void {
  const volume = replica.owner
  if (volume === undefined) return
  volume.replicas.delete(replica)
  replica.owner = undefined
  cluster.emit('replica-disowned', { volume: volume.uuid, replica: replica.uuid, pool: replica.pool.id, by })
}

/** Removes a disowned replica from its pool. What its snapshots hold stays there. */
export function destroyReplica(cluster: Cluster, replica: Replica, by: Actor): Failure | undefined {
  const about = { volume: replica.volumeUuid, replica: replica.uuid, pool: replica.pool.id, by }
  const fault = destroyFault(cluster, replica)
  if (fault !== undefined) {
    cluster.emit('replica-destroy-failed', { ...about, reason: fault.message })
    return fault
  }
  if (replica.onDisk) {
    replica.pool.replicas.delete(replica)
    replica.pool.leftBehindSnapshotBytes += replica.snapshotBytes
    reportReplica(replica)
    reportPool(replica.pool)
  }
  cluster.replicas.delete(replica.uuid)
  cluster.emit('replica-destroyed', about)
  return undefined
}

function destroyFault(cluster: Cluster, replica: Replica): Failure | undefined {
  const { pool } = replica
  if (replica.nexusOwner !== undefined) {
    return failure('InUse', 'InUse', `Replica resource id ${replica.uuid} is still in use`, `id: ${replica.uuid}`)
  }
  replica.life = 'Deleting'
  if (!pool.node.online) return unreachable(pool.node)
  if (!pool.imported) return precondition('PoolNotLoaded', `Pool '${pool.id}' not loaded`)
  if (cluster.faults.hits('destroy', replica.uuid)) {
    return engineFailure('Internal', 'destroy_replica', `replica '${replica.uuid}'`)
  }
  return undefined
}

/** Takes what belongs to a snapshot off the pools it is on, also off those whose replica has left. */
export function dropSnapshot(volume: Volume, snapshot: Snapshot): void {
  volume.snapshotList.splice(volume.snapshotList.indexOf(snapshot), 1)
  for (const { pool, replica, bytes } of snapshot.parts) {
    if (replica.onDisk) {
      replica.snapshotBytes -= bytes
      reportReplica(replica)
    } else {
      pool.leftBehindSnapshotBytes -= bytes
    }
    reportPool(pool)
  }
}
