import type { Actor } from './event.js'
import { type Failure, failure } from './failure.js'
import { Child, type ChildReason, type Cluster, Nexus, type Node, type Replica, type Volume } from './model.js'
import { endRebuild, runningRebuilds, startRebuild } from './rebuild.js'
import { reportNexus, reportNode } from './view.js'

// What the io-engine does with nexuses and their children, including what it writes to etcd by itself (NexusInfo).

/**
 * The replicas a new nexus is built from: those recorded as healthy, and after an unclean shutdown only one of them,
 * since nobody knows which of them got the last writes.
 */
function sources(cluster: Cluster, volume: Volume, node: Node): Replica[] {
  const healthy = [...volume.replicas].filter((r) => r.healthyRecorded && r.node.online && r.pool.replicas.has(r))
  if (volume.nexusInfo === undefined || volume.nexusInfo.cleanShutdown || healthy.length <= 1) return healthy
  const local = healthy.filter((r) => r.node === node)
  return [cluster.choose('nexus-source', local.length > 0 ? local : healthy)]
}

/** Where a target goes when nobody says: to a node that holds a healthy replica if possible. */
function targetNode(cluster: Cluster, volume: Volume): Node | undefined {
  const usable = [...cluster.nodes.values()].filter((n) => n.reportedStatus === 'Online' && n.online && !n.cordoned)
  const local = usable.filter((n) => [...volume.replicas].some((r) => r.node === n && r.healthyRecorded))
  const options = local.length > 0 ? local : usable
  return options.length > 0 ? cluster.choose('target-node', options) : undefined
}

/** Creates the volume's nexus and records it as its target. `uuid` is given when a lost nexus is created again. */
export function createNexus(
  cluster: Cluster,
  volume: Volume,
  where: Node | undefined,
  by: Actor,
  uuid = cluster.random.uuid(),
): Failure | undefined {
  const node = where ?? targetNode(cluster, volume)
  if (node === undefined) return failure('ResourceExhausted', 'NotEnoughResources', 'No online node for the target')
  if (!node.online) return failure('Unavailable', 'NodeNotOnline', `Node '${node.id}' is not online`)
  const replicas = sources(cluster, volume, node)
  if (replicas.length === 0) {
    return failure('FailedPrecondition', 'NoOnlineReplicas', `No online healthy replica of volume '${volume.uuid}'`)
  }
  const children = replicas.map((replica) => new Child(replica, 'Online'))
  const nexus = new Nexus(uuid, node, volume, children)
  node.nexuses.add(nexus)
  volume.nexus = nexus
  volume.target = { node: node.id, nexus: uuid }
  volume.nexusInfo = { cleanShutdown: false, healthy: new Map(replicas.map((r) => [r.uuid, true])) }
  for (const replica of volume.replicas) {
    if (replicas.includes(replica)) replica.nexusOwner = uuid
    else replica.synced = false
  }
  reportNexus(nexus)
  cluster.emit('nexus-created', { volume: volume.uuid, node: node.id, by, reason: `from ${children.length} replicas` })
  cluster.onTrigger()
  return undefined
}

/** An orderly end: every child has the same data and etcd says so. The spec's target is the caller's business. */
export function shutdownNexus(cluster: Cluster, volume: Volume, by: Actor): void {
  const { nexus } = volume
  if (nexus === undefined) return
  dropNexus(cluster, nexus)
  if (volume.nexusInfo !== undefined) volume.nexusInfo.cleanShutdown = true
  reportNexus(nexus)
  cluster.emit('nexus-shutdown', { volume: volume.uuid, node: nexus.node.id, by })
}

function dropNexus(cluster: Cluster, nexus: Nexus): void {
  for (const child of nexus.children) endRebuild(cluster, nexus, child, 'Stopped')
  nexus.node.nexuses.delete(nexus)
  nexus.volume.nexus = undefined
  for (const replica of cluster.replicas.values()) if (replica.nexusOwner === nexus.uuid) replica.nexusOwner = undefined
}

/** What the core is told when it calls on a nexus that is no longer there, or on a node that is not. */
export function noNexus(cluster: Cluster, volume: Volume): Failure {
  const node = cluster.nodes.get(volume.target?.node ?? '')
  return node?.online === false
    ? failure('Unavailable', 'NodeNotOnline', `Node '${node.id}' is not online`)
    : failure('NotFound', 'NexusNotFound', `Nexus of volume '${volume.uuid}' not found`)
}

/** Attaches a replica to the running nexus; its rebuild starts with that. */
export function attachChild(cluster: Cluster, volume: Volume, replica: Replica, by: Actor): Failure | undefined {
  const { nexus } = volume
  if (nexus === undefined) return noNexus(cluster, volume)
  if (!replica.node.online) return failure('Unavailable', 'NodeNotOnline', `Node '${replica.node.id}' is not online`)
  const limit = cluster.faults.rebuildLimit
  if (limit !== undefined && runningRebuilds(cluster) >= limit) {
    return failure('ResourceExhausted', 'MaxRebuilds', `The maximum number of rebuilds (${limit}) is reached`)
  }
  if (cluster.faults.hits('attach', volume.uuid)) {
    return failure('Internal', 'GrpcRequestError', `add_child_nexus of replica '${replica.uuid}' failed`)
  }
  const child = new Child(replica, 'Degraded')
  nexus.children.push(child)
  replica.nexusOwner = nexus.uuid
  replica.synced = false
  recordHealth(cluster, volume, replica, false)
  cluster.emit('child-added', { volume: volume.uuid, replica: replica.uuid, node: nexus.node.id, by })
  if (cluster.faults.hits('rebuild-start', volume.uuid) || !rebuildChild(cluster, nexus, child, false)) {
    faultChild(cluster, nexus, child, undefined)
  }
  reportNexus(nexus)
  return undefined
}

/** Brings a child that was synced once, and whose node came back, in again: it only misses what was written since. */
export function onlineChild(cluster: Cluster, nexus: Nexus, child: Child): boolean {
  child.state = 'Degraded'
  child.faultedAt = undefined
  child.reason = undefined
  const started = rebuildChild(cluster, nexus, child, true)
  if (!started) faultChild(cluster, nexus, child, undefined)
  reportNexus(nexus)
  return started
}

function rebuildChild(cluster: Cluster, nexus: Nexus, child: Child, partial: boolean): boolean {
  return startRebuild(cluster, nexus, child, partial, (outcome) => {
    if (outcome === 'out-of-space') {
      faultChild(cluster, nexus, child, 'OutOfSpace')
      return
    }
    endRebuild(cluster, nexus, child, 'Completed')
    child.state = 'Online'
    child.wasSynced = true
    child.replica.synced = true
    // etcd learns of it a little later than anyone who asks the io-engine.
    cluster.clock.after(cluster.settings.healthyPersistDelayMs, () => {
      if (nexus.volume.nexus !== nexus || child.state !== 'Online' || !nexus.children.includes(child)) return
      recordHealth(cluster, nexus.volume, child.replica, true)
    })
  })
}

/** The io-engine closes a child it cannot write to. The last good one stays recorded as healthy: nothing is newer. */
export function faultChild(cluster: Cluster, nexus: Nexus, child: Child, reason: ChildReason | undefined): void {
  if (child.state === 'Faulted') return
  const wasOnline = child.state === 'Online'
  const last = wasOnline && !nexus.children.some((other) => other !== child && other.state === 'Online')
  endRebuild(cluster, nexus, child, 'Failed')
  child.state = 'Faulted'
  child.reason = reason
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

/** Takes a child out of the nexus. The io-engine refuses to take the last healthy one. */
export function removeChild(cluster: Cluster, nexus: Nexus, child: Child, by: Actor): Failure | undefined {
  if (!nexus.node.online) return failure('Unavailable', 'NodeNotOnline', `Node '${nexus.node.id}' is not online`)
  const online = nexus.children.filter((other) => other.state === 'Online')
  if (nexus.children.length === 1 || (online.length === 1 && online[0] === child)) {
    return failure('FailedPrecondition', 'GrpcRequestError', 'Cannot remove the last healthy child of the nexus')
  }
  endRebuild(cluster, nexus, child, 'Stopped')
  nexus.children = nexus.children.filter((other) => other !== child)
  child.replica.synced = false
  nexus.volume.nexusInfo?.healthy.delete(child.replica.uuid)
  cluster.emit('child-removed', { volume: nexus.volume.uuid, replica: child.replica.uuid, node: nexus.node.id, by })
  for (const other of nexus.children) {
    if (other.replica.rebuild?.source !== child) continue
    endRebuild(cluster, nexus, other, 'Stopped')
    rebuildChild(cluster, nexus, other, false)
  }
  reportNexus(nexus)
  return undefined
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
  for (const pool of node.pools) {
    for (const replica of pool.replicas) {
      const nexus = replica.owner?.nexus
      const child = nexus?.childOf(replica)
      if (nexus && child) faultChild(cluster, nexus, child, undefined)
    }
  }
}

/** It comes back with its pools and replicas and registers with the core, which looks at it at once. */
export function returnNode(cluster: Cluster, node: Node): void {
  node.online = true
  reportNode(node)
  cluster.emit('node-online', { node: node.id })
  cluster.onTrigger()
}
