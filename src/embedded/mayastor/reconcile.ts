import { failure } from './failure.js'
import type { Child, Cluster, Replica, Volume } from './model.js'
import { attachChild, createNexus, onlineChild, shutdownNexus } from './nexus.js'
import type { Operation, Operations, Steps } from './operations.js'
import { removalCandidate } from './removal.js'
import { createReplica, destroyReplica, disownReplica } from './replicas.js'
import { endUpdate, removeReplica, startUpdate } from './set-replica.js'
import { isReportedOnline, reportedNexus, volumeStatus } from './view.js'

/** Leftovers are looked at in every fifth round only. */
const GARBAGE_ROUNDS = 5
/** An event (a node came back, a degraded volume was published) is acted on this soon. */
const TRIGGER_MS = 1_000

/** The core's own hand: in rounds it repairs volumes (hot-spare) and clears leftovers, whoever else is at work. */
export class Reconciler {
  readonly #cluster: Cluster
  readonly #operations: Operations
  #cancel = () => {}
  #nextAt = Number.POSITIVE_INFINITY
  #rounds = 0

  constructor(cluster: Cluster, operations: Operations) {
    this.#cluster = cluster
    this.#operations = operations
  }

  start(): void {
    this.#schedule(this.#cluster.settings.reconcileIdleMs)
  }

  stop(): void {
    this.#cancel()
    this.#nextAt = Number.POSITIVE_INFINITY
  }

  trigger(): void {
    if (this.#nextAt === Number.POSITIVE_INFINITY) return
    if (this.#nextAt > this.#cluster.clock.now() + TRIGGER_MS) this.#schedule(TRIGGER_MS)
  }

  #schedule(ms: number): void {
    const { clock } = this.#cluster
    this.#cancel()
    this.#nextAt = clock.now() + ms
    this.#cancel = clock.after(ms, () => {
      const busy = this.#round()
      this.#schedule(busy ? this.#cluster.settings.reconcileBusyMs : this.#cluster.settings.reconcileIdleMs)
    })
  }

  /** Whether there is more to do soon. */
  #round(): boolean {
    let busy = false
    for (const volume of this.#cluster.volumes.values()) {
      if (isSettled(this.#cluster, volume)) continue
      busy = true
      if (this.#operations.isLocked(volume)) continue
      this.#operations.start('reconcile', volume.uuid, 'hot-spare', (operation) =>
        reconcileVolume(this.#cluster, this.#operations, operation, volume),
      )
    }
    if (this.#drainNodes()) busy = true
    this.#rounds++
    if (this.#rounds % GARBAGE_ROUNDS === 0) this.#collectGarbage()
    return busy
  }

  #collectGarbage(): void {
    for (const replica of [...this.#cluster.replicas.values()]) {
      const left = replica.owner === undefined && replica.nexusOwner === undefined
      if (left && isReportedOnline(replica)) destroyReplica(this.#cluster, replica, 'garbage')
    }
  }

  /** Draining moves the targets away, one volume at a time, and leaves the replicas where they are. */
  #drainNodes(): boolean {
    for (const node of this.#cluster.nodes.values()) {
      if (node.drainLabels.size === 0) continue
      for (const nexus of node.nexuses) {
        const { volume } = nexus
        if (this.#operations.isLocked(volume)) continue
        shutdownNexus(this.#cluster, volume, 'core')
        createNexus(this.#cluster, volume, undefined, 'core')
        return true
      }
    }
    return false
  }
}

function isSettled(cluster: Cluster, volume: Volume): boolean {
  if (volume.replicas.size !== volume.numReplicas) return false
  return volumeStatus(cluster, volume) === 'Online'
}

/** One look at one volume. What it may do depends on the volume's status, and all of it needs `self_heal`. */
function* reconcileVolume(cluster: Cluster, operations: Operations, operation: Operation, volume: Volume): Steps {
  if (!operations.tryLock(operation, volume)) return undefined
  try {
    const status = volumeStatus(cluster, volume)
    if (volume.target !== undefined && recreateNexus(cluster, volume)) return undefined
    if (!volume.selfHeal || status === 'Faulted') return undefined
    if (status === 'Degraded' || status === 'Unknown') {
      const replaced = yield* faultedChildren(cluster, volume)
      if (replaced !== undefined) return replaced
    }
    yield* replicaCount(cluster, volume)
    if (status === 'Degraded' || status === 'Unknown') yield* nexusCount(cluster, volume)
    return undefined
  } finally {
    operations.unlock(operation)
  }
}

/** A target whose nexus is gone from a node that is there, or has no healthy child left although there is one again. */
function recreateNexus(cluster: Cluster, volume: Volume): boolean {
  const { target } = volume
  const node = target && cluster.nodes.get(target.node)
  if (node === undefined || node.reportedStatus !== 'Online' || !node.online) return false
  const reported = reportedNexus(cluster, volume)
  if (reported !== undefined && reported.state !== 'Faulted') return false
  if (![...volume.replicas].some((r) => r.healthyRecorded && isReportedOnline(r) && r.node.online)) return false
  if (volume.nexus !== undefined) {
    shutdownNexus(cluster, volume, 'core')
    if (volume.nexusInfo !== undefined) volume.nexusInfo.cleanShutdown = false
  }
  createNexus(cluster, volume, node, 'core', volume.target?.nexus)
  return true
}

/**
 * A child that was synced before it faulted is waited for; back in time it is rebuilt partially. Otherwise its replica
 * is given up, and the count below makes a new one, with a new uuid, on any eligible pool.
 */
function* faultedChildren(cluster: Cluster, volume: Volume): Steps {
  const reported = reportedNexus(cluster, volume)
  for (const { replica, state } of reported?.children ?? []) {
    const nexus = volume.nexus
    const child = nexus?.childOf(replica)
    if (state !== 'Faulted' || nexus === undefined || child?.state !== 'Faulted') continue
    if (!nexus.children.some((other) => other.state === 'Online')) continue
    const waited = cluster.clock.now() - (child.faultedAt ?? 0)
    if (isWorthWaiting(child) && waited < cluster.settings.faultedChildWaitMs) {
      if (isReportedOnline(replica) && replica.node.online) onlineChild(cluster, nexus, child)
      continue
    }
    const failed = yield* removeReplica(cluster, volume, replica, 'hot-spare')
    if (failed !== undefined) return failed
  }
  return undefined
}

function isWorthWaiting(child: Child): boolean {
  return child.wasSynced && child.reason === undefined
}

/** Creates what is missing, or removes one of what is too many with the order and the guards of a decrease. */
function* replicaCount(cluster: Cluster, volume: Volume): Steps {
  while (volume.replicas.size < volume.numReplicas) {
    yield { step: 'create replica' }
    const failed = yield* createReplica(cluster, volume, 'hot-spare', () => {})
    if (failed !== undefined) return failed
  }
  if (volume.replicas.size > volume.numReplicas) {
    const victim = removalCandidate(cluster, volume, volume.numReplicas)
    if (victim === undefined) return undefined
    startUpdate(cluster, volume, 'RemoveUnusedReplica', 'hot-spare')
    const failed = yield* removeReplica(cluster, volume, victim, 'hot-spare')
    endUpdate(cluster, volume, 'hot-spare', failed)
    return failed
  }
  return undefined
}

/** Attaches the volume's replicas that are not in its nexus, each with a full rebuild. */
function* nexusCount(cluster: Cluster, volume: Volume): Steps {
  for (const replica of [...volume.replicas]) {
    const { nexus } = volume
    if (nexus === undefined) return undefined
    if (nexus.childOf(replica) !== undefined || !isReportedOnline(replica)) continue
    if (nexus.children.length >= volume.numReplicas) return undefined
    if (lacksSpace(replica, nexus.children)) {
      // Where the rebuild would not fit, the replica is given up and made again elsewhere.
      disownReplica(cluster, replica, 'hot-spare')
      yield { step: 'destroy replica' }
      destroyReplica(cluster, replica, 'hot-spare')
      continue
    }
    yield { step: 'attach replica' }
    if (volume.nexus === nexus && volume.replicas.has(replica)) attachChild(cluster, volume, replica, 'hot-spare')
  }
  return undefined
}

function lacksSpace(replica: Replica, children: readonly Child[]): boolean {
  if (!replica.thin) return false
  const missing = Math.max(0, ...children.map((c) => c.replica.dataBytes)) - replica.allocatedBytes
  return replica.pool.freeBytes < missing
}

/** What a restarted core finds in etcd: an operation without a result counts as failed and is dropped. */
export function restart(cluster: Cluster, operations: Operations): void {
  operations.drop(failure('Unavailable', 'Unavailable', 'The core agent is not available'))
  for (const volume of cluster.volumes.values()) {
    if (volume.operation !== undefined) {
      endUpdate(cluster, volume, 'core', failure('Aborted', 'Aborted', 'dropped at restart'))
    }
  }
  for (const replica of cluster.replicas.values()) {
    if (replica.owner === undefined) replica.nexusOwner = undefined
  }
  cluster.emit('core-restarted', {})
}
