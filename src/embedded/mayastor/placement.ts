import {
  type Cluster,
  compareVersions,
  GiB,
  type LabelledTopology,
  MiB,
  type Node,
  type Pool,
  type Volume,
} from './model.js'
import { isReportedOnline } from './view.js'

/** A thin replica may be placed where this much of the volume's size is free on top of what is allocated already. */
const VOLUME_COMMITMENT = 0.4
const MIN_FREE_BYTES = 16 * MiB
/** A pool may promise up to this many times its capacity to thin replicas. */
const POOL_COMMITMENT = 2.5

/** What a filter looks at besides the pool. `allocatedBytes` is the largest allocation among the present replicas. */
interface Request {
  readonly cluster: Cluster
  readonly volume: Volume
  readonly allocatedBytes: number
  /** Replicas the volume has when this one is added. */
  readonly count: number
}

type Filter = (pool: Pool, request: Request) => boolean

/** Whether labels satisfy an inclusion: every key present, and with the value unless the wanted one is empty. */
export function includes(labels: ReadonlyMap<string, string>, inclusion: LabelledTopology['inclusion']): boolean {
  return Object.entries(inclusion).every(
    ([key, value]) => labels.has(key) && (value === '' || labels.get(key) === value),
  )
}

export function nodeFits(node: Node, volume: Volume): boolean {
  const topology = volume.topology.node_topology
  if (topology === undefined) return true
  if ('explicit' in topology) return topology.explicit.allowed_nodes.includes(node.id)
  return includes(node.labels, topology.labelled.inclusion)
}

export function poolFits(pool: Pool, volume: Volume): boolean {
  return includes(pool.labels, volume.topology.pool_topology?.labelled.inclusion ?? {})
}

/** Whether `node` has the same value as one of `others` for a label the volume wants to be spread over. */
export function clashes(node: Node, others: readonly Node[], volume: Volume): boolean {
  const topology = volume.topology.node_topology
  if (topology === undefined || !('labelled' in topology)) return false
  return Object.keys(topology.labelled.exclusion).some((key) => {
    const value = node.labels.get(key)
    return value !== undefined && others.some((other) => other.labels.get(key) === value)
  })
}

/** Volumes of the same affinity group other than this one. */
export function groupOf(cluster: Cluster, volume: Volume): Volume[] {
  if (volume.affinityGroup === undefined) return []
  return [...cluster.volumes.values()].filter((v) => v !== volume && v.affinityGroup === volume.affinityGroup)
}

const filters: readonly Filter[] = [
  (pool) => pool.node.reportedStatus === 'Online' && !pool.node.cordoned,
  (pool, { volume }) => nodeFits(pool.node, volume),
  // One replica per node: a volume's replicas never share one.
  (pool, { volume }) => ![...volume.replicas].some((replica) => replica.node === pool.node),
  // Spread over a node label is enforced for added replicas since 2.10.
  (pool, { cluster, volume }) =>
    !cluster.atLeast(2, 10) ||
    !clashes(
      pool.node,
      [...volume.replicas].map((r) => r.node),
      volume,
    ),
  (pool, { volume }) => poolFits(pool, volume),
  (pool) => !['Faulted', 'Unknown', 'Offline'].includes(pool.node.reportedPools.get(pool.id)?.status ?? 'Unknown'),
  (pool, { cluster }) => !(cluster.atLeast(2, 10) && pool.cordon.replicas),
  (pool, { volume }) => pool.capacityBytes > volume.sizeBytes,
  hasRoom,
  avoidsGroup,
  (pool, { cluster, volume }) => !cluster.atLeast(2, 9) || pool.encrypted === volume.encrypted,
  (pool, { cluster, volume }) => !cluster.atLeast(2, 10) || pool.clusterSizeBytes === volume.clusterSizeBytes,
]

function hasRoom(pool: Pool, { volume, allocatedBytes }: Request): boolean {
  const free = reportedFree(pool)
  if (!volume.thin) return free > volume.sizeBytes
  const wanted = Math.min(allocatedBytes + VOLUME_COMMITMENT * volume.sizeBytes, volume.sizeBytes)
  if (free <= wanted || free <= MIN_FREE_BYTES) return false
  const committed = pool.node.reportedPools.get(pool.id)?.committedBytes ?? 0
  return committed + volume.sizeBytes < POOL_COMMITMENT * pool.capacityBytes
}

/**
 * Single-replica members of an affinity group keep off each other's nodes. Before 2.9 that also restricted the second
 * replica of such a member.
 */
function avoidsGroup(pool: Pool, { cluster, volume, count }: Request): boolean {
  if (volume.affinityGroup === undefined) return true
  const single = count <= 1 || (!cluster.atLeast(2, 9) && volume.numReplicas === 1)
  if (!single) return true
  return !groupOf(cluster, volume).some(
    (other) => other.numReplicas === 1 && [...other.replicas].some((replica) => replica.node === pool.node),
  )
}

function reportedFree(pool: Pool): number {
  const reported = pool.node.reportedPools.get(pool.id)
  return reported === undefined ? 0 : reported.capacityBytes - reported.usedBytes
}

/** The pools a replica of this volume may be added to now, best first, from what the core knows. */
export function candidates(cluster: Cluster, volume: Volume): Pool[] {
  let allocatedBytes = 0
  for (const replica of volume.replicas) {
    const reported = replica.node.reportedReplicas.get(replica.uuid)
    if (reported && isReportedOnline(replica)) allocatedBytes = Math.max(allocatedBytes, reported.allocatedBytes)
  }
  const request = { cluster, volume, allocatedBytes, count: volume.replicas.size + 1 }
  const eligible = [...cluster.pools.values()].filter((pool) => filters.every((filter) => filter(pool, request)))
  return sorted(cluster, volume, eligible)
}

const statusRank: Record<string, number> = { Online: 0, Degraded: 1, Suspected: 2 }

function sorted(cluster: Cluster, volume: Volume, pools: readonly Pool[]): Pool[] {
  const rank = (pool: Pool) => statusRank[pool.node.reportedPools.get(pool.id)?.status ?? 'Online'] ?? 2
  const most = (of: (pool: Pool) => number) => Math.max(1, ...pools.map(of))
  const replicas = (pool: Pool) => pool.replicas.size
  const committed = (pool: Pool) => (pool.node.reportedPools.get(pool.id)?.committedBytes ?? 0) / pool.capacityBytes
  const group = new Set(groupOf(cluster, volume).map((v) => v.uuid))
  const members = (pool: Pool) => [...pool.replicas].filter((replica) => group.has(replica.volumeUuid)).length
  const [mostReplicas, mostFree, mostMembers] = [most(replicas), most(reportedFree), most(members)]
  const few = (pool: Pool) => 1 - replicas(pool) / mostReplicas
  const roomy = (pool: Pool) => Math.floor(reportedFree(pool) / GiB) / Math.max(1, Math.floor(mostFree / GiB))
  const score = (pool: Pool) => {
    const own = volume.thin
      ? 0.25 * few(pool) + 0.4 * roomy(pool) + 0.35 * (1 - Math.min(1, committed(pool) / POOL_COMMITMENT))
      : 0.4 * few(pool) + 0.6 * roomy(pool)
    return group.size === 0 ? own : 0.75 * own + 0.25 * (1 - members(pool) / mostMembers)
  }
  const scored = pools.map((pool) => ({ pool, rank: rank(pool), score: score(pool) }))
  scored.sort((a, b) => a.rank - b.rank || b.score - a.score)
  const result: Pool[] = []
  while (scored.length > 0) {
    const [first] = scored as [(typeof scored)[number]]
    const ties = scored.filter((s) => s.rank === first.rank && s.score === first.score)
    const next = ties.length === 1 ? first : cluster.choose('placement', ties)
    scored.splice(scored.indexOf(next), 1)
    result.push(next.pool)
  }
  return result
}

/** Volumes with snapshots can only grow where every io-engine involved knows how to rebuild them. */
export function canRebuildSnapshots(volume: Volume): boolean {
  return [...volume.replicas].every((replica) => compareVersions(replica.node.version, [2, 7, 0]) >= 0)
}
