import type { Actor } from './event.js'
import { engineFailure, type Failure, failure, notFound, precondition } from './failure.js'
import { Child, type ChildReason, type Cluster, Nexus, type Node, type Replica, type Volume } from './model.js'
import { canRebuildSnapshots, groupOf } from './placement.js'
import { endRebuild, reportedRebuilds, startRebuild } from './rebuild.js'
import { unreachable } from './replicas.js'
import { isReportedOnline, reportNexus, reportNode } from './view.js'

// What the io-engine does with nexuses and their children, including what it writes to etcd by itself (NexusInfo), and
// the core's calls that make it do so.

/**
 * The replicas a new nexus is built from: those recorded as healthy and heard of, one a node and not more than wanted;
 * after an unclean shutdown only one, since nobody knows which of them got the last writes.
 */
function sources(cluster: Cluster, volume: Volume, node: Node): Replica[] {
  const healthy = [...volume.replicas].filter(
    (r) => r.healthyRecorded && isReportedOnline(r) && !isStranded(volume, r) && r.sizeBytes >= volume.sizeBytes,
  )
  const localFirst = (r: Replica) => (r.node === node ? 0 : 1)
  if (volume.nexusInfo !== undefined && !volume.nexusInfo.cleanShutdown) {
    const one = cluster.best('nexus-source', healthy, localFirst)
    return one === undefined ? [] : [one]
  }
  const nodes = new Set<Node>()
  const spread: Replica[] = []
  for (const replica of healthy.sort((a, b) => localFirst(a) - localFirst(b))) {
    if (nodes.has(replica.node)) continue
    nodes.add(replica.node)
    spread.push(replica)
  }
  return spread.slice(0, volume.numReplicas)
}

/** Part of a target that was left behind on its node: nobody can take it away from there. */
export function isStranded(volume: Volume, replica: Replica): boolean {
  return volume.abandoned.some((target) => target.node === replica.node.id && target.children.has(replica))
}

/**
 * Where a target goes when nobody says: to the replica's node if there is one only, else to a node with few targets,
 * in a group first with few of the group's; in any case away from where it is.
 */
export function targetNode(cluster: Cluster, volume: Volume, preferred?: string): Node | undefined {
  const left = new Set([volume.target?.node, ...volume.abandoned.map((target) => target.node)])
  const usable = [...cluster.nodes.values()].filter(
    (node) => node.reportedStatus === 'Online' && !node.cordoned && !left.has(node.id),
  )
  if (volume.numReplicas === 1) {
    const own = [...volume.replicas].at(-1)?.node
    if (own !== undefined && usable.includes(own)) return own
  }
  const group = groupOf(cluster, volume)
  return cluster.best(
    'target-node',
    usable,
    (node) => group.filter((other) => other.target?.node === node.id).length,
    (node) => (node.id === preferred ? 0 : 1),
    (node) => node.reportedNexuses.size,
  )
}

export const noNode: Failure = failure(
  'ResourceExhausted',
  'NotEnoughResources',
  'Not enough resources available',
  'Not enough suitable nodes available, 0/1',
)

/** Creates the volume's nexus. `uuid` is that of its target, where one that was lost is created again. */
export function createNexus(
  cluster: Cluster,
  volume: Volume,
  node: Node,
  by: Actor,
  uuid: string,
): Failure | undefined {
  if (!node.online) return unreachable(node)
  if (volume.nexus !== undefined) return engineFailure('AlreadyExists', 'create_nexus', `nexus '${volume.uuid}' exists`)
  const replicas = sources(cluster, volume, node)
  if (replicas.length === 0) {
    return precondition('NoOnlineReplicas', `No online replicas are available for Volume '${volume.uuid}'`)
  }
  // All children have to open, or there is no nexus.
  const missing = replicas.find((replica) => !replica.reachable)
  if (missing !== undefined) {
    return engineFailure('Internal', 'create_nexus', `failed to open child of replica '${missing.uuid}'`)
  }
  const nexus = new Nexus(
    uuid,
    node,
    volume,
    replicas.map((replica) => new Child(replica, 'Online')),
  )
  node.nexuses.add(nexus)
  volume.nexus = nexus
  volume.nexusInfo = { cleanShutdown: false, healthy: new Map(replicas.map((r) => [r.uuid, true])) }
  for (const replica of volume.replicas) if (!replicas.includes(replica)) replica.synced = false
  for (const replica of replicas) own(replica, nexus)
  reportNexus(nexus)
  const reason = `from ${replicas.length} replicas`
  cluster.emit('nexus-created', { volume: volume.uuid, node: node.id, by, reason })
  return undefined
}

function own(replica: Replica, nexus: Nexus): void {
  replica.nexusOwner = nexus.uuid
  replica.shared = replica.node !== nexus.node
}

/** An orderly end: every child has the same data and etcd says so. The spec's target is the caller's business. */
export function destroyNexus(cluster: Cluster, volume: Volume, by: Actor): void {
  const { nexus } = volume
  if (nexus === undefined) return
  dropNexus(cluster, nexus)
  disownFromNexus(cluster, nexus.uuid)
  if (volume.nexusInfo !== undefined) volume.nexusInfo.cleanShutdown = true
  reportNexus(nexus)
  cluster.emit('nexus-shutdown', { volume: volume.uuid, node: nexus.node.id, by })
}

function dropNexus(cluster: Cluster, nexus: Nexus): void {
  for (const child of nexus.children) endRebuild(cluster, nexus, child, 'Stopped')
  nexus.node.nexuses.delete(nexus)
  nexus.volume.nexus = undefined
}

/** The record of a nexus is gone, and with it its claim to replicas, also to those that were taken out of it. */
export function disownFromNexus(cluster: Cluster, uuid: string): void {
  for (const replica of cluster.replicas.values()) if (replica.nexusOwner === uuid) replica.nexusOwner = undefined
}

/** What the core is told when it calls on a nexus that is no longer there, or on a node that is not. */
export function noNexus(cluster: Cluster, volume: Volume): Failure {
  const node = cluster.nodes.get(volume.target?.node ?? '')
  return node?.online === false ? unreachable(node) : notFound('Nexus', volume.target?.nexus ?? '')
}

/** Attaches a replica to the running nexus; its rebuild starts with that. */
export function attachChild(cluster: Cluster, volume: Volume, replica: Replica, by: Actor): Failure | undefined {
  const { nexus } = volume
  const limit = cluster.faults.rebuildLimit
  if (limit !== undefined && reportedRebuilds(cluster) >= limit) {
    const sentence = `Unable to start rebuild. Maximum number of rebuilds permitted is ${limit}`
    return failure('ResourceExhausted', 'MaxRebuilds', sentence)
  }
  if (nexus === undefined) return noNexus(cluster, volume)
  if (!replica.node.online) return unreachable(replica.node)
  if (volume.snapshots > 0 && !canRebuildSnapshots(volume)) return upgradeRequired
  if (!replica.reachable || cluster.faults.hits('attach', volume.uuid)) {
    return engineFailure('Internal', 'add_child_nexus', `failed to open child of replica '${replica.uuid}'`)
  }
  const child = new Child(replica, 'Degraded')
  nexus.children.push(child)
  volume.target?.children.add(replica)
  own(replica, nexus)
  replica.synced = false
  recordHealth(cluster, volume, replica, false)
  cluster.emit('child-added', { volume: volume.uuid, replica: replica.uuid, node: nexus.node.id, by })
  if (cluster.faults.hits('rebuild-start', volume.uuid) || !rebuildChild(cluster, nexus, child, false)) {
    faultChild(cluster, nexus, child, undefined)
  }
  reportNexus(nexus)
  return undefined
}

export const upgradeRequired: Failure = precondition(
  'UpgradeRequiredToRebuild',
  'Cannot rebuild a volume with snapshots: upgrade the io-engines first',
)

/** Brings a child in again whose replica is back: with a log of what it missed it misses only that. */
export function onlineChild(cluster: Cluster, nexus: Nexus, child: Child): boolean {
  child.state = 'Degraded'
  child.reason = undefined
  const started = child.replica.reachable && rebuildChild(cluster, nexus, child, true)
  child.hasLog = false
  if (!started) faultChild(cluster, nexus, child, undefined)
  reportNexus(nexus)
  return started
}

function rebuildChild(cluster: Cluster, nexus: Nexus, child: Child, partial: boolean): boolean {
  return startRebuild(cluster, nexus, child, partial, (outcome) => {
    if (outcome === 'out-of-space') {
      faultChild(cluster, nexus, child, cluster.choose('rebuild-fault', ['OutOfSpace', undefined]))
      return
    }
    endRebuild(cluster, nexus, child, 'Completed')
    child.state = 'Online'
    child.replica.synced = true
    // etcd learns of it a little later than anyone who asks the io-engine.
    const about = { operation: 'io-engine', step: 'record healthy', volume: nexus.volume.uuid }
    cluster.after(cluster.faults.stepMs(about) ?? cluster.settings.healthyPersistDelayMs, () => {
      if (nexus.volume.nexus !== nexus || child.state !== 'Online' || !nexus.children.includes(child)) return
      recordHealth(cluster, nexus.volume, child.replica, true)
    })
  })
}

/**
 * The io-engine closes a child it cannot write to. The last good one stays recorded as healthy: nothing is newer. What
 * a synced one misses from now on is logged, unless there is no `log` to write to.
 */
export function faultChild(
  cluster: Cluster,
  nexus: Nexus,
  child: Child,
  reason: ChildReason | undefined,
  log = true,
): void {
  if (child.state === 'Faulted') return
  const wasOnline = child.state === 'Online'
  const last = wasOnline && !nexus.children.some((other) => other !== child && other.state === 'Online')
  endRebuild(cluster, nexus, child, 'Failed')
  child.state = 'Faulted'
  child.reason = reason
  child.hasLog = wasOnline && log
  child.faultedAt = cluster.clock.now()
  const { volume } = nexus
  cluster.emit('child-faulted', {
    volume: volume.uuid,
    replica: child.replica.uuid,
    by: 'io-engine',
    ...(reason === undefined ? {} : { reason }),
  })
  if (!last) {
    child.replica.synced = false
    recordHealth(cluster, volume, child.replica, false)
  }
  // A rebuild has no way to go on from another source when its own fails.
  for (const other of nexus.children) {
    if (other.replica.rebuild?.source === child) faultChild(cluster, nexus, other, undefined)
  }
}

/**
 * Takes a replica out of the target, in the core's record too. The io-engine refuses to take the last healthy child.
 * `keepOwner`: as the route for single children does, which forgets that the nexus no longer owns the replica.
 */
export function removeChild(
  cluster: Cluster,
  volume: Volume,
  replica: Replica,
  by: Actor,
  keepOwner = false,
): Failure | undefined {
  const { nexus, target } = volume
  if (nexus === undefined) return noNexus(cluster, volume)
  if (!nexus.node.online) return unreachable(nexus.node)
  const child = nexus.childOf(replica)
  if (child !== undefined) {
    const online = nexus.children.filter((other) => other.state === 'Online')
    if (nexus.children.length === 1 || (online.length === 1 && online[0] === child)) {
      return engineFailure('FailedPrecondition', 'remove_child_nexus', 'cannot remove the last healthy child')
    }
    takeChild(cluster, nexus, child, by)
  }
  target?.children.delete(replica)
  if (!keepOwner) replica.nexusOwner = undefined
  reportNexus(nexus)
  return undefined
}

function takeChild(cluster: Cluster, nexus: Nexus, child: Child, by: Actor): void {
  const { volume } = nexus
  endRebuild(cluster, nexus, child, 'Stopped')
  nexus.children = nexus.children.filter((other) => other !== child)
  child.replica.synced = false
  volume.nexusInfo?.healthy.delete(child.replica.uuid)
  cluster.emit('child-removed', { volume: volume.uuid, replica: child.replica.uuid, node: nexus.node.id, by })
  // What was copied from it is copied again, from the beginning, from another one.
  for (const other of nexus.children) {
    if (other.replica.rebuild?.source !== child) continue
    endRebuild(cluster, nexus, other, 'Stopped')
    if (!rebuildChild(cluster, nexus, other, false)) faultChild(cluster, nexus, other, undefined)
  }
}

function recordHealth(cluster: Cluster, volume: Volume, replica: Replica, healthy: boolean): void {
  if (volume.nexusInfo === undefined) return
  volume.nexusInfo.healthy.set(replica.uuid, healthy)
  cluster.emit(healthy ? 'healthy-recorded' : 'unhealthy-recorded', {
    volume: volume.uuid,
    replica: replica.uuid,
    by: 'io-engine',
  })
}

/** The nexuses elsewhere lose a child. */
export function loseReplica(cluster: Cluster, replica: Replica): void {
  const nexus = replica.owner?.nexus
  const child = nexus?.childOf(replica)
  if (nexus && child) faultChild(cluster, nexus, child, undefined)
}

/**
 * A node vanishes without a word: its nexuses are gone uncleanly, and the nexuses elsewhere lose the children that
 * live on it. The core finds out at its next poll.
 */
export function loseNode(cluster: Cluster, node: Node): void {
  node.online = false
  cluster.emit('node-offline', { node: node.id })
  for (const nexus of [...node.nexuses]) {
    dropNexus(cluster, nexus)
    cluster.emit('nexus-lost', { volume: nexus.volume.uuid, node: node.id, by: 'io-engine' })
  }
  for (const pool of node.pools) for (const replica of pool.replicas) loseReplica(cluster, replica)
}

/**
 * It comes back with its pools and replicas and registers with the core, which looks at it at once, and tells it to
 * give up the targets it was left with.
 */
export function returnNode(cluster: Cluster, node: Node): void {
  node.online = true
  reportNode(node)
  cluster.emit('node-online', { node: node.id })
  for (const volume of cluster.volumes.values()) {
    for (const target of [...volume.abandoned]) {
      if (target.node !== node.id) continue
      volume.abandoned.splice(volume.abandoned.indexOf(target), 1)
      disownFromNexus(cluster, target.nexus)
    }
  }
  cluster.onTrigger()
}
