import type { Cluster, Nexus, Node, Pool, Replica, ReportedNexus, Volume, VolumeStatus } from './model.js'

// The core decides from a cache of what the io-engines last said, and serves that cache. It polls every node in turn
// and takes over at once only the results of its own calls, so a crash or a rebuild's end is seen late.

/** The poll of one node. An unreachable node's pools, replicas and nexuses are no longer reported at all. */
export function reportNode(node: Node): void {
  node.reportedStatus = node.online ? 'Online' : 'Offline'
  node.reportedPools.clear()
  node.reportedReplicas.clear()
  node.reportedNexuses.clear()
  if (!node.online) return
  for (const pool of node.pools) {
    if (!pool.imported) continue
    reportPool(pool)
    for (const replica of pool.replicas) reportReplica(replica)
  }
  for (const nexus of node.nexuses) reportNexus(nexus)
}

export function reportPool(pool: Pool): void {
  if (!pool.node.online) return
  if (!pool.imported) {
    pool.node.reportedPools.delete(pool.id)
    return
  }
  pool.node.reportedPools.set(pool.id, {
    usedBytes: pool.allocatedBytes,
    committedBytes: pool.committedBytes,
    capacityBytes: pool.capacityBytes,
    status: pool.status,
  })
}

export function reportReplica(replica: Replica): void {
  const { node } = replica
  if (!node.online) return
  if (replica.reachable) {
    const { allocatedBytes, snapshotBytes } = replica
    node.reportedReplicas.set(replica.uuid, { allocatedBytes, snapshotBytes })
  } else {
    node.reportedReplicas.delete(replica.uuid)
  }
}

export function reportNexus(nexus: Nexus): void {
  if (!nexus.node.online) return
  if (!nexus.node.nexuses.has(nexus)) {
    nexus.node.reportedNexuses.delete(nexus.uuid)
    return
  }
  nexus.node.reportedNexuses.set(nexus.uuid, {
    uuid: nexus.uuid,
    node: nexus.node.id,
    state: nexus.state,
    children: nexus.children.map((child) => ({
      replica: child.replica,
      state: child.state,
      reason: child.reason,
      progressPercent: progressPercent(child.replica),
    })),
  })
}

function progressPercent(replica: Replica): number | undefined {
  const { rebuild } = replica
  if (rebuild === undefined) return undefined
  return rebuild.totalBytes === 0 ? 0 : Math.floor((rebuild.rebuiltBytes() / rebuild.totalBytes) * 100)
}

export function reportedNexus(cluster: Cluster, volume: Volume): ReportedNexus | undefined {
  const { target } = volume
  return target && cluster.nodes.get(target.node)?.reportedNexuses.get(target.nexus)
}

export function isReportedOnline(replica: Replica): boolean {
  return replica.node.reportedStatus === 'Online' && replica.node.reportedReplicas.has(replica.uuid)
}

/** How the core sees a volume: from its target if it has one, else from its replicas. */
export function volumeStatus(cluster: Cluster, volume: Volume): VolumeStatus {
  const count = volume.effectiveReplicas
  if (volume.target !== undefined) {
    const nexus = reportedNexus(cluster, volume)
    if (nexus === undefined) return 'Unknown'
    // A child too many is as wrong as one too few.
    return nexus.state === 'Online' && nexus.children.length !== count ? 'Degraded' : nexus.state
  }
  // Since 2.9 the health of an unpublished volume's replicas counts, not only that they are recorded.
  const usable = cluster.atLeast(2, 9)
    ? countOf(volume.replicas, (replica) => isReportedOnline(replica) && replica.healthyRecorded)
    : volume.replicas.size
  if (usable === 0) return 'Faulted'
  return usable >= count ? 'Online' : 'Degraded'
}

function countOf<T>(items: Iterable<T>, holds: (item: T) => boolean): number {
  let count = 0
  for (const item of items) if (holds(item)) count++
  return count
}
