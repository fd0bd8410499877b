import { healTarget, hotSpare, isSettled } from './hot-spare.js'
import type { Cluster, Node, Replica, Volume } from './model.js'
import { destroyNexus } from './nexus.js'
import { groupLock, type Operation, type Operations, type Steps, volumeLock } from './operations.js'
import { moveOutOfSpace } from './out-of-space.js'
import { drainPools } from './pool-drain.js'
import { destroyReplica, disownReplica } from './replicas.js'
import { flush, forgetOutcome } from './store.js'
import { isReportedOnline, volumeStatus } from './view.js'
import { destroy, republish } from './workload.js'

/** Leftovers are looked at in every fifth round only. */
const GARBAGE_ROUNDS = 5

/**
 * The core's own hand: round after round it looks at everything there is, one thing after the other, whoever else is at
 * work, and passes over what somebody else holds. The next round follows soon while there is more to do.
 */
export class Reconciler {
  readonly #cluster: Cluster
  readonly #operations: Operations
  #cancel = () => {}
  #stopped = true
  #running = false
  #triggered = false
  #busy = false
  #rounds = 0

  constructor(cluster: Cluster, operations: Operations) {
    this.#cluster = cluster
    this.#operations = operations
  }

  start(): void {
    this.#stopped = false
    this.#running = false
    this.#schedule(this.#cluster.settings.reconcileIdleMs)
  }

  stop(): void {
    this.#stopped = true
    this.#cancel()
  }

  /** Something happened that does not wait for the next round: it follows at once. */
  trigger(): void {
    if (this.#stopped) return
    this.#triggered = true
    if (!this.#running) this.#schedule(0)
  }

  #schedule(ms: number): void {
    this.#cancel()
    this.#cancel = this.#cluster.after(ms, () => this.#round())
  }

  #round(): void {
    this.#running = true
    this.#triggered = false
    this.#busy = false
    this.#rounds++
    this.#operations.start('reconcile', undefined, 'hot-spare', (operation) => this.#steps(operation))
  }

  *#steps(operation: Operation): Steps {
    const cluster = this.#cluster
    const busy = () => {
      this.#busy = true
    }
    const collects = this.#rounds % GARBAGE_ROUNDS === 0
    const unsettled = [...cluster.volumes.values()].filter((volume) => !isSettled(cluster, volume))
    for (const volume of unsettled) {
      if (!this.#operations.isLocked(volumeLock(volume)) && !flush(cluster, volume)) busy()
    }
    yield* moveOutOfSpace(cluster, this.#operations, operation)
    yield* this.#each(operation, unsettled, (volume) => hotSpare(cluster, volume, busy))
    if (collects) yield* this.#each(operation, unsettled, (volume) => collectVolume(cluster, volume))
    yield* this.#each(operation, unsettled, (volume) => healTarget(cluster, volume))
    if (collects) collectReplicas(cluster)
    for (const node of cluster.nodes.values()) yield* this.#drainNode(operation, node)
    drainPools(cluster, this.#operations, busy)
    this.#running = false
    if (this.#triggered) this.#schedule(0)
    else this.#schedule(this.#busy ? cluster.settings.reconcileBusyMs : cluster.settings.reconcileIdleMs)
    return undefined
  }

  /** One after the other in some order; what another operation holds is left for the next round. */
  *#each(operation: Operation, volumes: readonly Volume[], look: (volume: Volume) => Steps): Steps {
    for (const volume of this.#cluster.inAnyOrder('reconcile-volume', volumes)) {
      if (this.#cluster.volumes.get(volume.uuid) !== volume) continue
      const key = volumeLock(volume)
      if (!this.#operations.tryLock(operation, key)) {
        this.#busy = true
        continue
      }
      try {
        yield* look(volume)
      } finally {
        this.#operations.unlock(operation, key)
      }
    }
    return undefined
  }

  /** Moves the targets away and leaves the replicas where they are. A single replica keeps its local target. */
  *#drainNode(operation: Operation, node: Node): Steps {
    if (node.drainLabels.size === 0 || node.drained) return undefined
    let failed = false
    const onNode = (volume: Volume) => volume.target?.node === node.id && volume.life === 'Created'
    const volumes = [...this.#cluster.volumes.values()].filter(onNode)
    for (const volume of this.#cluster.inAnyOrder('reconcile-volume', volumes)) {
      const own = volume.numReplicas === 1 ? [...volume.replicas].at(-1)?.node : undefined
      if (own === node) continue
      const key = volumeLock(volume)
      if (!onNode(volume) || !this.#operations.tryLock(operation, key)) {
        failed = true
        continue
      }
      try {
        const refused = yield* this.#operations.holding(operation, groupLock(volume), () =>
          republish(this.#cluster, volume, 'core', own?.id),
        )
        if (refused !== undefined) failed = true
      } finally {
        this.#operations.unlock(operation, key)
      }
    }
    if (failed || node.drainLabels.size === 0) return undefined
    node.drained = true
    this.#cluster.emit('node-drained', { node: node.id })
    return undefined
  }
}

/** What is being deleted is deleted, and what belongs to a volume without being of use to it any more is let go. */
function* collectVolume(cluster: Cluster, volume: Volume): Steps {
  if (volume.life === 'Deleting') return yield* destroy(cluster, volume, 'garbage')
  if (volume.nexus !== undefined && volume.nexus.uuid !== volume.target?.nexus && volume.operation === undefined) {
    destroyNexus(cluster, volume, 'garbage')
  }
  const status = volumeStatus(cluster, volume)
  if (volume.target === undefined || volume.target.down || status === 'Faulted' || status === 'Unknown')
    return undefined
  for (const replica of [...volume.replicas]) {
    if (isUseless(volume, replica)) disownReplica(cluster, replica, 'garbage')
  }
  return undefined
}

/** Out of the target, not recorded as healthy, and either not heard of or left behind with an old target. */
function isUseless(volume: Volume, replica: Replica): boolean {
  if (volume.target?.children.has(replica) || replica.healthyRecorded) return false
  const stranded = volume.abandoned.find((target) => target.children.has(replica) && target.node === replica.node.id)
  if (stranded !== undefined) return replica.nexusOwner === undefined || replica.nexusOwner === stranded.nexus
  return !isReportedOnline(replica) && replica.nexusOwner === undefined
}

function collectReplicas(cluster: Cluster): void {
  for (const replica of [...cluster.replicas.values()]) {
    const isLeft = replica.owner === undefined || replica.life === 'Deleting'
    if (!isLeft || replica.nexusOwner !== undefined) continue
    disownReplica(cluster, replica, 'garbage')
    if (replica.pool.node.reportedStatus === 'Online') destroyReplica(cluster, replica, 'garbage')
  }
}

/** What a restarted core finds in etcd: an operation without a result, which counts as failed at its first look. */
export function restart(cluster: Cluster): void {
  for (const volume of cluster.volumes.values()) forgetOutcome(volume)
  for (const replica of cluster.replicas.values()) {
    const { owner } = replica
    replica.nexusOwner = owner?.target?.children.has(replica) ? owner.target.nexus : undefined
    if (replica.life === 'Creating') replica.life = 'Deleting'
  }
  cluster.emit('core-restarted', {})
}
