import type { ChildState, Cluster, Replica, ReportedChild, Volume } from './model.js'
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
  /** What the core hears of it as a child, which needs that it hears of the replica too. */
  const child = (replica: Replica): ReportedChild | undefined =>
    isReportedOnline(replica) ? nexus?.children.find((c) => c.replica === replica) : undefined
  const inTarget = (replica: Replica) => volume.target?.children.has(replica) ?? false
  const others = (replica: Replica) => [...volume.replicas].filter((other) => other !== replica).map((r) => r.node)
  const invalidNode: Criterion = (r) => (nodeFits(r.node, volume) ? 1 : 0)
  const invalidPool: Criterion = (r) => (poolFits(r.pool, volume) ? 1 : 0)
  const unspread: Criterion = (r) => (clashes(r.node, others(r), volume) ? 0 : 1)

  const unhealthy: Criterion = (r) => (r.healthyRecorded ? 1 : 0)
  const remote: Criterion = (r) => (r.shared ? 0 : 1)
  const group = new Set(groupOf(cluster, volume).map((v) => v.uuid))
  const crowded: Criterion = (r) =>
    group.size === 0 ? 0 : -[...r.pool.replicas].filter((other) => group.has(other.volumeUuid)).length

  if (cluster.atLeast(2, 9)) {
    return [
      unhealthy,
      // What a pool drain moves goes before all others that are healthy.
      (r) => (volume.move?.moving === r ? 0 : 1),
      (r) => (inTarget(r) ? 1 : 0),
      (r) => childRank[child(r)?.state ?? 'Faulted'] + (child(r) === undefined ? -1 : 0),
      (r) => child(r)?.progressPercent ?? -1,
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
    if (!inTarget(r)) return childRank.Online + 2
    const state = child(r)?.state
    return state === undefined ? childRank.Online + 1 : childRank[state]
  }
  const topology: Criterion = (r) => Math.min(invalidNode(r), invalidPool(r), unspread(r))
  return cluster.atLeast(2, 7, 3)
    ? [unhealthy, byChild, topology, remote, crowded]
    : [unhealthy, byChild, remote, crowded]
}

/**
 * The replicas that may be removed so that `count` stay, in the order in which they would be, from `among`. Unhealthy
 * ones go without further questions, a healthy one only while more than `count` are recorded healthy and heard of.
 */
export function* removalCandidates(
  cluster: Cluster,
  volume: Volume,
  count: number,
  among: Iterable<Replica> = volume.replicas,
): Generator<Replica, void> {
  const ranks = criteria(cluster, volume)
  if (mayClash(cluster, volume, count)) ranks.push((r) => (collides(cluster, volume, r) ? 1 : 0))
  const left = new Set(among)
  while (left.size > 0) {
    const next = cluster.best('removal', [...left], ...ranks) as Replica
    if (next.healthyRecorded && [...left].filter((r) => r.healthyRecorded && isReportedOnline(r)).length <= count)
      return
    left.delete(next)
    yield next
  }
}

/** The one to go when a count is lowered; `restricted`: the group would have two single replicas on one node then. */
export function removalCandidate(cluster: Cluster, volume: Volume, count: number): Replica | 'restricted' | undefined {
  const [first] = removalCandidates(cluster, volume, count)
  return first !== undefined && mayClash(cluster, volume, count) && collides(cluster, volume, first)
    ? 'restricted'
    : first
}

/** Since 2.10 a group's member may shrink to one replica unless that would share a node with another's single one. */
function mayClash(cluster: Cluster, volume: Volume, count: number): boolean {
  return count === 1 && volume.affinityGroup !== undefined && cluster.atLeast(2, 10)
}

function collides(cluster: Cluster, volume: Volume, leaving: Replica): boolean {
  const staying = [...volume.replicas].filter((replica) => replica !== leaving)
  return groupOf(cluster, volume).some(
    (other) =>
      other.numReplicas === 1 && [...other.replicas].some((single) => staying.some((s) => s.node === single.node)),
  )
}
