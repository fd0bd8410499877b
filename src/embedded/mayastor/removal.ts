import type { ChildState, Cluster, Replica, Volume } from './model.js'
import { clashes, groupOf, nodeFits, poolFits } from './placement.js'
import { isReportedOnline, reportedNexus } from './view.js'

type Criterion = (replica: Replica) => number

const childRank: Record<ChildState, number> = { Faulted: 0, Unknown: 1, Degraded: 2, Online: 3 }

/**
 * What makes one replica go before another; lower goes first and the first difference decides. A pool's cordon is no
 * criterion in any version. A node's is since 2.9, and the volume's own topology since 2.8 (2.7.3 backported it).
 */
function criteria(cluster: Cluster, volume: Volume): Criterion[] {
  const nexus = reportedNexus(cluster, volume)
  const child = (replica: Replica) => nexus?.children.find((c) => c.replica === replica)
  const replicas = [...volume.replicas]
  const others = (replica: Replica) => replicas.filter((other) => other !== replica).map((other) => other.node)
  const invalidNode: Criterion = (r) => (nodeFits(r.node, volume) ? 1 : 0)
  const invalidPool: Criterion = (r) => (poolFits(r.pool, volume) ? 1 : 0)
  const unspread: Criterion = (r) => (clashes(r.node, others(r), volume) ? 0 : 1)

  const unhealthy: Criterion = (r) => (r.healthyRecorded ? 1 : 0)
  const remote: Criterion = (r) => (volume.target !== undefined && r.node.id !== volume.target.node ? 0 : 1)
  const group = new Set(groupOf(cluster, volume).map((v) => v.uuid))
  const crowded: Criterion = (r) => -[...r.pool.replicas].filter((other) => group.has(other.volumeUuid)).length

  if (cluster.atLeast(2, 9)) {
    return [
      unhealthy,
      (r) => (child(r) === undefined ? 0 : 1),
      (r) => childRank[child(r)?.state ?? 'Online'],
      invalidNode,
      invalidPool,
      unspread,
      (r) => (r.node.cordoned ? 0 : 1),
      remote,
      crowded,
    ]
  }
  // Until 2.8 a replica without a child in the nexus is taken to be the best there is.
  const byChild: Criterion = (r) => {
    const state = child(r)?.state
    return state === undefined ? childRank.Online + 1 : childRank[state]
  }
  const topology: Criterion = (r) => Math.min(invalidNode(r), invalidPool(r), unspread(r))
  return cluster.atLeast(2, 7, 3)
    ? [unhealthy, byChild, topology, remote, crowded]
    : [unhealthy, byChild, remote, crowded]
}

/** The replica that would go first; among equals the choice is arbitrary. */
export function firstToGo(cluster: Cluster, volume: Volume): Replica | undefined {
  let first = [...volume.replicas]
  for (const criterion of criteria(cluster, volume)) {
    const ranks = first.map(criterion)
    const lowest = Math.min(...ranks)
    first = first.filter((_, i) => ranks[i] === lowest)
    if (first.length <= 1) break
  }
  return first.length <= 1 ? first[0] : cluster.choose('removal', first)
}

/**
 * The replica to remove so that `count` stay, if any may be. An unhealthy one goes without further questions, a healthy
 * one only if more than `count` replicas are recorded healthy and online.
 */
export function removalCandidate(cluster: Cluster, volume: Volume, count: number): Replica | undefined {
  if (volume.replicas.size <= 1) return undefined
  const replica = firstToGo(cluster, volume)
  if (replica === undefined || !replica.healthyRecorded) return replica
  const sound = [...volume.replicas].filter((r) => r.healthyRecorded && isReportedOnline(r)).length
  return sound > count ? replica : undefined
}
