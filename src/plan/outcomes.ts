import type { MigrationReason } from '../api/reasons.js'

/**
 * How migrations end, in one place: what becomes of one when something comes between, and which ends count as trouble.
 */

/** Where a migration may be when something comes between. `removing`: the removal was sent. */
export const STAGES = ['adding', 'rebuilding', 'synced', 'removing'] as const
export type Stage = (typeof STAGES)[number]

/**
 * `goes on`: nothing comes of it. `forward`: the removal is finished, whatever else is wanted. `follows`: a replica that
 * Mayastor replaced takes the place of the old one. `rests`: it waits with its clock stopped, is Held after an hour,
 * and goes on by itself. `as it falls`: Mayastor picks the replica that goes, and that decides. Else it ends:
 * Completed, Aborted or Failed, for a reason.
 */
export type Outcome =
  | 'goes on'
  | 'forward'
  | 'follows'
  | 'rests'
  | 'as it falls'
  | `${'Completed' | 'Aborted' | 'Failed'} ${MigrationReason}`

export interface Interference {
  readonly what: string
  /** A stage that is missing: it cannot happen then. */
  readonly outcomes: Readonly<Partial<Record<Stage, Outcome>>>
}

/**
 * State decides, not intent: with the count and the replicas as wanted, added in and source out is Completed, added out
 * is Aborted, anything else Failed. A count that a person set is the wanted one from then on.
 */
export const INTERFERENCES: readonly Interference[] = [
  {
    what: 'no progress for the migration timeout',
    outcomes: {
      adding: 'Aborted ClusterDegraded',
      rebuilding: 'Aborted NoProgress',
      synced: 'goes on',
      removing: 'forward',
    },
  },
  {
    what: 'the policy is disabled, goes to dry run, or is deleted; the ReplicaTopology is deleted',
    outcomes: {
      adding: 'Aborted Cancelled',
      rebuilding: 'Aborted Cancelled',
      synced: 'Completed AllReplicasMoved',
      removing: 'forward',
    },
  },
  {
    what: 'the policy is edited, or IOPS turn',
    outcomes: { adding: 'goes on', rebuilding: 'goes on', synced: 'goes on', removing: 'forward' },
  },
  {
    what: 'the status of the ReplicaTopology is lost',
    outcomes: { adding: 'goes on', rebuilding: 'goes on', synced: 'goes on', removing: 'forward' },
  },
  {
    what: 'the added replica is lost, and Mayastor makes another on the target pool',
    outcomes: { rebuilding: 'follows', synced: 'follows', removing: 'forward' },
  },
  {
    what: 'the added replica is lost, and Mayastor makes another on some other pool',
    outcomes: { rebuilding: 'Aborted WrongPool', synced: 'Aborted WrongPool', removing: 'Failed WrongPool' },
  },
  {
    what: 'the only pool it could go to is filling up',
    outcomes: {
      adding: 'Aborted NoFreeTargetNode',
      rebuilding: 'Aborted TargetFilling',
      synced: 'goes on',
      removing: 'forward',
    },
  },
  {
    what: 'the source is lost',
    outcomes: { adding: 'Aborted VolumeNotHealthy', rebuilding: 'follows', synced: 'follows', removing: 'forward' },
  },
  {
    what: 'another original replica is lost and replaced',
    outcomes: { adding: 'Aborted VolumeNotHealthy', rebuilding: 'follows', synced: 'follows', removing: 'forward' },
  },
  {
    what: 'the volume is unpublished',
    outcomes: { adding: 'Aborted Unpublished', rebuilding: 'rests', synced: 'rests', removing: 'rests' },
  },
  {
    what: 'the volume is resized',
    outcomes: { adding: 'goes on', rebuilding: 'goes on', synced: 'goes on', removing: 'forward' },
  },
  {
    what: 'a snapshot is taken (which Mayastor refuses while it rebuilds)',
    outcomes: {
      adding: 'Aborted Snapshots',
      rebuilding: 'goes on',
      synced: 'Aborted SnapshotsChanged',
      removing: 'forward',
    },
  },
  {
    what: 'the volume is deleted',
    outcomes: {
      adding: 'Aborted VolumeGone',
      rebuilding: 'Aborted VolumeGone',
      synced: 'Aborted VolumeGone',
      removing: 'Aborted VolumeGone',
    },
  },
  {
    what: 'a person raises the count (which Mayastor refuses while it rebuilds)',
    outcomes: {
      adding: 'Aborted VolumeNotHealthy',
      rebuilding: 'goes on',
      synced: 'Failed CountChanged',
      removing: 'Failed CountChanged',
    },
  },
  {
    what: 'a person lowers the count',
    outcomes: {
      adding: 'Aborted PlacementChanged',
      rebuilding: 'Aborted CountChanged',
      synced: 'as it falls',
      removing: 'Completed AllReplicasMoved',
    },
  },
  {
    what: 'another node of the volume is cordoned or drained',
    outcomes: { adding: 'Aborted NodeCordoned', rebuilding: 'rests', synced: 'rests', removing: 'rests' },
  },
]

/**
 * Ends that say that something is wrong with the cluster or with us: the next attempt waits longer, and several in a
 * row stop a policy.
 */
const TROUBLE: ReadonlySet<string> = new Set<MigrationReason>([
  'NoProgress',
  'HardTimeout',
  'TargetLost',
  'TargetFilling',
  'WrongPool',
  'GrowRefused',
  'OtherReplicaLost',
  'WrongRemoval',
])

export function isTrouble(reason: string): boolean {
  return TROUBLE.has(reason)
}
