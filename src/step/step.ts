import type { MayastorVolume } from '../api/mayastor.js'
import type { MigrationPhase } from '../api/names.js'
import type { MigrationReason } from '../api/reasons.js'
import type { Migration } from '../api/replica-topology.js'
import { isTrouble } from '../plan/outcomes.js'
import type { Fence, Journal, JournalEnd, MayastorCall } from './journal.js'
import type { View } from './preconditions.js'

/** Everything one step is decided from. */
export interface Situation {
  /** Milliseconds since the epoch. */
  readonly now: number
  readonly volumeID: string
  /** The migration the ReplicaTopology asks for. */
  readonly migration: Migration | undefined
  /** Status tells that this migration has begun: without a journal it does not begin again. */
  readonly known: boolean
  /** What runs is to end: withdrawn, finalizing, or abandoned by whoever drove it. */
  readonly cancel: 'Cancelled' | 'Abandoned' | undefined
  /** The ReplicaTopology is being deleted. */
  readonly finalizing: boolean
  /**
   * Only resolve what is unresolved, finish a removal that was sent, and close the bracket: whoever drove the move was
   * silent, and may come back.
   */
  readonly bracketOnly: boolean
  /** Name of the ReplicaTopology and of the policy, for a new journal. */
  readonly topology: string
  readonly policy: string
  readonly preservationMode: boolean
  readonly dryRun: boolean
  readonly journal: Journal | undefined
  readonly fence: Fence
  /** How long this process has known of the unresolved call, and of the first reading, on its own monotonic clock, ms. */
  readonly callAgeMs: number
  readonly readingAgeMs: number
  /** What a person wrote to release a Held migration. */
  readonly release: string | undefined
  readonly view: View
  /** Live journals of all volumes and Mayastor's list of volumes; read where a move may begin, else empty. */
  readonly journals: readonly Journal[]
  /** Names of Leases that should be journals and cannot be read. */
  readonly unreadable: readonly string[]
  readonly volumes: readonly MayastorVolume[]
  /** Migrations in the whole cluster at once. */
  readonly clusterLimit: number
  /** Totals status had, where no journal knows better. */
  readonly totals: Journal['totals']
}

export interface Report {
  readonly phase: MigrationPhase
  readonly reason: MigrationReason
  readonly message: string
}

/** The one thing to do next. Nothing but `call` reaches Mayastor. */
export type Step =
  /** Nothing runs and nothing is to begin. */
  | { readonly kind: 'rest' }
  | {
      readonly kind: 'wait'
      readonly report: Report
      readonly seconds: number
      /** It waits for something outside the move, which may take any time. */
      readonly rests?: true
    }
  | { readonly kind: 'takeFence'; readonly fence: Fence; readonly report: Report }
  /** Writes what this bracket may set in Mayastor, before it is set, or what became of its last call. */
  | { readonly kind: 'intend'; readonly fence: Fence; readonly report: Report }
  | { readonly kind: 'releaseFence' }
  /** Writes the journal and nothing else. */
  | { readonly kind: 'note'; readonly journal: Journal }
  /** Writes the journal with the call in it (the fence, where there is no journal any more), then sends it. */
  | {
      readonly kind: 'call'
      readonly journal: Journal | undefined
      readonly call: MayastorCall
      readonly report: Report
    }

/** What a cancel is called in messages. */
export const CANCELS = { Cancelled: 'withdrawn', Abandoned: 'driven by nobody' } as const

/** Seconds until the next sync inside a bracket. */
export const SOON = 1
/** Seconds until the next look at what only time changes: a rebuild, a resting move. */
export const WATCH = 15

/** Ends the migration: what is written is its tombstone. */
export function end(
  journal: Journal,
  now: number,
  phase: JournalEnd['phase'],
  reason: MigrationReason,
  message: string,
): Step {
  const { totals, attempts } = journal
  // Past the first phase a replica was added, seen or not.
  const started = journal.replicasMoved > 0 || journal.move.added !== undefined || journal.phase !== 'ScalingUp'
  return {
    kind: 'note',
    journal: {
      ...journal,
      phase: 'Ended',
      end: { phase, reason, message, at: now, started },
      ...(started ? { cooldownFrom: now } : {}),
      attempts: phase === 'Completed' ? 0 : attempts,
      failures: phase === 'Completed' ? 0 : (journal.failures ?? 0) + Number(isTrouble(reason)),
      totals: {
        succeeded: totals.succeeded + Number(phase === 'Completed'),
        failed: totals.failed + Number(phase === 'Failed'),
        aborted: totals.aborted + Number(phase === 'Aborted'),
      },
    },
  }
}

export function wait(journal: Journal, reason: MigrationReason, message: string, seconds: number): Step {
  return { kind: 'wait', report: reportOf(journal, reason, message), seconds }
}

/** Waits for something outside the move, with its clocks standing still. */
export function rest(journal: Journal, reason: MigrationReason, message: string): Step {
  return { kind: 'wait', report: reportOf(journal, reason, message), seconds: WATCH, rests: true }
}

export function note(journal: Journal): Step {
  return { kind: 'note', journal }
}

export function reportOf(journal: Journal | undefined, reason: MigrationReason, message: string): Report {
  return { phase: phaseOf(journal), reason, message }
}

/** The published word for where a migration stands. */
export function phaseOf(journal: Journal | undefined): MigrationPhase {
  if (journal === undefined) return 'Analyzing'
  if (journal.phase === 'Preserved') return 'Completed'
  if (journal.held !== undefined) return 'Held'
  return journal.phase === 'Ended' ? (journal.end?.phase ?? 'Failed') : journal.phase
}
