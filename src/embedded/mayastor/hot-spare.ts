import type { Child, Cluster, Node, Replica, Volume } from './model.js'
import { attachChild, createNexus, destroyNexus, isStranded, onlineChild, removeChild } from './nexus.js'
import type { Steps } from './operations.js'
import { settleMove } from './pool-drain.js'
import { removalCandidates } from './removal.js'
import { removeUnused } from './remove-replica.js'
import { createReplica } from './replicas.js'
import { isReportedOnline, reportedNexus, volumeStatus } from './view.js'

/** More free space than this has to be left where a replica is to be rebuilt. */
const SLACK_BYTES = 16 * 1024 * 1024

/** Whether hot-spare has nothing to do about the volume, and neither has anyone else of the reconcilers. */
export function isSettled(cluster: Cluster, volume: Volume): boolean {
  return (
    volume.life === 'Created' &&
    volume.operation === undefined &&
    volume.move === undefined &&
    volume.abandoned.length === 0 &&
    volume.replicas.size === volume.numReplicas &&
    (volume.target === undefined || volume.target.children.size === volume.numReplicas) &&
    volume.nexus?.uuid === volume.target?.nexus &&
    volumeStatus(cluster, volume) === 'Online'
  )
}

/**
 * One look at one volume, which the caller holds. What may be done depends on how the core sees it, and needs
 * `self_heal`, unless a pool drain is what makes it necessary. `busy` is called when there is more to do soon.
 */
export function* hotSpare(cluster: Cluster, volume: Volume, busy: () => void): Steps {
  if ((!volume.selfHeal && volume.move === undefined) || volume.life !== 'Created') return undefined
  const status = volumeStatus(cluster, volume)
  if (status === 'Faulted' || volume.target?.down) return undefined
  if (status === 'Online') return yield* replicaCount(cluster, volume, busy)
  if (reportedNexus(cluster, volume) !== undefined) {
    yield* faultedChildren(cluster, volume, busy)
    yield* missingChildren(cluster, volume, busy)
  }
  yield* replicaCount(cluster, volume, busy)
  if (reportedNexus(cluster, volume) !== undefined) yield* targetCount(cluster, volume, busy)
  return undefined
}

/**
 * A child with a log of what it missed is waited for, and brought in again when its replica is back. Any other, and one
 * that stays away too long, is given up with its replica; the count below makes a new one, on any eligible pool.
 */
function* faultedChildren(cluster: Cluster, volume: Volume, busy: () => void): Steps {
  const reported = reportedNexus(cluster, volume)
  if (reported?.state !== 'Degraded' || reported.children.length <= 1) return undefined
  for (const { replica, state } of reported.children) {
    const child = state === 'Faulted' ? volume.nexus?.childOf(replica) : undefined
    if (volume.nexus === undefined || child?.state !== 'Faulted' || !volume.target?.children.has(replica)) continue
    if (child.hasLog && isReportedOnline(replica)) {
      yield { step: 'online child' }
      if (volume.nexus === undefined || child.state !== 'Faulted' || onlineChild(cluster, volume.nexus, child)) continue
    } else if (child.hasLog && isWorthWaiting(cluster, child)) {
      continue
    }
    yield* giveUp(cluster, volume, replica, busy)
  }
  return undefined
}

function isWorthWaiting({ clock, settings }: Cluster, { faultedAt = 0 }: Child): boolean {
  return clock.now() - faultedAt < settings.faultedChildWaitMs
}

/** Out of the target, and out of the volume if that is safe. */
function* giveUp(cluster: Cluster, volume: Volume, replica: Replica, busy: () => void): Steps {
  yield { step: 'remove child' }
  const refused = removeChild(cluster, volume, replica, 'hot-spare')
  if (refused !== undefined) {
    busy()
    return refused
  }
  return yield* removeUnused(cluster, volume, replica, 'hot-spare')
}

/** Children on record that the nexus does not have (it was lost, and built again from fewer) are given up too. */
function* missingChildren(cluster: Cluster, volume: Volume, busy: () => void): Steps {
  for (const replica of [...(volume.target?.children ?? [])]) {
    const heard = reportedNexus(cluster, volume)
    if (heard === undefined || heard.children.some((child) => child.replica === replica)) continue
    yield* giveUp(cluster, volume, replica, busy)
  }
  return undefined
}

/** Creates one of what is missing, or removes what is too many and unused, in the order and with the guards of a decrease. */
function* replicaCount(cluster: Cluster, volume: Volume, busy: () => void): Steps {
  const moved = yield* settleMove(cluster, volume)
  if (moved !== undefined) return moved
  const wanted = volume.effectiveReplicas
  if (volume.replicas.size < wanted) {
    yield* createReplica(cluster, volume, 'hot-spare', (replica) => {
      if (volume.move?.wantsSpare && volume.move.spare === undefined) volume.move.spare = replica
    })
  } else {
    let surplus = volume.replicas.size - wanted
    // What cannot be removed, most often because the target uses it, is passed over.
    for (const victim of removalCandidates(cluster, volume, wanted)) {
      if (surplus === 0) break
      if (!volume.replicas.has(victim)) continue
      if ((yield* removeUnused(cluster, volume, victim, 'hot-spare')) === undefined) surplus--
    }
  }
  if (volume.replicas.size !== wanted) busy()
  return undefined
}

/** Attaches replicas until the target has as many as it should, or takes those out that are too many. */
function* targetCount(cluster: Cluster, volume: Volume, busy: () => void): Steps {
  const { target } = volume
  const wanted = volume.effectiveReplicas
  if (target === undefined) return undefined
  if (target.children.size < wanted) yield* attachReplicas(cluster, volume, wanted)
  if (target.children.size > wanted) {
    for (const replica of removalCandidates(cluster, volume, wanted, target.children)) {
      if (target.children.size <= wanted) break
      yield { step: 'remove child' }
      if (volume.target !== target || !target.children.has(replica)) break
      cluster.emit('removal-chosen', {
        volume: volume.uuid,
        replica: replica.uuid,
        node: replica.node.id,
        by: 'hot-spare',
      })
      if (removeChild(cluster, volume, replica, 'hot-spare') !== undefined) break
    }
  }
  if (target.children.size !== wanted) busy()
  return undefined
}

/** Each with a full rebuild. Where that would not fit, the replica is given up and made again elsewhere. */
function* attachReplicas(cluster: Cluster, volume: Volume, wanted: number): Steps {
  const { target } = volume
  const usable = [...volume.replicas].filter(
    (replica) =>
      !target?.children.has(replica) &&
      isReportedOnline(replica) &&
      !isStranded(volume, replica) &&
      replica.sizeBytes >= volume.sizeBytes,
  )
  const left = new Set(usable)
  while (left.size > 0 && target !== undefined && target.children.size < Math.min(wanted, volume.replicas.size)) {
    const replica = cluster.best(
      'attach-replica',
      [...left],
      (r) => (r.node.id === target.node ? 0 : 1),
      (r) => (r.healthyRecorded ? 0 : 1),
      (r) => freeBytes(r),
    ) as Replica
    left.delete(replica)
    if (lacksSpace(volume, replica)) {
      yield* removeUnused(cluster, volume, replica, 'hot-spare')
      continue
    }
    yield { step: 'attach replica' }
    if (volume.target !== target || !volume.replicas.has(replica)) return undefined
    attachChild(cluster, volume, replica, 'hot-spare')
  }
  return undefined
}

/** Whether a copy of what the target's children hold would not fit. */
function lacksSpace(volume: Volume, replica: Replica): boolean {
  if (!replica.thin) return false
  const own = allocated(replica)
  const needed = Math.max(
    own,
    ...[...(volume.nexusInfo?.healthy.keys() ?? [])].map((uuid) => allocatedOf(volume, uuid)),
  )
  return freeBytes(replica) <= needed - own + SLACK_BYTES
}

function allocatedOf(volume: Volume, uuid: string): number {
  for (const replica of volume.replicas) if (replica.uuid === uuid) return allocated(replica)
  return 0
}

function allocated(replica: Replica): number {
  return replica.node.reportedReplicas.get(replica.uuid)?.allocatedBytes ?? 0
}

function freeBytes({ pool }: Replica): number {
  const reported = pool.node.reportedPools.get(pool.id)
  return reported === undefined ? 0 : reported.capacityBytes - reported.usedBytes
}

/**
 * A target whose nexus is gone from a node that is there is created again; one without a healthy child left is taken
 * away for that as soon as one of its replicas is back.
 */
export function* healTarget(cluster: Cluster, volume: Volume): Steps {
  const { target } = volume
  if (target === undefined || target.down || !volume.selfHeal || volume.life !== 'Created') return undefined
  const node = cluster.nodes.get(target.node)
  if (node?.reportedStatus !== 'Online' || volumeStatus(cluster, volume) === 'Online') return undefined
  const reported = reportedNexus(cluster, volume)
  if (reported !== undefined && (reported.state !== 'Faulted' || !isCurable(volume))) return undefined
  if (reported !== undefined) {
    yield { step: 'destroy target' }
    if (volume.nexus?.state === 'Faulted' && node.online) destroyNexus(cluster, volume, 'core')
  }
  yield { step: 'create target' }
  if (volume.target === target && volume.nexus === undefined) recreate(cluster, volume, node)
  return undefined
}

function recreate(cluster: Cluster, volume: Volume, node: Node): void {
  const { target } = volume
  if (target !== undefined) createNexus(cluster, volume, node, 'core', target.nexus)
}

/** A healthy replica can be heard of again, and not all of them failed for want of space that is still wanting. */
function isCurable({ replicas, nexus }: Volume): boolean {
  const healthy = [...replicas].filter((replica) => replica.healthyRecorded && isReportedOnline(replica))
  const full = nexus?.children.every((child) => child.reason === 'OutOfSpace') ?? false
  return healthy.some((replica) => !full || freeBytes(replica) > SLACK_BYTES)
}
