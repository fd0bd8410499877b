import type { MayastorReplica, MayastorVolume } from '../api/mayastor.js'
import type { MigrationReason } from '../api/reasons.js'
import { countChanged } from './finish.js'
import type { Journal } from './journal.js'
import { isFilling } from './preconditions.js'
import { adopt, find, missing, strangers } from './replicas.js'
import { CANCELS, note, rest, type Situation, type Step, WATCH, wait } from './step.js'

const SECOND_MS = 1000
/** Between the two readings that show a replica synced: Mayastor's state may be 30 s old. */
export const CONFIRM_MS = 30 * SECOND_MS

/** WaitingSync: the added replica is rebuilt, and seen synced twice; nothing is written to Mayastor. */
export function waitingSync(journal: Journal, volume: MayastorVolume, s: Situation): Step {
  const { now } = s
  const { move } = journal
  if (volume.numReplicas !== journal.count + 1) return countChanged(journal, volume, s)
  const added = find(volume, move.added)
  const lost = missing(journal, volume)
  const alone = strangers(journal, volume).length === 0
  if (added !== undefined && alone && lost.length === 1 && lost[0]?.replica === move.replica) {
    // The old replica left by itself: once the others are synced only the count is left to lower. What Mayastor makes in
    // its place until then is what has to go.
    return note({ ...journal, phase: 'ScalingDown', victim: move.replica })
  }
  if (added === undefined || lost.length > 0) {
    const adopted = adopt(journal, volume, s)
    if (adopted !== undefined) return adopted
    return added === undefined && alone
      ? undo(journal, undefined, 'TargetLost', 'the added replica is gone')
      : rest(journal, 'ReplicasMissing', 'replicas are missing; Mayastor is replacing them')
  }
  if (added.pool !== undefined && added.pool !== move.targetPool) {
    return undo(journal, added, 'WrongPool', `Mayastor placed the replica on ${added.pool}`)
  }
  if (volume.snapshots !== journal.snapshots) return undo(journal, added, 'SnapshotsChanged', SNAPSHOTS_CHANGED)
  if (!volume.published) return rest(journal, 'Unpublished', 'the volume is not published, so nothing is rebuilt')
  if (added.synced) return confirmSync(journal, volume, s)
  if (journal.reading !== undefined) return note(unread(journal, now))
  const trouble = rebuildTrouble(journal, added, s)
  if (trouble !== undefined) return undo(journal, added, trouble.reason, trouble.message)
  const percent = added.rebuildPercent ?? 0
  if (percent > journal.progress.percent) return note({ ...journal, progress: { percent, at: now } })
  return wait(journal, 'Rebuilding', `the replica on ${move.targetPool} is being rebuilt`, WATCH)
}

export const SNAPSHOTS_CHANGED = 'a snapshot was taken or removed since the migration began'

/** Why a rebuild that has not finished is to be undone. */
function rebuildTrouble(
  journal: Journal,
  added: MayastorReplica,
  { now, view, cancel }: Situation,
): { reason: MigrationReason; message: string } | undefined {
  const { move, timeoutMs, hardTimeoutMs, progress } = journal
  if (cancel) return { reason: cancel, message: `${CANCELS[cancel]} while the replica was being rebuilt` }
  const pool = view.pools.get(move.targetPool)
  if (added.childReason === 'OutOfSpace' || (pool !== undefined && isFilling(pool))) {
    return { reason: 'TargetFilling', message: `pool ${move.targetPool} ran below half of its reserve` }
  }
  const isStill = (added.rebuildPercent ?? 0) <= progress.percent
  if (isStill && now - progress.at > timeoutMs) {
    const message = `no progress for ${timeoutMs / 60_000} minutes`
    if (pool?.status === 'Online') return { reason: 'NoProgress', message }
    return { reason: 'TargetLost', message: `${message}, and pool ${move.targetPool} is ${pool?.status ?? 'gone'}` }
  }
  if (hardTimeoutMs !== undefined && now - move.startedAt > hardTimeoutMs) {
    return { reason: 'HardTimeout', message: `the move took longer than ${hardTimeoutMs / 60_000} minutes` }
  }
  return undefined
}

/** Synced as often as it takes: then the old replica goes, or is kept beside the new one. */
function confirmSync(journal: Journal, volume: MayastorVolume, s: Situation): Step {
  const step = confirmation(journal, volume, s)
  if (step !== undefined) return step
  if (s.preservationMode && !s.finalizing && !journal.pairOver) {
    const replicasTotal = journal.replicasMoved + 1
    return note({ ...journal, phase: 'Preserved', queue: [], replicasTotal })
  }
  return note({ ...journal, phase: 'ScalingDown', victim: journal.move.replica })
}

/** What is still to be seen until all that will stay were synced in two readings of one target, at least 30 s apart. */
export function confirmation(journal: Journal, volume: MayastorVolume, s: Situation): Step | undefined {
  const { now, readingAgeMs } = s
  const nexus = volume.target?.nexus ?? ''
  const { reading, move, victim = move.replica } = journal
  const unsynced = volume.replicas.find((replica) => replica.uuid !== victim && !replica.synced)
  if (unsynced !== undefined) {
    return reading === undefined
      ? rest(journal, 'ReplicasNotSynced', `replica ${unsynced.uuid} is not synced`)
      : note(unread(journal, now))
  }
  if (reading === undefined || reading.nexus !== nexus) {
    return note({ ...journal, progress: { percent: 100, at: now }, reading: { at: now, nexus } })
  }
  const left = CONFIRM_MS - readingAgeMs
  if (left <= 0) return undefined
  const message = 'the replicas that stay are synced; a second reading will confirm it'
  return wait(journal, 'ConfirmingSync', message, Math.ceil(left / SECOND_MS))
}

/** Without the first reading, which does not hold; a rebuild that has to begin again has the whole timeout. */
export function unread({ reading: _, ...journal }: Journal, now: number): Journal {
  return { ...journal, progress: { percent: 0, at: now } }
}

/** The added replica is to go again; undefined: it is gone, and only the count is to be lowered. */
export function undo(
  journal: Journal,
  added: MayastorReplica | undefined,
  reason: MigrationReason,
  message: string,
): Step {
  const { victim: _, reading: __, ...rest } = journal
  const victim = added === undefined ? {} : { victim: added.uuid }
  return note({ ...rest, ...victim, phase: 'ScalingDown', undo: { phase: 'Aborted', reason, message } })
}
