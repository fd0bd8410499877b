import type { Actor } from './event.js'
import { failure, precondition } from './failure.js'
import type { Cluster, Replica, Volume } from './model.js'
import { removeChild } from './nexus.js'
import type { Steps } from './operations.js'
import { destroyReplica, disownReplica } from './replicas.js'
import { completeUpdate, notPersisted, persist, startUpdate } from './store.js'

/** Out of the target, out of the volume, off the disk. A failure leaves what was done done. */
export function* removeReplica(cluster: Cluster, volume: Volume, victim: Replica, by: Actor): Steps {
  cluster.emit('removal-chosen', { volume: volume.uuid, replica: victim.uuid, node: victim.node.id, by })
  if (volume.target?.children.has(victim)) {
    yield { step: 'remove child' }
    const refused = removeChild(cluster, volume, victim, by)
    if (refused !== undefined) return refused
  }
  yield { step: 'disown replica' }
  // Whether or not that is recorded, the core itself has let go of it.
  const recorded = persist(cluster, volume)
  disownReplica(cluster, victim, by)
  if (volume.move?.moving === victim) endMove(volume)
  if (!recorded) return notPersisted
  yield { step: 'destroy replica' }
  return destroyReplica(cluster, victim, by)
}

function endMove(volume: Volume): void {
  if (volume.move === undefined) return
  volume.move.moving = undefined
  volume.move.wantsSpare = false
}

/**
 * Removes a replica that is not used by the target, as an operation of its own: let go of first, destroyed if that is
 * possible now and otherwise left to the garbage collector.
 */
export function* removeUnused(cluster: Cluster, volume: Volume, victim: Replica, by: Actor): Steps {
  const { uuid } = volume
  const refused = startUpdate(cluster, volume, 'RemoveUnusedReplica', by, () => {
    if (volume.replicas.size <= 1) return precondition('LastReplica', `Cannot remove the last replica '${victim.uuid}'`)
    if (volume.target?.children.has(victim)) {
      return failure('InUse', 'InUse', `Replica resource id ${victim.uuid} is still in use`, `id: ${victim.uuid}`)
    }
    return isLastHealthy(volume, victim)
      ? precondition('LastHealthyReplica', `Cannot remove the last healthy replica '${victim.uuid}' of '${uuid}'`)
      : undefined
  })
  if (refused !== undefined) return refused
  cluster.emit('removal-chosen', { volume: uuid, replica: victim.uuid, node: victim.node.id, by })
  yield { step: 'disown replica' }
  disownReplica(cluster, victim, by)
  yield { step: 'destroy replica' }
  destroyReplica(cluster, victim, by)
  return completeUpdate(cluster, volume, by, undefined)
}

function isLastHealthy({ nexusInfo }: Volume, replica: Replica): boolean {
  if (nexusInfo?.healthy.get(replica.uuid) !== true) return false
  return [...nexusInfo.healthy].every(([uuid, healthy]) => uuid === replica.uuid || !healthy)
}
