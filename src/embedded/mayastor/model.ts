import type { SimulatedClock } from '../clock.js'
import type { EventKind, MayastorEvent } from './event.js'
import type { Faults } from './faults.js'
import type { Choice, Choose, Random } from './random.js'

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
/** Life of what is recorded in etcd: a volume, or a replica. */
export type Life = 'Creating' | 'Created' | 'Deleting'

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
  /** Its drain is over: nothing is left to move away. */
  drained = false
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
  /** What is on its disk. */
  readonly replicas = new Set<Replica>()
  capacityBytes: number
  status: PoolStatus = 'Online'
  /** False: the node is there, but without this pool and all that is on it. */
  imported = true
  drain: PoolDrain | undefined
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

  /** Whether the io-engine serves it. */
  get reachable(): boolean {
    return this.node.online && this.imported
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

export type DrainPhase = 'Queued' | 'Draining' | 'AwaitingCleanup' | 'PartiallyDrained' | 'Drained' | 'Cancelled'

/** Mayastor's own drain of a pool (unreleased): what was asked for, and how far it is. */
export interface PoolDrain {
  readonly requestedAt: number
  readonly acceptSnapshotLoss: boolean
  phase: DrainPhase
  readonly moves: Set<ReplicaMove>
}

/** A pool drain at work on one volume: it may have one replica more than its count says. */
export interface ReplicaMove {
  readonly volume: Volume
  readonly pool: Pool
  /** The one that leaves; undefined once it has left. */
  moving: Replica | undefined
  /** The one that is to take its place; undefined while none is placed. */
  spare: Replica | undefined
  /** Whether a spare is wanted at all. */
  wantsSpare: boolean
  /** The drain was cancelled, or the spare's own pool is being drained: the spare has to go. */
  unwind: 'Cancelled' | 'Respare' | undefined
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
  /** Its record in etcd. One that could not be created stays as Deleting, and its volume's, until it is cleared. */
  life: Life = 'Creating'
  /** Which volume owns it, as recorded in etcd. */
  owner: Volume | undefined
  /** Nexus recorded as its owner. Removing the child through the nexus route forgets to clear it. */
  nexusOwner: string | undefined
  /** Exported over NVMe-oF for a nexus on another node; it stays so when that nexus is gone. */
  shared = false
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
    this.thin = spec.volume.asThin
    this.sizeBytes = spec.volume.sizeBytes
    this.synced = spec.synced
    this.writtenBytes = spec.writtenBytes
  }

  get node(): Node {
    return this.pool.node
  }

  get onDisk(): boolean {
    return this.pool.replicas.has(this)
  }

  /** Whether a nexus could read and write it. */
  get reachable(): boolean {
    return this.onDisk && this.pool.reachable
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
  /** It was synced when it faulted: there is a log of what it misses, and a partial rebuild will do. */
  hasLog = false
  faultedAt: number | undefined

  constructor(replica: Replica, state: Exclude<ChildState, 'Unknown'>) {
    this.replica = replica
    this.state = state
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

/** The target as the core recorded it. The io-engine's nexus may have fewer children, or be gone. */
export interface Target {
  readonly node: string
  readonly nexus: string
  readonly children: Set<Replica>
  /** It was shut down to be moved, and stays so if it cannot be. */
  down: boolean
}

/** What one snapshot holds of one replica, on the pool where that replica was. */
export interface SnapshotPart {
  readonly pool: Pool
  readonly replica: Replica
  readonly bytes: number
}

export interface Snapshot {
  readonly id: string
  readonly parts: readonly SnapshotPart[]
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
  /** Those recorded as the volume's, also while they are being created or could not be. */
  readonly replicas = new Set<Replica>()
  life: Life = 'Created'
  sizeBytes: number
  numReplicas: number
  selfHeal: boolean
  readonly snapshotList: Snapshot[] = []
  /** Ever. A thick volume becomes thin by its first one, and stays so. */
  snapshotsTaken = 0
  /** The running operation as recorded in etcd, visible to everyone as `spec.operation`. */
  operation: string | undefined
  /** How the operation ended when that could not be recorded: until it is, nothing else may start. */
  outcome: boolean | undefined
  /** What recording the end of the operation changes. */
  commit: (() => void) | undefined
  target: Target | undefined
  /** Targets left behind on nodes that could not be told: what is local to them there cannot be used. */
  readonly abandoned: Target[] = []
  /** A pool drain that moves one of its replicas. */
  move: ReplicaMove | undefined
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

  get snapshots(): number {
    return this.snapshotList.length
  }

  get asThin(): boolean {
    return this.thin || this.snapshotsTaken > 0
  }

  /** Replicas it should have now, the one more of a pool drain included. */
  get effectiveReplicas(): number {
    return this.numReplicas + (this.move?.wantsSpare ? 1 : 0)
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
  /** Pools drained at once by Mayastor itself. */
  readonly maxPoolDrains: number
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
  /** Volume uuids in the order in which listings page through them. */
  readonly listing: string[] = []
  /** Replicas that exist on some io-engine or in etcd, owned or not. */
  readonly replicas = new Map<string, Replica>()
  readonly listeners: ((event: MayastorEvent) => void)[] = []
  /** Told when something happened that makes the reconciler look again before its period is over. */
  onTrigger: () => void = () => {}
  readonly #timers = new Set<() => void>()

  constructor(clock: SimulatedClock, settings: Settings, random: Random, choose: Choose, faults: Faults) {
    this.clock = clock
    this.settings = settings
    this.random = random
    this.choose = choose
    this.faults = faults
  }

  /** As the clock's, but it ends with the cluster. */
  after(delayMs: number, fn: () => void): () => void {
    const cancelTimer = this.clock.after(delayMs, () => {
      this.#timers.delete(cancel)
      fn()
    })
    const cancel = () => {
      this.#timers.delete(cancel)
      cancelTimer()
    }
    this.#timers.add(cancel)
    return cancel
  }

  stopTimers(): void {
    for (const cancel of [...this.#timers]) cancel()
  }

  addVolume(volume: Volume): void {
    this.volumes.set(volume.uuid, volume)
    this.listing.push(volume.uuid)
  }

  /** A delete moves the last entry into the gap, so a client that pages meanwhile may miss or repeat one. */
  removeVolume(volume: Volume): void {
    this.volumes.delete(volume.uuid)
    const index = this.listing.indexOf(volume.uuid)
    const last = this.listing.pop()
    if (last !== undefined && last !== volume.uuid) this.listing[index] = last
  }

  /** One after the other in whatever order, chosen as they are taken. */
  *inAnyOrder<T>(what: Choice, items: Iterable<T>): Generator<T, void> {
    const left = [...items]
    while (left.length > 0) {
      const next = left.length === 1 ? (left[0] as T) : this.choose(what, left)
      left.splice(left.indexOf(next), 1)
      yield next
    }
  }

  /** One of the options that come first by `rank`, lowest first; a tie is a choice. */
  best<T>(what: Choice, options: readonly T[], ...ranks: readonly ((option: T) => number)[]): T | undefined {
    let left = options
    for (const rank of ranks) {
      if (left.length <= 1) break
      const values = left.map(rank)
      const lowest = Math.min(...values)
      left = left.filter((_, i) => values[i] === lowest)
    }
    return left.length <= 1 ? left[0] : this.choose(what, left)
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
