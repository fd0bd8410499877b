import type { MayastorVolume } from '../api/mayastor.js'
import { ordinalOf } from '../plan/migration-id.js'
import { unread } from './await-sync.js'
import { countChanged } from './finish.js'
import type { Journal } from './journal.js'
import { adopt } from './replicas.js'
import { note, type Situation, type Step } from './step.js'

/** Preserved: the old replica stays beside the new one, until the mode is left or the volume is to move back. */
export function preserved(journal: Journal, volume: MayastorVolume, s: Situation): Step {
  const { migration, now, preservationMode } = s
  const { move, count, direction } = journal
  if (volume.numReplicas !== count + 1) return countChanged(journal, volume, s)
  const adopted = adopt(journal, volume, s)
  if (adopted !== undefined) return adopted
  const later = migration !== undefined && ordinalOf(migration.id) > ordinalOf(journal.id)
  if (later && migration.direction !== direction) {
    const { reading: _, ...pair } = journal
    const back = { ...pair, id: migration.id, direction: migration.direction, startedAt: now }
    const message = 'the extra replica was removed'
    return note({
      ...back,
      phase: 'ScalingDown',
      ...(move.added === undefined ? {} : { victim: move.added }),
      undo: { phase: 'Completed', reason: 'AllReplicasMoved', message },
    })
  }
  const isKept = preservationMode && !s.finalizing && s.cancel !== 'Abandoned'
  return isKept ? { kind: 'rest' } : note(leavePair(journal, now))
}

/** The pair is kept no longer. The readings are as old as the pair: all that stay are confirmed anew. */
export function leavePair(journal: Journal, now: number): Journal {
  const move = { ...journal.move, startedAt: now }
  return { ...unread(journal, now), phase: 'WaitingSync', pairOver: true, move }
}
