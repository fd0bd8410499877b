import type { Node, Pool, Replica, Truth, Volume } from '../../src/embedded/mayastor/index.js'

/** Why a volume may stay where it is, or a migration be Held, judged from the truth alone. */

const ZONE = 'topology.kubernetes.io/zone'

/** `replaced`: replicas of the volume that Mayastor has made by itself so far. */
type Cause = (volume: Readonly<Volume>, truth: Truth, replaced: number) => boolean

/** The most that Mayastor may replace during one move before a person is asked. */
const MOST_REPLACED = 3

const isClosed = ({ cordonLabels, drainLabels, online }: Readonly<Node>) =>
  !online || cordonLabels.size + drainLabels.size > 0

/** What a Held migration may be waiting for. Whatever is not listed may not last. */
const HOLDS: Readonly<Record<string, Cause>> = {
  Unpublished: ({ target }) => target === undefined,
  NodeCordoned: ({ replicas }) => [...replicas].some(({ node }) => isClosed(node)),
  ReplicasMissing: ({ replicas, numReplicas }) => replicas.size < numReplicas,
  ReplicasNotSynced: ({ replicas }) => [...replicas].some(({ synced }) => !synced),
  SurplusRemains: ({ replicas, numReplicas }) => replicas.size > numReplicas,
  PoolDrain: ({ replicas }) => [...replicas].some(({ pool }) => pool.drain !== undefined),
  ReplacedTooOften: (_, __, replaced) => replaced > MOST_REPLACED,
  VolumeTopology: (volume) => [...volume.replicas].some((replica) => !isAllowed(volume, replica.pool)),
}

export function isHeldForCause(
  reason: string,
  volume: Readonly<Volume> | undefined,
  truth: Truth,
  replaced: number,
): boolean {
  return volume !== undefined && HOLDS[reason]?.(volume, truth, replaced) === true
}

/** What may keep a volume that wants to move where it is, in a cluster without faults. */
export function isKeptForCause(volume: Readonly<Volume>, tier: string, truth: Truth): boolean {
  return (
    volume.snapshots > 0 ||
    volume.affinityGroup !== undefined ||
    volume.target === undefined ||
    !canMove(volume, tier, truth)
  )
}

/** Whether the volume's replicas could all get to the tier one by one, each directly, with room to spare. */
function canMove(volume: Readonly<Volume>, tier: string, truth: Truth): boolean {
  const pools = [...truth.pools.values()].filter((pool) => pool.id.startsWith(tier) && hasRoom(volume, pool))
  const zonesBefore = zones([...volume.replicas].map(({ pool }) => pool))
  const seen = new Set<string>()
  const visit = (placed: readonly Readonly<Pool>[]): boolean => {
    if (placed.every((pool) => pool.id.startsWith(tier))) return true
    const key = placed
      .map(({ id }) => id)
      .sort()
      .join()
    if (seen.has(key)) return false
    seen.add(key)
    return placed.some((from, index) => {
      if (from.id.startsWith(tier)) return false
      return pools.some((to) => {
        if (placed.some(({ node }) => node === to.node) || !isAllowed(volume, to)) return false
        const next = placed.with(index, to)
        return isSpread(volume, [...placed, to]) && zones(next) >= zonesBefore && visit(next)
      })
    })
  }
  return visit([...volume.replicas].map((replica: Readonly<Replica>) => replica.pool))
}

function hasRoom({ sizeBytes, thin }: Readonly<Volume>, pool: Readonly<Pool>): boolean {
  const committed = thin ? pool.committedBytes + sizeBytes < 2 * pool.capacityBytes : true
  return committed && pool.freeBytes - 2 * sizeBytes > 0.25 * pool.capacityBytes && !pool.cordon.replicas
}

function isAllowed({ topology }: Readonly<Volume>, pool: Readonly<Pool>): boolean {
  const inclusion = Object.entries(topology.pool_topology?.labelled.inclusion ?? {})
  return inclusion.every(([key, value]) => (value === '' ? pool.labels.has(key) : pool.labels.get(key) === value))
}

function isSpread({ topology }: Readonly<Volume>, pools: readonly Readonly<Pool>[]): boolean {
  const rules = topology.node_topology
  if (rules === undefined || !('labelled' in rules)) return true
  return Object.keys(rules.labelled.exclusion).every((key) => {
    const found = pools.flatMap(({ node }) => node.labels.get(key) ?? [])
    return new Set(found).size === found.length
  })
}

function zones(pools: readonly Readonly<Pool>[]): number {
  return Math.max(1, new Set(pools.flatMap(({ node }) => node.labels.get(ZONE) ?? [])).size)
}
