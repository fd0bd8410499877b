/** Mayastor's objects as the operator uses them: read from its REST API (v0), checked, and in our spelling. */

export interface MayastorVolume {
  readonly uuid: string
  readonly sizeBytes: number
  /** The count Mayastor keeps, fresh; what is really there is `replicas`. */
  readonly numReplicas: number
  /** Life cycle: Creating, Created, Deleting, Deleted. */
  readonly lifecycle: string
  /** Name of the operation that runs now; undefined when none does. */
  readonly operation: string | undefined
  readonly published: boolean
  readonly selfHeal: boolean
  readonly thin: boolean
  readonly snapshots: number
  readonly affinityGroup: string | undefined
  readonly encrypted: boolean | undefined
  readonly clusterSize: number | undefined
  readonly topology: VolumeTopology
  /** Online, Degraded, Faulted, Unknown or Shutdown; up to 30 s old, as everything below. */
  readonly state: string
  readonly target: Target | undefined
  /** By uuid. */
  readonly replicas: readonly MayastorReplica[]
}

/** Where replicas may be, fixed when the volume was created. */
export interface VolumeTopology {
  /** Labels a pool must carry; an empty value: the key must exist. */
  readonly poolLabels: Readonly<Record<string, string>>
  readonly allowedNodes: readonly string[] | undefined
  readonly nodeInclusion: Readonly<Record<string, string>>
  readonly nodeExclusion: Readonly<Record<string, string>>
}

export interface Target {
  readonly node: string
  /** Changes whenever the target is created anew. */
  readonly nexus: string
  readonly state: string
  readonly children: number
}

export interface MayastorReplica {
  readonly uuid: string
  readonly pool: string | undefined
  readonly node: string | undefined
  readonly state: string
  /** State as a child of the target. */
  readonly childState: string | undefined
  readonly childReason: string | undefined
  /** 0 to 100 while it is being rebuilt. */
  readonly rebuildPercent: number | undefined
  readonly allocatedBytes: number
  /** Online, and an Online child of the target without a rebuild: the target reports Online only for synced children. */
  readonly synced: boolean
}

export interface MayastorPool {
  readonly id: string
  readonly node: string
  readonly status: string
  readonly capacityBytes: number
  readonly usedBytes: number
  readonly committedBytes: number | undefined
  readonly labels: Readonly<Record<string, string>>
  readonly cordon: PoolCordon
  /** Mayastor's own drain is at work on the pool. */
  readonly draining: boolean
  readonly encrypted: boolean | undefined
  readonly clusterSize: number | undefined
}

/** What a pool takes no new ones of. */
export interface PoolCordon {
  readonly replicas: boolean
  readonly snapshots: boolean
  readonly restores: boolean
  readonly import: boolean
}

export interface MayastorNode {
  readonly id: string
  readonly online: boolean
  readonly version: string | undefined
  readonly labels: Readonly<Record<string, string>>
  readonly cordonLabels: readonly string[]
  readonly drainLabels: readonly string[]
}

/** What the running server can do, from the API description it serves. */
export interface Capabilities {
  readonly poolCordon: boolean
}
