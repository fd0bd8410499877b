import type { Node, Pool, Replica, Volume } from './model.js'
import type { Operation } from './operations.js'

/**
 * How things really are, at this instant: live objects, not what REST says. For checkers to read, never to change.
 * Of a replica: `owner` is the volume that owns it in etcd, `healthyRecorded` what etcd's NexusInfo says of it, `synced`
 * whether it really holds all that was acknowledged, `rebuiltBytes` how far a rebuild is.
 */
export interface Truth {
  readonly volumes: ReadonlyMap<string, Readonly<Volume>>
  readonly pools: ReadonlyMap<string, Readonly<Pool>>
  readonly nodes: ReadonlyMap<string, Readonly<Node>>
  /** Every replica on any pool or in etcd: also those no volume owns any more, and those that could not be created. */
  readonly replicas: ReadonlyMap<string, Readonly<Replica>>
  /** What the core is in the middle of, the reconciler's round included. */
  readonly operations: readonly Operation[]
}
