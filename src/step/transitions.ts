import { goesOn } from '../api/commands.js'
import type { NewEvent, OwnerReference } from '../api/kubernetes.js'
import { API_VERSION } from '../api/names.js'
import { EVENT_REASONS, type EventReason } from '../api/reasons.js'
import type { MigrationStatus, ReplicaTopologySpec } from '../api/replica-topology.js'

/** What happened to a volume's migration between the status a request came with and the status it is answered with. */
export interface Transition {
  readonly topology: { readonly name: string; readonly uid: string; readonly owners: readonly OwnerReference[] }
  readonly spec: ReplicaTopologySpec
  readonly before: MigrationStatus | undefined
  readonly after: MigrationStatus | undefined
  /** The ReplicaTopology goes although Mayastor is not as it was found. */
  readonly letGo: boolean
}

/**
 * The events of a transition, on the policy and on the claim. An answer that gets lost is computed again from the same
 * status, and gives the same events with the same keys.
 */
export function transitionEvents(transition: Transition): readonly NewEvent[] {
  const { topology, spec, after, letGo } = transition
  const subject = spec.claimRef === undefined ? topology.name : `${spec.claimRef.namespace}/${spec.claimRef.name}`
  const events = transitions(transition).flatMap((reason) => {
    if (after === undefined) return []
    const { id, direction } = after
    const tier = direction === 'Promote' ? 'NVMe' : 'SATA'
    const text = `migration ${id} of ${subject} to ${tier} ${VERBS[reason]}: ${tell(reason, topology.name, after)}`
    return objects(transition, reason, text, `${id}/${reason}`)
  })
  if (!letGo) return events
  const text = `ReplicaTopology ${topology.name} of ${subject} was let go; what is left in Mayastor is still being undone`
  return [...events, ...objects(transition, 'LetGo', text, `${topology.uid}/LetGo`)]
}

type Told = Exclude<EventReason, 'LetGo'>

function tell(reason: Told, topology: string, { replicasTotal, message, holdId }: MigrationStatus): string {
  if (reason === 'MigrationStarted') return `${replicasTotal} replicas to move`
  return reason === 'MigrationHeld' ? `${message}; ${goesOn(topology, holdId)}` : message
}

const VERBS: Readonly<Record<Told, string>> = {
  MigrationStarted: 'started',
  MigrationCompleted: 'completed',
  MigrationAborted: 'aborted',
  MigrationFailed: 'failed',
  MigrationHeld: 'is held',
}

const ARRIVALS = {
  Completed: 'MigrationCompleted',
  Aborted: 'MigrationAborted',
  Failed: 'MigrationFailed',
  Held: 'MigrationHeld',
} as const

/** In the order they happened. A migration that was declined before it had a slot is no news: many are. */
function transitions({ before: last, after }: Transition): readonly Told[] {
  if (after === undefined) return []
  const before = last?.id === after.id ? last : undefined
  const known = before?.started === true
  if (!known && !after.started) return []
  const arrival = before?.phase === after.phase ? undefined : ARRIVALS[after.phase as keyof typeof ARRIVALS]
  return [...(known ? [] : ['MigrationStarted' as const]), ...(arrival === undefined ? [] : [arrival])]
}

function objects(
  { topology, spec }: Transition,
  reason: EventReason,
  message: string,
  key: string,
): readonly NewEvent[] {
  const { policy, claimRef } = spec
  const event = { type: EVENT_REASONS[reason].type, reason, message, key }
  const owner = topology.owners.find(({ kind, name }) => kind === 'StoragePolicy' && name === policy)
  const uid = owner === undefined ? {} : { uid: owner.uid }
  const events: NewEvent[] = [
    { ...event, regarding: { apiVersion: API_VERSION, kind: 'StoragePolicy', name: policy, ...uid } },
  ]
  if (claimRef !== undefined) {
    events.push({ ...event, regarding: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', ...claimRef } })
  }
  return events
}
