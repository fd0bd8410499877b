import type { MayastorVolume } from '../api/mayastor.js'
import type { MigrationReason } from '../api/reasons.js'
import { allMoved, nextMove } from './admission.js'
import { closeBracket } from './bracket.js'
import type { Journal } from './journal.js'
import { isOpen } from './preconditions.js'
import { find, missing } from './replicas.js'
import { end, rest, type Situation, type Step } from './step.js'

/** How a move ends: what is there decides, not what was meant. */

/** The count is as wanted, and so is the number of replicas. */
export function finishMove(journal: Journal, volume: MayastorVolume, s: Situation): Step {
  const { now, cancel } = s
  const { undo, move, queue } = journal
  const [added, source] = [find(volume, move.added), find(volume, move.replica)]
  if (added !== undefined && source === undefined) {
    if (added.pool !== undefined && added.pool !== move.targetPool) {
      return end(journal, now, 'Failed', 'WrongPool', `Mayastor replaced the added replica by one on ${added.pool}`)
    }
    const moved = { ...journal, replicasMoved: journal.replicasMoved + 1 }
    if (queue.length === 0) return allMoved(moved, now)
    if (undo !== undefined || cancel) {
      const reason = (undo?.reason ?? cancel ?? 'Cancelled') as MigrationReason
      return end(moved, now, 'Aborted', reason, 'replicas already moved stay moved')
    }
    return nextMove(moved, volume, s)
  }
  if (added === undefined && undo !== undefined) {
    return end(journal, now, undo.phase, undo.reason as MigrationReason, undo.message)
  }
  if (journal.removalSentAt === undefined) {
    const phase = added === undefined ? 'Aborted' : 'Failed'
    return end(journal, now, phase, 'CountChanged', 'the replica count was lowered by somebody else')
  }
  const explained = explanation(journal, volume, s)
  return explained === undefined
    ? end(journal, now, 'Failed', 'WrongRemoval', 'Mayastor removed another replica than the one asked for')
    : end(journal, now, 'Failed', 'OtherReplicaLost', `another replica left in its place: ${explained}`)
}

/** What, since the last check, may have made Mayastor remove another replica than the one that was marked. */
function explanation(journal: Journal, volume: MayastorVolume, { view }: Situation): string | undefined {
  const { move, reading } = journal
  const added = { replica: move.added, pool: move.targetPool, node: move.targetNode }
  const gone = [...missing(journal, volume), ...(find(volume, move.added) === undefined ? [added] : [])]
  for (const { pool, node } of gone) {
    if (!isOpen(view.nodes.get(node))) return `node ${node} is cordoned, draining or offline`
    if (view.pools.get(pool)?.status !== 'Online') return `pool ${pool} is not Online`
  }
  const { target } = volume
  if (reading !== undefined && target?.nexus !== reading.nexus) return 'the target of the volume has moved'
  const unsynced = volume.replicas.find((replica) => !replica.synced)
  return unsynced === undefined ? undefined : `replica ${unsynced.uuid} is not synced`
}

/** A person's count wins; what is there then decides. */
export function countChanged(journal: Journal, volume: MayastorVolume, s: Situation): Step {
  const { numReplicas, replicas } = volume
  const closing = closeBracket(s)
  if (closing !== undefined) return closing
  if (replicas.length > numReplicas) {
    return rest(journal, 'CountChanged', 'somebody lowered the replica count; Mayastor is removing the surplus')
  }
  const { added, replica: source } = journal.move
  const [here, left] = [find(volume, added) !== undefined, find(volume, source) === undefined]
  // Once the count was lowered this replica is moved, whatever a person makes of the count afterwards.
  const isMoved = here && left && (numReplicas <= journal.count || journal.confirmedCount === journal.count)
  if (isMoved) return finishMove(journal, volume, s)
  const message = `the replica count was changed to ${numReplicas} by somebody else`
  return end(journal, s.now, here ? 'Failed' : 'Aborted', 'CountChanged', message)
}
