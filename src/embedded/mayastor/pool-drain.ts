import { type Failure, failure, precondition } from './failure.js'
import type { Cluster, DrainPhase, Pool, Replica, ReplicaMove, Volume } from './model.js'
import { removeChild } from './nexus.js'
import { type Operations, type Steps, volumeLock } from './operations.js'
import { removeUnused } from './remove-replica.js'
import { dropSnapshot } from './replicas.js'
import { isReportedOnline, reportedNexus, reportPool, volumeStatus } from './view.js'

// Mayastor's own drain of a pool, in no release yet: volume by volume one replica more is added elsewhere, and when it
// is rebuilt the one on the pool goes. The counts of the volumes do not change by it. What is done to replicas is done
// by hot-spare; here is decided what is moved, and when.

/** Replicas of one pool that are moved at once. */
const MOVES_PER_POOL = 2

export function drainPool(cluster: Cluster, pool: Pool, acceptSnapshotLoss: boolean): Failure | undefined {
  const { drain } = pool
  if (drain !== undefined && drain.phase !== 'Queued' && drain.phase !== 'PartiallyDrained') {
    return precondition('PoolDrain', `Pool '${pool.id}' is in drain phase '${drain.phase}'`)
  }
  pool.drain = { requestedAt: cluster.clock.now(), acceptSnapshotLoss, phase: 'Queued', moves: new Set() }
  cluster.emit('pool-drain', { pool: pool.id, reason: 'Queued' })
  cluster.onTrigger()
  return undefined
}

/** Takes the drain back: what was moved stays moved, what is under way is undone. */
export function releaseDrain(cluster: Cluster, pool: Pool): Failure | undefined {
  const { drain } = pool
  if (drain === undefined) return failure('AlreadyExists', 'PoolDrain', `Pool '${pool.id}' is not being drained`)
  if (drain.phase === 'Draining' && drain.moves.size > 0) setPhase(cluster, pool, 'Cancelled')
  else release(cluster, pool)
  cluster.onTrigger()
  return undefined
}

function release(cluster: Cluster, pool: Pool): void {
  pool.drain = undefined
  cluster.emit('pool-drain', { pool: pool.id, reason: 'released' })
}

function setPhase(cluster: Cluster, pool: Pool, phase: DrainPhase): void {
  if (pool.drain === undefined || pool.drain.phase === phase) return
  pool.drain.phase = phase
  cluster.emit('pool-drain', { pool: pool.id, reason: phase })
}

/** Whether a count may be changed while a drain moves one of the volume's replicas. */
export function moveRefusal(volume: Volume, count: number): Failure | undefined {
  const { move } = volume
  if (move === undefined) return undefined
  const isRebuilding = move.spare !== undefined && volume.nexus?.childOf(move.spare)?.state !== 'Online'
  const mayShrink = move.unwind === undefined && move.wantsSpare && !(isRebuilding && volume.target !== undefined)
  if (count < volume.numReplicas && mayShrink) return undefined
  const sentence = `Volume '${volume.uuid}' has a replica moved by the drain of pool '${move.pool.id}'`
  return precondition('ReplicaMoveInProgress', sentence)
}

/** The reconciler's look at the pools that are drained. `busy` is called when there is more to do soon. */
export function drainPools(cluster: Cluster, operations: Operations, busy: () => void): void {
  const drained = [...cluster.pools.values()].filter((pool) => pool.drain !== undefined)
  if (drained.length === 0) return
  const inPhase = (phase: DrainPhase) => drained.filter((pool) => pool.drain?.phase === phase)
  while (inPhase('Draining').length < cluster.settings.maxPoolDrains) {
    const next = cluster.best('drain-pool', inPhase('Queued'), (pool) => pool.drain?.requestedAt ?? 0)
    if (next === undefined) break
    setPhase(cluster, next, 'Draining')
  }
  for (const pool of drained) {
    endMoves(cluster, pool)
    if (pool.drain?.phase === 'Draining' || pool.drain?.phase === 'AwaitingCleanup') advance(cluster, operations, pool)
    if (pool.drain?.phase === 'Draining' || pool.drain?.phase === 'Cancelled') busy()
  }
}

function endMoves(cluster: Cluster, pool: Pool): void {
  const { drain } = pool
  if (drain === undefined) return
  for (const move of drain.moves) {
    if (drain.phase === 'Cancelled' && move.moving !== undefined) move.unwind = 'Cancelled'
    if (move.moving !== undefined) continue
    drain.moves.delete(move)
    move.volume.move = undefined
  }
  if (drain.phase === 'Cancelled' && drain.moves.size === 0) release(cluster, pool)
}

function advance(cluster: Cluster, operations: Operations, pool: Pool): void {
  const { drain } = pool
  if (drain === undefined || !pool.reachable) return
  const owned = [...pool.replicas].filter((replica) => replica.owner !== undefined)
  for (const replica of cluster.inAnyOrder('drain-replica', owned)) {
    if (drain.moves.size >= MOVES_PER_POOL) break
    const volume = replica.owner
    if (volume !== undefined && !operations.isLocked(volumeLock(volume))) beginMove(cluster, volume, replica)
  }
  if (owned.length > 0 || drain.moves.size > 0) return
  if (pool.replicas.size > 0) setPhase(cluster, pool, 'AwaitingCleanup')
  else end(cluster, pool, drain.acceptSnapshotLoss)
}

/**
 * Of a volume that is otherwise well, and has no move yet. Where the replica is the spare of another drain's move, and
 * still being rebuilt, that one has to look for another.
 */
function beginMove(cluster: Cluster, volume: Volume, replica: Replica): void {
  const { move } = volume
  if (move?.spare === replica && volume.nexus?.childOf(replica)?.state !== 'Online') move.unwind = 'Respare'
  const canRebuild = volume.target !== undefined || volume.nexusInfo === undefined
  if (move !== undefined || !canRebuild || volumeStatus(cluster, volume) !== 'Online') return
  const begun: ReplicaMove = {
    volume,
    pool: replica.pool,
    moving: replica,
    spare: undefined,
    wantsSpare: true,
    unwind: undefined,
  }
  volume.move = begun
  replica.pool.drain?.moves.add(begun)
}

/** Nothing is left but, perhaps, what belongs to snapshots. */
function end(cluster: Cluster, pool: Pool, acceptSnapshotLoss: boolean): void {
  if (pool.leftBehindSnapshotBytes > 0 && !acceptSnapshotLoss) {
    setPhase(cluster, pool, 'PartiallyDrained')
    return
  }
  for (const volume of cluster.volumes.values()) {
    for (const snapshot of [...volume.snapshotList]) {
      if (snapshot.parts.every((part) => part.pool === pool)) dropSnapshot(volume, snapshot)
    }
  }
  pool.leftBehindSnapshotBytes = 0
  reportPool(pool)
  setPhase(cluster, pool, 'Drained')
}

/** What is next for the volume's move, as part of hot-spare's look at its replicas. */
export function* settleMove(cluster: Cluster, volume: Volume): Steps {
  const { move } = volume
  if (move === undefined) return undefined
  if (move.spare !== undefined && !volume.replicas.has(move.spare)) move.spare = undefined
  if (move.moving !== undefined && !volume.replicas.has(move.moving)) finish(move)
  if (move.unwind !== undefined) {
    if (move.spare !== undefined) {
      const failed = yield* takeAway(cluster, volume, move.spare)
      if (failed !== undefined) return failed
      move.spare = undefined
    }
    if (move.unwind === 'Cancelled') finish(move)
    move.unwind = undefined
    return undefined
  }
  const { moving, spare } = move
  if (moving === undefined || spare === undefined || !isReady(cluster, volume, spare)) return undefined
  const failed = yield* takeAway(cluster, volume, moving)
  if (failed !== undefined) return failed
  finish(move)
  const about = { volume: volume.uuid, replica: moving.uuid, pool: moving.pool.id, reason: spare.uuid }
  cluster.emit('replica-moved', { ...about, by: 'pool-drain' })
  return undefined
}

function finish(move: ReplicaMove): void {
  move.moving = undefined
  move.wantsSpare = false
}

function isReady(cluster: Cluster, volume: Volume, spare: Replica): boolean {
  if (!spare.healthyRecorded || !isReportedOnline(spare)) return false
  if (volume.target === undefined) return true
  const children = reportedNexus(cluster, volume)?.children ?? []
  return children.some((child) => child.replica === spare) && children.every((child) => child.state === 'Online')
}

function* takeAway(cluster: Cluster, volume: Volume, replica: Replica): Steps {
  if (volume.target?.children.has(replica)) {
    yield { step: 'remove child' }
    const refused = removeChild(cluster, volume, replica, 'pool-drain')
    if (refused !== undefined) return refused
  }
  return yield* removeUnused(cluster, volume, replica, 'pool-drain')
}
