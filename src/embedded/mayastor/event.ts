/** On whose behalf something happens: a call of replica_count, the reconciler, the io-engine itself, or a person. */
export type Actor = 'set-replica' | 'hot-spare' | 'garbage' | 'io-engine' | 'person' | 'core'

export type EventKind =
  | 'rest-received'
  | 'rest-answered'
  | 'rest-lost'
  | 'operation-started'
  | 'operation-ended'
  | 'operation-dropped'
  | 'volume-created'
  | 'volume-destroyed'
  | 'volume-resized'
  | 'snapshot-taken'
  | 'replica-count'
  | 'replica-created'
  | 'replica-create-failed'
  | 'removal-chosen'
  | 'replica-disowned'
  | 'replica-destroyed'
  | 'replica-destroy-failed'
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
  | 'node-cordon'
  | 'node-uncordon'
  | 'pool-added'
  | 'pool-cordon'
  | 'pool-uncordon'
  | 'pool-label'
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
  /** Why, or which (a cordon label, a cordon bit, an operation's name), in words. */
  readonly reason?: string
  /** rest-*: the request. Received when it arrives, answered when the reply is sent, lost when none will be. */
  readonly method?: string
  readonly path?: string
  readonly body?: unknown
  readonly status?: number
}
