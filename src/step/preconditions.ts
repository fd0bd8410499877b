import type { Capabilities, MayastorNode, MayastorPool, MayastorReplica, MayastorVolume } from '../api/mayastor.js'
import { NODE_LABEL_PREFIX, ZONE_LABEL } from '../api/names.js'
import type { DecisionReason } from '../api/reasons.js'
import type { CandidatePool, PlacedReplica } from '../plan/moves.js'
import { fits, RESERVE_RATIO, UNDO_RATIO, type VolumeSize } from '../plan/pool-fit.js'
import { isActive, type Journal } from './journal.js'

/** Mayastor as one step reads it. */
export interface View {
  /** Undefined: Mayastor knows no such volume. */
  readonly volume: MayastorVolume | undefined
  readonly pools: ReadonlyMap<string, MayastorPool>
  readonly nodes: ReadonlyMap<string, MayastorNode>
  readonly capabilities: Capabilities
}

export interface Refusal {
  readonly reason: DecisionReason
  readonly message: string
}

/** One precondition: what has to be true, in a few words, and why it is not. */
interface Check {
  readonly name: string
  readonly refuses: (volume: MayastorVolume, view: View) => Refusal | undefined
}

/** Oldest release whose control plane can be told where to put a replica and which one to remove. */
const OLDEST = [2, 10] as const

/** What would refuse a move of the volume, whatever the target. In the order people read them. */
export const VOLUME_CHECKS: readonly Check[] = [
  {
    name: 'Mayastor can place and remove a chosen replica',
    refuses: (_, { capabilities, nodes }) => {
      if (!capabilities.poolCordon) {
        return refuse('MayastorTooOld', 'Mayastor serves no pool cordon; 2.10 or newer is needed to place a replica')
      }
      const old = [...nodes.values()].find(({ version }) => version !== undefined && isOlder(version))
      return old && refuse('MayastorTooOld', `node ${old.id} runs ${old.version}; 2.10 or newer is needed`)
    },
  },
  {
    name: 'no upgrade is under way',
    refuses: (_, { nodes }) => {
      const versions = [...new Set([...nodes.values()].map((node) => node.version ?? 'unknown'))].sort()
      return versions.length > 1
        ? refuse('MixedVersions', `io-engine versions ${versions.join(', ')}: an upgrade is under way`)
        : undefined
    },
  },
  {
    name: 'the volume is published',
    refuses: ({ published }) =>
      published ? undefined : refuse('Unpublished', 'a replica is only rebuilt while published'),
  },
  {
    name: 'the volume is Online, with every replica synced and in the target',
    refuses: ({ state, numReplicas, replicas, target }) => {
      const short = replicas.find((replica) => !replica.synced)
      if (state !== 'Online') return refuse('VolumeNotHealthy', `the volume is ${state}`)
      if (short !== undefined) return refuse('VolumeNotHealthy', `replica ${short.uuid} is not synced`)
      return replicas.length === numReplicas && target?.state === 'Online' && target.children === numReplicas
        ? undefined
        : refuse('VolumeNotHealthy', `not every one of ${numReplicas} replicas is there and in the target`)
    },
  },
  {
    name: 'no operation runs',
    refuses: ({ operation, lifecycle }) =>
      operation === undefined && lifecycle === 'Created'
        ? undefined
        : refuse('OperationRunning', `Mayastor is at work on the volume: ${operation ?? lifecycle}`),
  },
  {
    name: 'self-healing is on',
    refuses: ({ selfHeal }) => (selfHeal ? undefined : refuse('SelfHealOff', 'self-healing is off for the volume')),
  },
  {
    name: 'no snapshots',
    refuses: ({ snapshots }) =>
      snapshots > 0 ? refuse('Snapshots', 'snapshots live on the old pool and would stay there') : undefined,
  },
  {
    name: 'in no affinity group',
    refuses: ({ affinityGroup }) =>
      affinityGroup === undefined ? undefined : refuse('AffinityGroup', `member of affinity group ${affinityGroup}`),
  },
  {
    name: 'no node of the volume is cordoned, draining or offline',
    refuses: ({ replicas }, { nodes }) => {
      const bad = replicas.map((replica) => replica.node).find((node) => !isOpen(nodes.get(node ?? '')))
      return bad === undefined ? undefined : refuse('NodeCordoned', `node ${bad} is cordoned, draining or offline`)
    },
  },
  {
    name: 'Mayastor drains no pool of the volume',
    refuses: poolDrain,
  },
]

/** Everything that refuses a move of the volume now; empty: nothing does. */
export function volumeRefusals(view: View): readonly Refusal[] {
  const { volume } = view
  if (volume === undefined) return [refuse('VolumeGone', 'Mayastor knows no such volume')]
  return VOLUME_CHECKS.flatMap(({ refuses }) => refuses(volume, view) ?? [])
}

/**
 * Which of `replicas` is where the volume's topology would not have it. Mayastor removes such a one first, before any
 * that is marked.
 */
export function misplaced(
  volume: MayastorVolume,
  replicas: readonly MayastorReplica[],
  view: View,
): Refusal | undefined {
  const places = replicas.map((replica) => placed(volume, replica, view))
  const bad = replicas.find(({ pool = '', node = '' }) => {
    const known = view.pools.get(pool)
    return known !== undefined && !topologyAllows(volume, known, view.nodes.get(node))
  })
  if (bad !== undefined) {
    return refuse('VolumeTopology', `replica ${bad.uuid} on pool ${bad.pool} does not satisfy the volume's topology`)
  }
  const clash = places.find(
    ({ replica, spread }) =>
      spread !== undefined && places.some((other) => other.replica !== replica && other.spread === spread),
  )
  return clash && refuse('VolumeTopology', `two replicas share ${clash.spread}, over which the volume is to be spread`)
}

/** Distinct zones the replicas are in; one at least. */
export function zoneCount(replicas: readonly MayastorReplica[], view: View): number {
  const zones = replicas.map(({ node = '', pool = '' }) => zoneOf(node, pool, view))
  return Math.max(1, new Set(zones.filter((zone) => zone !== undefined)).size)
}

function isOlder(version: string): boolean {
  const [major = Number.NaN, minor = Number.NaN] = version.replace(/^v/, '').split('.').map(Number)
  return major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])
}

/** Mayastor's own drain of a pool that a replica of the volume is on. */
export function poolDrain({ replicas }: MayastorVolume, { pools }: View): Refusal | undefined {
  const bad = replicas.map((replica) => replica.pool).find((pool) => pools.get(pool ?? '')?.draining)
  return bad === undefined ? undefined : refuse('PoolDrain', `Mayastor is draining pool ${bad}`)
}

/** A pool as the target for one more replica of the volume. */
interface Placement {
  readonly volume: MayastorVolume
  readonly pool: MayastorPool
  readonly node: MayastorNode | undefined
  /** Bytes that running moves may still need on it. */
  readonly promisedBytes: number
}

/** What would refuse a pool that Mayastor knows as a target. In the order people read them. */
export const POOL_CHECKS: readonly {
  readonly name: string
  readonly refuses: (placement: Placement) => Refusal | undefined
}[] = [
  {
    name: 'the pool is Online',
    refuses: ({ pool: { id, status } }) =>
      status === 'Online' ? undefined : refuse('NoFittingPool', `pool ${id} is ${status}`),
  },
  {
    name: 'Mayastor does not drain it',
    refuses: ({ pool: { id, draining } }) =>
      draining ? refuse('PoolDrain', `Mayastor is draining pool ${id}`) : undefined,
  },
  {
    name: 'its node is not cordoned, draining or offline',
    refuses: ({ pool, node }) =>
      isOpen(node)
        ? undefined
        : refuse('NodeCordoned', `node ${pool.node} of pool ${pool.id} is cordoned, draining or offline`),
  },
  {
    name: 'the topology of the volume allows it',
    refuses: ({ volume, pool, node }) =>
      topologyAllows(volume, pool, node)
        ? undefined
        : refuse('VolumeTopology', `pool ${pool.id} does not satisfy the topology the volume was created with`),
  },
  {
    name: 'it is encrypted as the volume is',
    refuses: ({ volume, pool }) =>
      differ(volume.encrypted, pool.encrypted)
        ? refuse('Encryption', `pool ${pool.id} differs from the volume in encryption`)
        : undefined,
  },
  {
    name: 'it has the cluster size of the volume',
    refuses: ({ volume, pool }) =>
      differ(volume.clusterSize, pool.clusterSize)
        ? refuse('ClusterSize', `pool ${pool.id} has another cluster size than the volume`)
        : undefined,
  },
  {
    name: 'it has room for the volume beside its reserve',
    refuses: ({ volume, pool: { id, capacityBytes, usedBytes, committedBytes }, promisedBytes }) => {
      const room = { capacityBytes, freeBytes: capacityBytes - usedBytes, promisedBytes, committedBytes }
      return fits(sizeOf(volume), room)
        ? undefined
        : refuse('NoFittingPool', `pool ${id} has no room for the volume beside its ${RESERVE_RATIO * 100} % reserve`)
    },
  },
]

/** What refuses `pool` as a target for one more replica of the volume; undefined: nothing does. */
export function poolRefusal(
  volume: MayastorVolume,
  pool: MayastorPool | undefined,
  view: View,
  promisedBytes: number,
): Refusal | undefined {
  if (pool === undefined) return refuse('NoFittingPool', 'Mayastor knows no such pool')
  const placement = { volume, pool, node: view.nodes.get(pool.node), promisedBytes }
  for (const { refuses } of POOL_CHECKS) {
    const refusal = refuses(placement)
    if (refusal !== undefined) return refusal
  }
  return undefined
}

/** What Mayastor does not say of one of them is no difference. */
function differ<T>(one: T | undefined, other: T | undefined): boolean {
  return one !== undefined && other !== undefined && one !== other
}

/** Why no move may begin anywhere: the fence would keep Mayastor from healing what is named here. */
export function clusterRefusal(
  view: View,
  volumes: readonly MayastorVolume[],
  journals: readonly Journal[],
): Refusal | undefined {
  // While we move a volume its count is one too high.
  const wanted = new Map(journals.filter(isActive).map(({ volume, count }) => [volume, count]))
  const offline = [...view.nodes.values()].find((node) => !node.online)
  if (offline !== undefined) return refuse('ClusterDegraded', `node ${offline.id} is offline`)
  const settled = volumes.filter(({ lifecycle }) => lifecycle === 'Created')
  const short = settled.find((volume) => {
    const online = volume.replicas.filter((replica) => replica.state === 'Online').length
    return online < (wanted.get(volume.uuid) ?? volume.numReplicas)
  })
  return short === undefined
    ? undefined
    : refuse('ClusterDegraded', `volume ${short.uuid} is short of replicas and Mayastor may be healing it`)
}

/** Below half the reserve a pool is filling up and a rebuild onto it is undone. */
export function isFilling(pool: MayastorPool): boolean {
  return pool.capacityBytes > 0 && pool.capacityBytes - pool.usedBytes < UNDO_RATIO * pool.capacityBytes
}

/** Online, and neither cordoned nor draining. A label of ours is on a node for seconds only, and does not count. */
export function isOpen(node: MayastorNode | undefined): boolean {
  return node?.online === true && !isCordoned(node)
}

/** Cordoned or draining by somebody else than this operator. */
function isCordoned(node: MayastorNode | undefined): boolean {
  return (
    node !== undefined &&
    (node.drainLabels.length > 0 || node.cordonLabels.some((label) => !label.startsWith(NODE_LABEL_PREFIX)))
  )
}

export function sizeOf(volume: MayastorVolume): VolumeSize {
  const allocatedBytes = Math.max(0, ...volume.replicas.map((replica) => replica.allocatedBytes))
  return { sizeBytes: volume.sizeBytes, thin: volume.thin, allocatedBytes }
}

/** The replica as planning sees it. */
export function placed(volume: MayastorVolume, replica: MayastorReplica, view: View): PlacedReplica {
  return { replica: replica.uuid, ...place(volume, replica.pool ?? '', replica.node ?? '', view) }
}

/** The pool as planning sees it. */
export function candidate(volume: MayastorVolume, pool: MayastorPool, view: View): CandidatePool {
  return place(volume, pool.id, pool.node, view)
}

function place({ topology }: MayastorVolume, pool: string, node: string, view: View): CandidatePool {
  // An exclusion without a value asks for replicas on nodes that differ in the label.
  const [key] = Object.entries(topology.nodeExclusion).find(([, value]) => value === '') ?? []
  const spread = key === undefined ? undefined : view.nodes.get(node)?.labels[key]
  return { pool, node, zone: zoneOf(node, pool, view), spread }
}

export function zoneOf(node: string, pool: string, view: View): string | undefined {
  return view.nodes.get(node)?.labels[ZONE_LABEL] ?? view.pools.get(pool)?.labels[ZONE_LABEL]
}

/** Nodes that may hold a replica, where the volume's topology restricts them. */
export function eligibleNodes(volume: MayastorVolume, view: View): readonly string[] | undefined {
  const { allowedNodes, nodeInclusion, nodeExclusion } = volume.topology
  const rules = Object.keys(nodeInclusion).length + Object.keys(nodeExclusion).length
  if (allowedNodes === undefined && rules === 0) return undefined
  return [...view.nodes.values()].filter((node) => nodeAllowed(volume, node)).map((node) => node.id)
}

function topologyAllows(volume: MayastorVolume, pool: MayastorPool, node: MayastorNode | undefined): boolean {
  return nodeAllowed(volume, node) && hasLabels(pool.labels, volume.topology.poolLabels)
}

function nodeAllowed(volume: MayastorVolume, node: MayastorNode | undefined): boolean {
  if (node === undefined) return false
  const { allowedNodes, nodeInclusion, nodeExclusion } = volume.topology
  if (allowedNodes !== undefined && !allowedNodes.includes(node.id)) return false
  const excluded = Object.entries(nodeExclusion).some(([key, value]) => value !== '' && node.labels[key] === value)
  return !excluded && hasLabels(node.labels, nodeInclusion)
}

/** An empty wanted value asks for the key alone. */
function hasLabels(labels: Readonly<Record<string, string>>, wanted: Readonly<Record<string, string>>): boolean {
  return Object.entries(wanted).every(([key, value]) =>
    value === '' ? labels[key] !== undefined : labels[key] === value,
  )
}

function refuse(reason: DecisionReason, message: string): Refusal {
  return { reason, message }
}
