import {
  type Cluster,
  compareVersions,
  GiB,
  type LabelledTopology,
  MiB,
  type Node,
  type Pool,
  type Replica,
  type Volume,
} from './model.js'
import { isReportedOnline } from './view.js'

/** A thin replica may be placed where this much of the volume's size is free on top of what is allocated already. */
const VOLUME_COMMITMENT = 0.4
const MIN_FREE_BYTES = 16 * MiB
/** A pool may promise up to this many times its capacity to thin replicas. */
const POOL_COMMITMENT = 2.5

/** What a filter looks at besides the pool. */
interface Request {
  readonly cluster: Cluster
  readonly volume: Volume
  /** The largest allocation among the present replicas; undefined when nothing is heard of any of them. */
  readonly allocatedBytes: number | undefined
  /** Nodes that hold a replica of the volume, whatever has become of it. */
  readonly used: ReadonlySet<Node>
  /** A replica that leaves its pool for want of space, and may go to another pool of its node. */
  readonly moving: Replica | undefined
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
export function clashes(node: Node, others: Iterable<Node>, volume: Volume): boolean {
  const topology = volume.topology.node_topology
  if (topology === undefined || !('labelled' in topology)) return false
  const exclusion = Object.keys(topology.labelled.exclusion)
  if (exclusion.length === 0) return false
  const nodes = [...others]
  return exclusion.some((key) => {
    const value = node.labels.get(key)
    return value !== undefined && nodes.some((other) => other.labels.get(key) === value)
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
  // One replica per node: a volume's replicas never share one, but for the move within a node.
  (pool, { used, moving }) => !used.has(pool.node) || (moving?.node === pool.node && moving.pool !== pool),
  // Spread over a node label is enforced for added replicas since 2.10.
  (pool, { cluster, volume, used }) => !cluster.atLeast(2, 10) || !clashes(pool.node, used, volume),
  (pool, { volume }) => poolFits(pool, volume),
  (pool) => !['Faulted', 'Unknown', 'Offline'].includes(pool.node.reportedPools.get(pool.id)?.status ?? 'Unknown'),
  (pool, { cluster }) => !((pool.cordon.replicas && cluster.atLeast(2, 10)) || pool.drain !== undefined),
  (pool, { volume }) => (pool.node.reportedPools.get(pool.id)?.capacityBytes ?? 0) > volume.sizeBytes,
  hasRoom,
  avoidsGroup,
  (pool, { cluster, volume }) => !cluster.atLeast(2, 9) || pool.encrypted === volume.encrypted,
  (pool, { cluster, volume }) => !cluster.atLeast(2, 10) || pool.clusterSizeBytes === volume.clusterSizeBytes,
]

function hasRoom(pool: Pool, { volume, allocatedBytes }: Request): boolean {
  return fits(pool, volume, volume.sizeBytes, allocatedBytes)
}

/** Whether the pool takes `bytes` more of the volume, of which `allocatedBytes` will be needed soon. */
function fits(pool: Pool, volume: Volume, bytes: number, allocatedBytes: number | undefined): boolean {
  const free = reportedFree(pool)
  if (!volume.asThin) return free > bytes
  const soon = (allocatedBytes ?? bytes) + VOLUME_COMMITMENT * bytes
  if (free <= Math.min(soon, bytes) || free <= MIN_FREE_BYTES) return false
  const { committedBytes = 0, capacityBytes = 0 } = pool.node.reportedPools.get(pool.id) ?? {}
  return committedBytes + bytes < POOL_COMMITMENT * capacityBytes
}

/** Whether a replica may become `bytes` larger where it is. */
export function mayGrow(volume: Volume, replica: Replica, bytes: number): boolean {
  return isReportedOnline(replica) && fits(replica.pool, volume, bytes, reportedBytes(volume))
}

/**
 * A member of an affinity group that has one replica keeps off the nodes of the others'. Before 2.9 that restricts its
 * second replica too, and whatever the others have; since then only where both have one.
 */
function avoidsGroup(pool: Pool, { cluster, volume }: Request): boolean {
  if (volume.affinityGroup === undefined || volume.numReplicas > 1) return true
  const fixed = cluster.atLeast(2, 9)
  if (fixed && volume.replicas.size > 0) return true
  return !groupOf(cluster, volume).some(
    (other) => !(fixed && other.numReplicas > 1) && [...other.replicas].some((replica) => replica.node === pool.node),
  )
}

/** The largest allocation among the replicas, as far as anything is heard of them. */
function reportedBytes(volume: Volume): number | undefined {
  let bytes = volume.replicas.size === 0 ? 0 : undefined
  for (const replica of volume.replicas) {
    const reported = replica.node.reportedReplicas.get(replica.uuid)
    if (reported === undefined) continue
    bytes = Math.max(bytes ?? 0, Math.min(replica.sizeBytes, reported.allocatedBytes + reported.snapshotBytes))
  }
  return bytes
}

function reportedFree(pool: Pool): number {
  const reported = pool.node.reportedPools.get(pool.id)
  return reported === undefined ? 0 : reported.capacityBytes - reported.usedBytes
}

/** The pools a replica of this volume may be added to now, best first, from what the core knows. */
export function candidates(cluster: Cluster, volume: Volume, moving?: Replica): Pool[] {
  const used = new Set([...volume.replicas].map((replica) => replica.node))
  const request = { cluster, volume, allocatedBytes: reportedBytes(volume), used, moving }
  const eligible = [...cluster.pools.values()].filter((pool) => filters.every((filter) => filter(pool, request)))
  return sorted(cluster, volume, eligible)
}

/** A degraded pool comes before an online one, until 2.11 put that right and added one that is suspected. */
function statusRank(cluster: Cluster, pool: Pool): number {
  const status = pool.node.reportedPools.get(pool.id)?.status
  const order = cluster.atLeast(2, 11) ? ['Online', 'Degraded', 'Suspected'] : ['Degraded', 'Online']
  return order.indexOf(status ?? '')
}

function sorted(cluster: Cluster, volume: Volume, pools: readonly Pool[]): Pool[] {
  if (pools.length <= 1) return [...pools]
  const most = (of: (pool: Pool) => number) => Math.max(1, ...pools.map(of))
  const replicas = (pool: Pool) => pool.replicas.size
  const promised = (pool: Pool) => {
    const { committedBytes = 0, capacityBytes = 1 } = pool.node.reportedPools.get(pool.id) ?? {}
    return Math.min(1, committedBytes / capacityBytes / POOL_COMMITMENT)
  }
  const grouped = volume.affinityGroup !== undefined && volume.numReplicas > 1
  const group = new Set([volume.uuid, ...groupOf(cluster, volume).map((v) => v.uuid)])
  const members = (pool: Pool) => [...pool.replicas].filter((replica) => group.has(replica.volumeUuid)).length
  const [mostReplicas, mostFree, mostMembers] = [most(replicas), most(reportedFree), most(members)]
  const few = (pool: Pool) => 1 - replicas(pool) / mostReplicas
  const roomy = (pool: Pool) => Math.floor(reportedFree(pool) / GiB) / Math.max(1, Math.floor(mostFree / GiB))
  /** The share of the score that is about replicas; in a group its own replicas weigh most of it. */
  const count = (pool: Pool, ofGroup: number, ofAll: number) =>
    grouped ? ofGroup * (1 - members(pool) / mostMembers) + ofAll * few(pool) : (ofGroup + ofAll) * few(pool)
  const score = volume.asThin
    ? (pool: Pool) => count(pool, 0.1, 0.15) + 0.4 * roomy(pool) + 0.35 * (1 - promised(pool))
    : (pool: Pool) => count(pool, 0.15, 0.25) + 0.6 * roomy(pool)
  const scores = new Map(pools.map((pool) => [pool, score(pool)]))
  const left = [...pools]
  const result: Pool[] = []
  while (left.length > 0) {
    const next = cluster.best(
      'placement',
      left,
      (pool) => statusRank(cluster, pool),
      (pool) => -(scores.get(pool) ?? 0),
    ) as Pool
    left.splice(left.indexOf(next), 1)
    result.push(next)
  }
  return result
}

/** Volumes with snapshots are rebuilt only where every io-engine involved knows how to. */
export function canRebuildSnapshots(volume: Volume): boolean {
  return [...volume.replicas].every((replica) => compareVersions(replica.node.version, [2, 7, 0]) >= 0)
}
