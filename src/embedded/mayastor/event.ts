/** On whose behalf something happens: a call of replica_count, the reconciler, the io-engine itself, or a person. */
export type Actor =
  | 'set-replica'
  | 'hot-spare'
  | 'garbage'
  | 'out-of-space'
  | 'pool-drain'
  | 'io-engine'
  | 'person'
  | 'core'

export type EventKind =
  | 'rest-received'
  | 'rest-answered'
  | 'rest-lost'
  | 'operation-started'
  | 'operation-ended'
  | 'operation-dropped'
  | 'persist-failed'
  | 'volume-creating'
  | 'volume-created'
  | 'volume-deleting'
  | 'volume-destroyed'
  | 'volume-published'
  | 'volume-unpublished'
  | 'volume-resized'
  | 'self-heal'
  | 'snapshot-taken'
  | 'snapshot-destroyed'
  | 'replica-count'
  | 'replica-created'
  | 'replica-create-failed'
  | 'removal-chosen'
  | 'replica-disowned'
  | 'replica-destroyed'
  | 'replica-destroy-failed'
  | 'replica-moved'
  | 'nexus-created'
  | 'nexus-shutdown'
  | 'nexus-lost'
  | 'child-added'
  | 'child-removed'
  | 'child-faulted'
  | 'rebuild-started'
  | 'rebuild-failed'
  | 'rebuild-completed'
  | 'healthy-recorded'
  | 'unhealthy-recorded'
  | 'node-added'
  | 'node-online'
  | 'node-offline'
  | 'node-version'
  | 'node-cordon'
  | 'node-uncordon'
  | 'node-drained'
  | 'pool-added'
  | 'pool-status'
  | 'pool-imported'
  | 'pool-exported'
  | 'pool-cordon'
  | 'pool-uncordon'
  | 'pool-drain'
  | 'pool-label'
  | 'core-stopped'
  | 'core-restarted'

export interface MayastorEvent {
  /** Simulated wall clock, milliseconds since the epoch. */
  readonly at: number
  readonly kind: EventKind
  readonly volume?: string
  readonly replica?: string
  readonly node?: string
  readonly pool?: string
  readonly by?: Actor
  /** replica-count: the count before and after. */
  readonly from?: number
  readonly to?: number
  /** Why, or which (a cordon label, a cordon bit, an operation's name, the replica a moved one became), in words. */
  readonly reason?: string
  /** rest-*: the request. Received when it arrives, answered when the reply is sent, lost when none will be. */
  readonly method?: string
  readonly path?: string
  readonly body?: unknown
  readonly status?: number
}
