import type { Direction } from '../api/names.js'
import type { ReplicaTopologyStatus } from '../api/replica-topology.js'
import type { Move, PlacedReplica } from '../plan/moves.js'

/**
 * What is written down before anything is done: the journal of one volume's migration and the fence. Both are read
 * live at the start of every step and compare-and-swapped before every write to Mayastor.
 */

export const FENCE_NAME = 'fence'
const JOURNAL_PREFIX = 'move-'

export const journalName = (volume: string): string => `${JOURNAL_PREFIX}${volume}`
export const isJournalName = (name: string): boolean => name.startsWith(JOURNAL_PREFIX)

/** A Lease of ours that this version cannot read. */
export class UnreadableRecord extends Error {
  override readonly name = 'UnreadableRecord'
}

/** Bump when a reader of the old form would do harm. */
const FORMAT = 1

/** `Preserved`: an extra replica is kept on purpose. `Ended`: a tombstone. */
export type JournalPhase = 'ScalingUp' | 'WaitingSync' | 'ScalingDown' | 'Preserved' | 'Ended'

/** A write to Mayastor. */
export type MayastorCall =
  | { readonly op: 'setReplicaCount'; readonly count: number }
  | { readonly op: 'cordonPool' | 'uncordonPool'; readonly pool: string }
  | { readonly op: 'cordonNode' | 'uncordonNode'; readonly node: string; readonly label: string }

export type UnresolvedCall = MayastorCall & {
  /** By the clock of whoever sent it, for people: how long ago that was everybody judges by their own. */
  readonly sentAt: number
}

/** The replica being moved. Nodes are empty in a migration that was declined. */
export interface CurrentMove extends Move {
  readonly sourceNode: string
  readonly targetNode: string
  /** Uuid of the replica added for it, once it has been seen. */
  readonly added?: string
  /** Milliseconds since the epoch, as all times here. */
  readonly startedAt: number
}

export interface Journal {
  readonly volume: string
  /** Name of the ReplicaTopology. */
  readonly topology: string
  readonly policy: string
  readonly id: string
  readonly direction: Direction
  readonly phase: JournalPhase
  /** N: the count before the move, or what a person set since. */
  readonly count: number
  readonly snapshots: number
  /** Zones the replicas were in when the migration began. */
  readonly zones?: number
  /** Replicas of the volume when the current move began, less those Mayastor replaced since. */
  readonly baseline: readonly PlacedReplica[]
  readonly move: CurrentMove
  /** Replicas still to move after the current one, in order. */
  readonly queue: readonly Move[]
  readonly candidatePools: readonly string[]
  readonly replicasMoved: number
  readonly replicasTotal: number
  readonly timeoutMs: number
  readonly hardTimeoutMs?: number
  readonly cooldownMs: number
  readonly promisedBytes: number
  readonly startedAt: number
  /** The newest maximum of what has been rebuilt, and when it was reached. */
  readonly progress: { readonly percent: number; readonly at: number }
  /** What the move waits for, with its clocks standing still. */
  readonly rest?: Rest
  /** It waits for a person, or has rested too long. Its slot is free from then on, whether or not it goes on later. */
  readonly held?: Held
  /** Times it was Held. */
  readonly holds?: number
  /** The pair that preservation mode kept is kept no longer. */
  readonly pairOver?: true
  /** Pools whose cordon was announced in the open bracket. One that the fence names and this does not is not ours. */
  readonly cordoned?: readonly string[]
  /** Pools that stay cordoned because somebody else cordoned them while we did. */
  readonly leftCordoned?: readonly string[]
  /** The first of the two readings that show the added replica synced. */
  readonly reading?: { readonly at: number; readonly nexus: string }
  /** ScalingDown: the replica to go, or that has gone; undefined where there is none and only the count is to be lowered. */
  readonly victim?: string
  /** Set when the added replica is being removed again, with the end that follows. */
  readonly undo?: { readonly phase: JournalEnd['phase']; readonly reason: string; readonly message: string }
  /** The raise of the count was journalled. */
  readonly growSentAt?: number
  /** A removal was journalled: from here on the move only goes forward. */
  readonly removalSentAt?: number
  /** The count that was set for this move, by Mayastor's answer or by what was seen; any other is a person's. */
  readonly confirmedCount?: number
  /** Mayastor's definite refusal of the last call. */
  readonly refused?: string
  readonly refusedAt?: number
  /** Times Mayastor replaced a replica of the volume during the current move. */
  readonly adoptions?: number
  /** When a migration that moved data last ended; kept when later ones are declined. */
  readonly cooldownFrom?: number
  /** A write whose outcome is not known. */
  readonly call?: UnresolvedCall
  readonly end?: JournalEnd
  /** Attempts in a row that did not complete, up to and including this one. */
  readonly attempts: number
  /** Of those, the ones that failed: the next one waits longer for each. */
  readonly failures?: number
  readonly totals: ReplicaTopologyStatus['totals']
}

export interface Rest {
  readonly since: number
  readonly reason: string
}

export interface Held {
  /** What a person names to release it. */
  readonly id: string
  readonly reason: string
  readonly message: string
  readonly at: number
  /** It does not go on by itself. */
  readonly forPerson: boolean
}

export interface JournalEnd {
  readonly phase: 'Completed' | 'Aborted' | 'Failed'
  readonly reason: string
  readonly message: string
  readonly at: number
  /** A replica was added at some point: the cooldown counts. */
  readonly started: boolean
}

export interface Fence {
  /** The volume whose move holds it; undefined: free. */
  readonly volume?: string
  readonly openedAt?: number
  /** Written before the first cordon: what this bracket may set in Mayastor. */
  readonly intent?: FenceIntent
  /** A write whose outcome is not known, of a bracket that is closed without a journal. */
  readonly call?: UnresolvedCall
}

export interface FenceIntent {
  /** Pools we cordon, with the other bits each had before. */
  readonly pools: readonly { readonly pool: string; readonly otherBits: string }[]
  /** The node we put our label on. */
  readonly label?: { readonly node: string; readonly label: string }
}

export const isActive = <J extends Pick<Journal, 'phase'>>(
  journal: J | undefined,
): journal is J & { readonly phase: Exclude<JournalPhase, 'Ended'> } =>
  journal !== undefined && journal.phase !== 'Ended'

export type ActiveJournal = Journal & { readonly phase: Exclude<JournalPhase, 'Ended'> }

/** Whether the migration counts against the limits: not where its extra replica is wanted, nor once it was Held. */
export const holdsSlot = (journal: Pick<Journal, 'phase' | 'holds'>): boolean =>
  journal.phase !== 'Ended' && journal.phase !== 'Preserved' && (journal.holds ?? 0) === 0

export const encode = (record: Journal | Fence): string => JSON.stringify({ format: FORMAT, ...record })

/** Throws UnreadableRecord where a record is damaged or of another format: nothing may be done on its behalf. */
export function decodeJournal(data: string): Journal {
  const record = decode(data) as unknown as Journal
  if (typeof record.volume !== 'string' || typeof record.id !== 'string' || typeof record.phase !== 'string') {
    throw new UnreadableRecord('the journal lacks volume, id or phase')
  }
  return record
}

export const decodeFence = (data: string): Fence => decode(data) as Fence

function decode(data: string): Record<string, unknown> {
  let record: Record<string, unknown>
  try {
    record = JSON.parse(data) as Record<string, unknown>
  } catch (cause) {
    throw new UnreadableRecord('the record is not JSON', { cause })
  }
  const { format, ...rest } = record
  if (format !== FORMAT) {
    throw new UnreadableRecord(`the record has format ${String(format)}, this version reads ${FORMAT}`)
  }
  return rest
}
