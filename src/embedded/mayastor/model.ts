import type { SimulatedClock } from '../clock.js'
import type { EventKind, MayastorEvent } from './event.js'
import type { Faults } from './faults.js'
import type { Choose, Random } from './random.js'

export const MiB = 1024 * 1024
export const GiB = 1024 * MiB
/** DiskPools carry this label, and volumes made through CSI require it. */
export const CREATED_BY = 'openebs.io/created-by'
export const DISKPOOL_OPERATOR = 'operator-diskpool'
export const DEFAULT_CLUSTER_SIZE = 4 * MiB

export const cordonBits = ['replicas', 'snapshots', 'restores', 'import'] as const
export type CordonBits = Record<(typeof cordonBits)[number], boolean>

export type PoolStatus = 'Online' | 'Degraded' | 'Faulted' | 'Suspected' | 'Offline' | 'Unknown'
export type NodeStatus = 'Online' | 'Offline' | 'Unknown'
export type ChildState = 'Unknown' | 'Online' | 'Degraded' | 'Faulted'
export type NexusState = 'Online' | 'Degraded' | 'Faulted'
export type VolumeStatus = 'Unknown' | 'Online' | 'Degraded' | 'Faulted'
export type ChildReason = 'OutOfSpace'

/** Spelled as in the REST API, where it appears unchanged. */
export interface LabelledTopology {
  readonly inclusion: Readonly<Record<string, string>>
  readonly exclusion: Readonly<Record<string, string>>
  readonly affinity_key?: readonly string[]
}
export interface Topology {
  readonly node_topology?:
    | { readonly explicit: { readonly allowed_nodes: readonly string[]; readonly preferred_nodes: readonly string[] } }
    | { readonly labelled: LabelledTopology }
  readonly pool_topology?: { readonly labelled: LabelledTopology }
}

/** What the core last heard from a node: its cache. Everything the core decides from state, it decides from this. */
export interface ReportedPool {
  readonly usedBytes: number
  readonly committedBytes: number
  readonly capacityBytes: number
  readonly status: PoolStatus
}
export interface ReportedReplica {
  readonly allocatedBytes: number
  readonly snapshotBytes: number
}
export interface ReportedChild {
  readonly replica: Replica
  readonly state: ChildState
  readonly reason: ChildReason | undefined
  readonly progressPercent: number | undefined
}
export interface ReportedNexus {
  readonly uuid: string
  readonly node: string
  readonly state: NexusState
  readonly children: readonly ReportedChild[]
}

export class Node {
  readonly id: string
  /** Order of arrival, which gives the node its address. */
  readonly index: number
  readonly labels: Map<string, string>
  readonly cordonLabels = new Set<string>()
  readonly drainLabels = new Set<string>()
  readonly pools: Pool[] = []
  readonly nexuses = new Set<Nexus>()
  version: string
  online = true
  reportedStatus: NodeStatus = 'Online'
  readonly reportedPools = new Map<string, ReportedPool>()
  readonly reportedReplicas = new Map<string, ReportedReplica>()
  readonly reportedNexuses = new Map<string, ReportedNexus>()

  constructor(id: string, index: number, version: string, labels: Record<string, string>) {
    this.id = id
    this.index = index
    this.version = version
    this.labels = new Map(Object.entries(labels))
  }

  get address(): string {
    return `10.1.${(this.index + 1) >> 8}.${(this.index + 1) & 255}`
  }

  /** A draining node counts as cordoned: nothing new is placed on it. */
  get cordoned(): boolean {
    return this.cordonLabels.size > 0 || this.drainLabels.size > 0
  }
}

export class Pool {
  readonly id: string
  readonly uuid: string
  readonly node: Node
  readonly disks: readonly string[]
  readonly labels: Map<string, string>
  readonly cordon: CordonBits = { replicas: false, snapshots: false, restores: false, import: false }
  readonly encrypted: boolean
  readonly clusterSizeBytes: number
  readonly replicas = new Set<Replica>()
  capacityBytes: number
  status: PoolStatus = 'Online'
  /** Space taken by what is not one of our volumes' replicas. */
  otherBytes: number
  /** Snapshots stay on the pool when the replica they were taken of moves away. */
  leftBehindSnapshotBytes = 0

  constructor(
    spec: { id: string; uuid: string; node: Node; capacityBytes: number; otherBytes: number; disks: readonly string[] },
    labels: Record<string, string>,
    kind: { encrypted: boolean; clusterSizeBytes: number },
  ) {
    this.id = spec.id
    this.uuid = spec.uuid
    this.node = spec.node
    this.capacityBytes = spec.capacityBytes
    this.otherBytes = spec.otherBytes
    this.disks = spec.disks
    this.labels = new Map(Object.entries(labels))
    this.encrypted = kind.encrypted
    this.clusterSizeBytes = kind.clusterSizeBytes
  }

  get allocatedBytes(): number {
    let bytes = this.otherBytes + this.leftBehindSnapshotBytes
    for (const replica of this.replicas) bytes += replica.allocatedBytes + replica.snapshotBytes
    return bytes
  }

  get committedBytes(): number {
    let bytes = 0
    for (const replica of this.replicas) bytes += replica.sizeBytes
    return bytes
  }

  get freeBytes(): number {
    return this.capacityBytes - this.allocatedBytes
  }
}

/** A running copy of a volume's data from one child of the nexus to another. */
export interface Rebuild {
  readonly source: Child
  readonly startedAt: number
  readonly totalBytes: number
  readonly partial: boolean
  readonly rebuiltBytes: () => number
  readonly cancel: () => void
}

export class Replica {
  readonly uuid: string
  readonly pool: Pool
  readonly thin: boolean
  /** The volume it was made for; unlike `owner` it stays when the volume lets go of it. */
  readonly volumeUuid: string
  sizeBytes: number
  /** Which volume owns it, as recorded in etcd. */
  owner: Volume | undefined
  /** Nexus recorded as its owner. Removing the child through the nexus route forgets to clear it. */
  nexusOwner: string | undefined
  deleting = false
  /** Whether it holds everything ever acknowledged to the volume's user. */
  synced: boolean
  writtenBytes: number
  snapshotBytes = 0
  rebuild: Rebuild | undefined

  constructor(spec: { uuid: string; pool: Pool; volume: Volume; synced: boolean; writtenBytes: number }) {
    this.uuid = spec.uuid
    this.pool = spec.pool
    this.owner = spec.volume
    this.volumeUuid = spec.volume.uuid
    this.thin = spec.volume.thin
    this.sizeBytes = spec.volume.sizeBytes
    this.synced = spec.synced
    this.writtenBytes = spec.writtenBytes
  }

  get node(): Node {
    return this.pool.node
  }

  /** A rebuild writes into a thin replica as it goes. */
  get allocatedBytes(): number {
    if (!this.thin) return this.sizeBytes
    return Math.min(this.sizeBytes, Math.max(this.writtenBytes, this.rebuild?.rebuiltBytes() ?? 0))
  }

  get rebuiltBytes(): number {
    return this.rebuild?.rebuiltBytes() ?? (this.synced ? this.dataBytes : 0)
  }

  /** What a full copy of it transfers. */
  get dataBytes(): number {
    return Math.min(this.sizeBytes, this.allocatedBytes + this.snapshotBytes)
  }

  /** Whether etcd's NexusInfo records it as healthy. Before the first publish there is none and all count as healthy. */
  get healthyRecorded(): boolean {
    const info = this.owner?.nexusInfo
    if (this.owner === undefined) return false
    return info === undefined || info.healthy.get(this.uuid) === true
  }
}

export class Child {
  readonly replica: Replica
  state: Exclude<ChildState, 'Unknown'>
  reason: ChildReason | undefined
  /** Once synced, a child that faults has a log of what it missed and can be rebuilt partially. */
  wasSynced: boolean
  faultedAt: number | undefined

  constructor(replica: Replica, state: Exclude<ChildState, 'Unknown'>) {
    this.replica = replica
    this.state = state
    this.wasSynced = state === 'Online'
  }
}

export interface RebuildRecord {
  readonly child: Replica
  readonly source: Replica
  readonly state: 'Stopped' | 'Failed' | 'Completed'
  readonly totalBytes: number
  readonly rebuiltBytes: number
  readonly partial: boolean
  readonly startedAt: number
  readonly endedAt: number
}

/** The object on one io-engine through which a published volume is written: to all its children. */
export class Nexus {
  readonly uuid: string
  readonly node: Node
  readonly volume: Volume
  children: Child[]
  readonly history: RebuildRecord[] = []

  constructor(uuid: string, node: Node, volume: Volume, children: Child[]) {
    this.uuid = uuid
    this.node = node
    this.volume = volume
    this.children = children
  }

  get state(): NexusState {
    let online = 0
    for (const child of this.children) if (child.state === 'Online') online++
    if (online === 0) return 'Faulted'
    return online === this.children.length ? 'Online' : 'Degraded'
  }

  childOf(replica: Replica): Child | undefined {
    return this.children.find((child) => child.replica === replica)
  }
}

/** What the io-engine itself keeps in etcd about a nexus: whom to trust when it has to be built again. */
export interface NexusInfo {
  cleanShutdown: boolean
  readonly healthy: Map<string, boolean>
}

export class Volume {
  readonly uuid: string
  readonly thin: boolean
  readonly topology: Topology
  readonly affinityGroup: string | undefined
  readonly encrypted: boolean
  readonly clusterSizeBytes: number
  readonly replicas = new Set<Replica>()
  sizeBytes: number
  numReplicas: number
  selfHeal: boolean
  snapshots = 0
  /** The running operation as recorded in etcd, visible to everyone as `spec.operation`. */
  operation: string | undefined
  target: { readonly node: string; readonly nexus: string } | undefined
  nexus: Nexus | undefined
  nexusInfo: NexusInfo | undefined

  constructor(spec: {
    uuid: string
    sizeBytes: number
    numReplicas: number
    thin: boolean
    topology: Topology
    affinityGroup: string | undefined
    selfHeal: boolean
    encrypted: boolean
    clusterSizeBytes: number
  }) {
    this.uuid = spec.uuid
    this.sizeBytes = spec.sizeBytes
    this.numReplicas = spec.numReplicas
    this.thin = spec.thin
    this.topology = spec.topology
    this.affinityGroup = spec.affinityGroup
    this.selfHeal = spec.selfHeal
    this.encrypted = spec.encrypted
    this.clusterSizeBytes = spec.clusterSizeBytes
  }
}

export interface Settings {
  readonly version: string
  readonly rebuildBytesPerSecond: number
  readonly cachePeriodMs: number
  readonly reconcileBusyMs: number
  readonly reconcileIdleMs: number
  readonly restTimeoutMs: number
  readonly stepMs: number
  readonly healthyPersistDelayMs: number
  /** How long a faulted child's node may take to come back before the replica is given up. */
  readonly faultedChildWaitMs: number
}

/** Everything there is, and what every rule needs to act on it. */
export class Cluster {
  readonly clock: SimulatedClock
  readonly settings: Settings
  readonly random: Random
  readonly choose: Choose
  readonly faults: Faults
  readonly nodes = new Map<string, Node>()
  readonly pools = new Map<string, Pool>()
  readonly volumes = new Map<string, Volume>()
  /** Replicas that exist on some io-engine, owned or not. */
  readonly replicas = new Map<string, Replica>()
  readonly listeners: ((event: MayastorEvent) => void)[] = []
  /** Told when something happened that makes the reconciler look again before its period is over. */
  onTrigger: () => void = () => {}

  constructor(clock: SimulatedClock, settings: Settings, random: Random, choose: Choose, faults: Faults) {
    this.clock = clock
    this.settings = settings
    this.random = random
    this.choose = choose
    this.faults = faults
  }

  emit(kind: EventKind, about: Omit<MayastorEvent, 'at' | 'kind'>): void {
    if (this.listeners.length === 0) return
    const event = { at: this.clock.now(), kind, ...about }
    for (const listener of this.listeners) listener(event)
  }

  /** Whether this control plane is at least `major.minor[.patch]`. */
  atLeast(major: number, minor: number, patch = 0): boolean {
    return compareVersions(this.settings.version, [major, minor, patch]) >= 0
  }
}

export function compareVersions(version: string, other: readonly number[]): number {
  const parts = version.replace(/^v/, '').split(/[.+-]/).map(Number)
  for (const [i, wanted] of other.entries()) {
    const difference = (parts[i] || 0) - wanted
    if (difference !== 0) return difference
  }
  return 0
}
