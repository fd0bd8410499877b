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
 * and goes on by itself. `is Held`: a person has to release it. `as it falls`: Mayastor picks the replica that goes, and
 * that decides. Else it ends: Completed, Aborted or Failed, for a reason.
 */
export type Outcome =
  | 'goes on'
  | 'forward'
  | 'follows'
  | 'rests'
  | 'is Held'
  | 'as it falls'
  | `${'Completed' | 'Aborted' | 'Failed'} ${MigrationReason}`

export interface Interference {
  /** Each by itself: what comes of them is the same. */
  readonly ways: readonly string[]
  /** A stage that is missing: it cannot happen then. */
  readonly outcomes: Readonly<Partial<Record<Stage, Outcome>>>
}

/**
 * State decides, not intent: with the count and the replicas as wanted, added in and source out is Completed, added out
 * is Aborted, anything else Failed. A count that a person set is the wanted one from then on.
 */
export const INTERFERENCES: readonly Interference[] = [
  {
    ways: ['no progress for the migration timeout'],
    outcomes: {
      adding: 'Aborted ClusterDegraded',
      rebuilding: 'Aborted NoProgress',
      synced: 'goes on',
      removing: 'forward',
    },
  },
  {
    ways: [
      'the policy is disabled',
      'it goes to dry run',
      'it is deleted',
      'the ReplicaTopology is deleted, and made anew by its policy',
    ],
    outcomes: {
      adding: 'Aborted Cancelled',
      rebuilding: 'Aborted Cancelled',
      synced: 'Completed AllReplicasMoved',
      removing: 'forward',
    },
  },
  {
    ways: ['the policy is edited', 'IOPS turn'],
    outcomes: { adding: 'goes on', rebuilding: 'goes on', synced: 'goes on', removing: 'forward' },
  },
  {
    ways: ['the status of the ReplicaTopology is lost'],
    outcomes: { adding: 'goes on', rebuilding: 'goes on', synced: 'goes on', removing: 'forward' },
  },
  {
    ways: ['the added replica is lost, and Mayastor makes another on the target pool'],
    outcomes: { rebuilding: 'follows', synced: 'follows', removing: 'forward' },
  },
  {
    ways: [
      'the added replica is lost, and Mayastor makes another on some other pool',
      'the whole target pool is lost, and it does',
    ],
    outcomes: { rebuilding: 'Aborted WrongPool', synced: 'Aborted WrongPool', removing: 'Failed WrongPool' },
  },
  {
    ways: [
      'the target pool is exported, and Mayastor has no other for the replica yet',
      'the target pool is Faulted, and what is on it is lost or stands still',
    ],
    outcomes: {
      adding: 'Aborted NoFreeTargetNode',
      rebuilding: 'Aborted TargetLost',
      synced: 'Aborted TargetLost',
      removing: 'Failed WrongPool',
    },
  },
  {
    ways: ['the target pool is away for less than the migration timeout, and back with what was on it'],
    outcomes: { adding: 'Aborted NoFreeTargetNode', rebuilding: 'goes on', synced: 'goes on', removing: 'forward' },
  },
  {
    ways: ['Mayastor replaces more than three replicas of the volume during the move'],
    outcomes: { rebuilding: 'is Held', synced: 'is Held', removing: 'is Held' },
  },
  {
    ways: ['the only pool it could go to is filling up'],
    outcomes: {
      adding: 'Aborted NoFreeTargetNode',
      rebuilding: 'Aborted TargetFilling',
      synced: 'goes on',
      removing: 'forward',
    },
  },
  {
    ways: ['the source is lost'],
    outcomes: { adding: 'Aborted VolumeNotHealthy', rebuilding: 'follows', synced: 'follows', removing: 'forward' },
  },
  {
    ways: ['another original replica is lost and replaced'],
    outcomes: { adding: 'Aborted VolumeNotHealthy', rebuilding: 'follows', synced: 'follows', removing: 'forward' },
  },
  {
    ways: ['the volume is unpublished'],
    outcomes: { adding: 'Aborted Unpublished', rebuilding: 'rests', synced: 'rests', removing: 'rests' },
  },
  {
    ways: ['the volume is resized'],
    outcomes: { adding: 'goes on', rebuilding: 'goes on', synced: 'goes on', removing: 'forward' },
  },
  {
    ways: ['a snapshot is taken (which Mayastor refuses while it rebuilds)'],
    outcomes: {
      adding: 'Aborted Snapshots',
      rebuilding: 'goes on',
      synced: 'Aborted SnapshotsChanged',
      removing: 'forward',
    },
  },
  {
    ways: ['the volume is deleted'],
    outcomes: {
      adding: 'Aborted VolumeGone',
      rebuilding: 'Aborted VolumeGone',
      synced: 'Aborted VolumeGone',
      removing: 'Aborted VolumeGone',
    },
  },
  {
    ways: ['a person raises the count (which Mayastor refuses while it rebuilds)'],
    outcomes: {
      adding: 'Aborted VolumeNotHealthy',
      rebuilding: 'goes on',
      synced: 'Failed CountChanged',
      removing: 'Failed CountChanged',
    },
  },
  {
    ways: ['a person lowers the count'],
    outcomes: {
      adding: 'Aborted PlacementChanged',
      rebuilding: 'Aborted CountChanged',
      synced: 'as it falls',
      removing: 'Completed AllReplicasMoved',
    },
  },
  {
    ways: ['another node of the volume is cordoned', 'it is drained'],
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
