import type { MayastorVolume } from '../api/mayastor.js'
import { ordinalOf } from '../plan/migration-id.js'
import { countChanged } from './finish.js'
import type { Journal } from './journal.js'
import { adopt, find } from './replicas.js'
import { note, rest, type Situation, type Step } from './step.js'

/** Preserved: the old replica stays beside the new one, until the mode is left or the volume is to move back. */
export function preserved(journal: Journal, volume: MayastorVolume, s: Situation): Step {
  const { migration, now, preservationMode } = s
  const { move, count, direction } = journal
  if (volume.numReplicas !== count + 1) return countChanged(journal, volume, s)
  const adopted = adopt(journal, volume, s)
  if (adopted !== undefined) return adopted
  const later = migration !== undefined && ordinalOf(migration.id) > ordinalOf(journal.id)
  if (later && migration.direction !== direction) {
    const back = { ...journal, id: migration.id, direction: migration.direction, startedAt: now }
    const message = 'the extra replica was removed'
    return note({
      ...back,
      phase: 'ScalingDown',
      ...(move.added === undefined ? {} : { victim: move.added }),
      undo: { phase: 'Completed', reason: 'AllReplicasMoved', message },
    })
  }
  if (preservationMode && !s.finalizing) return { kind: 'rest' }
  if (find(volume, move.added) === undefined)
    return rest(journal, 'ReplicasMissing', 'Mayastor is replacing the added replica')
  return note({ ...journal, phase: 'ScalingDown', victim: move.replica })
}
