import type { Actor } from './event.js'
import { engineFailure, type Failure, failure, notFound, precondition } from './failure.js'
import {
  type Cluster,
  type Node,
  type Replica,
  type Snapshot,
  type SnapshotPart,
  type Target,
  type Topology,
  Volume,
} from './model.js'
import { createNexus, destroyNexus, disownFromNexus, noNode, targetNode, upgradeRequired } from './nexus.js'
import { type Body, groupLock, type Operation, type Operations, type Steps, volumeLock } from './operations.js'
import { candidates, canRebuildSnapshots, mayGrow } from './placement.js'
import { createReplicaOn, destroyReplica, disownReplica, dropSnapshot, noPools, unreachable } from './replicas.js'
import { setReplicaCount } from './set-replica.js'
import { busy, completeUpdate, logStart, notPersisted, persist, startUpdate } from './store.js'
import { isReportedOnline, reportPool, reportReplica } from './view.js'

/** What a new volume is asked to be. */
export interface NewVolume {
  readonly uuid: string
  readonly sizeBytes: number
  readonly replicas: number
  readonly thin: boolean
  readonly selfHeal: boolean
  readonly topology: Topology
  readonly affinityGroup: string | undefined
  readonly encrypted: boolean
  readonly clusterSizeBytes: number
}

/** What people and Kubernetes ask of Mayastor, besides the calls that come over REST. */
export type Request =
  | { readonly kind: 'create'; readonly volume: NewVolume }
  | { readonly kind: 'destroy'; readonly uuid: string }
  /** Without a node the core chooses one. */
  | { readonly kind: 'publish'; readonly uuid: string; readonly node?: string | undefined }
  | { readonly kind: 'unpublish'; readonly uuid: string }
  /** The target moves: failover, or by hand. Without a node the core chooses another one. */
  | { readonly kind: 'republish'; readonly uuid: string; readonly node?: string | undefined }
  | { readonly kind: 'create-snapshot'; readonly uuid: string; readonly snapshot?: string | undefined }
  /** Without a name the oldest one. */
  | { readonly kind: 'destroy-snapshot'; readonly uuid: string; readonly snapshot?: string | undefined }
  | { readonly kind: 'resize'; readonly uuid: string; readonly sizeBytes: number }
  | { readonly kind: 'set-property'; readonly uuid: string; readonly selfHeal: boolean }
  | { readonly kind: 'set-replicas'; readonly uuid: string; readonly count: number }

const operationOf = {
  create: 'Create',
  destroy: 'Destroy',
  publish: 'Publish',
  unpublish: 'Unpublish',
  republish: 'Republish',
  'create-snapshot': 'CreateSnapshot',
  'destroy-snapshot': 'DestroySnapshot',
  resize: 'Resize',
  'set-property': 'SetVolumeProperty',
  'set-replicas': 'SetReplica',
} as const satisfies Record<Request['kind'], string>

/** The request as an operation of the core: its name in `spec.operation`, its volume and its steps. */
export function operationFor(
  cluster: Cluster,
  operations: Operations,
  request: Request,
): { readonly kind: string; readonly uuid: string; readonly body: Body } {
  const kind = operationOf[request.kind]
  const uuid = request.kind === 'create' ? request.volume.uuid : request.uuid
  if (request.kind === 'create') {
    return { kind, uuid, body: (operation) => create(cluster, operations, operation, request.volume) }
  }
  if (request.kind === 'set-replicas') {
    return { kind, uuid, body: (operation) => setReplicaCount(cluster, operations, operation, uuid, request.count) }
  }
  return {
    kind,
    uuid,
    *body(operation) {
      const volume = cluster.volumes.get(uuid)
      if (volume === undefined) return notFound('Volume', uuid)
      return yield* operations.holding(operation, volumeLock(volume), function* () {
        if (cluster.volumes.get(uuid) !== volume) return notFound('Volume', uuid)
        return yield* change(cluster, operations, operation, volume, request)
      })
    },
  }
}

type Change = Exclude<Request, { kind: 'create' | 'set-replicas' }>

function change(
  cluster: Cluster,
  operations: Operations,
  operation: Operation,
  volume: Volume,
  request: Change,
): Steps {
  const { by } = operation
  switch (request.kind) {
    case 'destroy':
      return destroy(cluster, volume, by)
    case 'publish':
      return operations.holding(operation, groupLock(volume), () => publish(cluster, volume, by, request.node))
    case 'unpublish':
      return unpublish(cluster, volume, by)
    case 'republish':
      return operations.holding(operation, groupLock(volume), () => republish(cluster, volume, by, request.node))
    case 'create-snapshot':
      return createSnapshot(cluster, volume, by, request.snapshot)
    case 'destroy-snapshot':
      return destroySnapshot(cluster, volume, by, request.snapshot)
    case 'resize':
      return resize(cluster, volume, by, request.sizeBytes)
    case 'set-property':
      return setSelfHeal(cluster, volume, by, request.selfHeal)
  }
}

/** The volume is there, and listed, from the first moment; one that cannot be made is gone again. */
function* create(cluster: Cluster, operations: Operations, operation: Operation, wanted: NewVolume): Steps {
  const { by } = operation
  const { uuid } = wanted
  const present = cluster.volumes.get(uuid)
  if (present !== undefined) {
    return yield* operations.holding(operation, volumeLock(present), function* () {
      yield { step: 'look' }
      if (present.life === 'Deleting') return failure('Deleting', 'Deleting', 'Volume is being deleted')
      return (
        busy(cluster, present) ?? failure('AlreadyExists', 'AlreadyExists', `Volume Resource id ${uuid} already exists`)
      )
    })
  }
  const volume = new Volume({ ...wanted, numReplicas: wanted.replicas })
  volume.life = 'Creating'
  cluster.addVolume(volume)
  cluster.emit('volume-creating', { volume: uuid, by })
  return yield* operations.holding(operation, volumeLock(volume), function* () {
    const failed =
      logStart(cluster, volume, 'Create', by) ??
      (yield* operations.holding(operation, groupLock(volume), () => createReplicas(cluster, volume, by)))
    if (failed !== undefined) {
      // If even that cannot be recorded, what is left is found at the next look.
      if (persist(cluster, volume)) forget(cluster, volume, by)
      return failed
    }
    yield { step: 'commit' }
    return completeUpdate(cluster, volume, by, undefined, () => {
      volume.life = 'Created'
      cluster.emit('volume-created', { volume: uuid, by })
    })
  })
}

function* createReplicas(cluster: Cluster, volume: Volume, by: Actor): Steps {
  const pools = candidates(cluster, volume)
  if (pools.length < volume.numReplicas) {
    const cause = `Not enough suitable pools available, ${pools.length}/${volume.numReplicas}`
    return { ...noPools, details: cause }
  }
  const made: Replica[] = []
  for (const pool of pools) {
    if (made.length === volume.numReplicas) break
    if (made.some((replica) => replica.node === pool.node)) continue
    yield* createReplicaOn(cluster, volume, pool, by, (replica) => made.push(replica))
  }
  if (made.length === volume.numReplicas) return undefined
  for (const replica of made) {
    yield { step: 'destroy replica' }
    disownReplica(cluster, replica, by)
    destroyReplica(cluster, replica, by)
  }
  return precondition(
    'ReplicaCreateNumber',
    `Failed to create the desired number of replicas for Volume '${volume.uuid}'`,
  )
}

/** Everything of the volume is let go of, whether or not it can be destroyed now; the rest is left to be collected. */
export function* destroy(cluster: Cluster, volume: Volume, by: Actor): Steps {
  const refused = busy(cluster, volume) ?? logStart(cluster, volume, 'Destroy', by)
  if (refused !== undefined) return refused
  if (volume.life !== 'Deleting') {
    volume.life = 'Deleting'
    cluster.emit('volume-deleting', { volume: volume.uuid, by })
  }
  if (volume.target !== undefined) {
    yield { step: 'destroy target' }
    if (volume.nexus?.node.online) destroyNexus(cluster, volume, by)
  }
  for (const replica of [...volume.replicas]) {
    yield { step: 'destroy replica' }
    replica.nexusOwner = undefined
    disownReplica(cluster, replica, by)
    destroyReplica(cluster, replica, by)
  }
  yield { step: 'commit' }
  if (!persist(cluster, volume)) {
    volume.outcome = true
    volume.commit = () => forget(cluster, volume, by)
    return notPersisted
  }
  forget(cluster, volume, by)
  return undefined
}

function forget(cluster: Cluster, volume: Volume, by: Actor): void {
  if (volume.move !== undefined) volume.move.pool.drain?.moves.delete(volume.move)
  for (const replica of [...volume.replicas]) disownReplica(cluster, replica, by)
  volume.operation = undefined
  cluster.removeVolume(volume)
  cluster.emit('volume-destroyed', { volume: volume.uuid, by })
}

/** A node that is named is taken as it is, cordoned or not; in a group it is only preferred. */
function chooseTarget(cluster: Cluster, volume: Volume, named: string | undefined): Node | Failure {
  if (named === undefined || volume.affinityGroup !== undefined) return targetNode(cluster, volume, named) ?? noNode
  const node = cluster.nodes.get(named)
  if (node === undefined) return notFound('Node', named)
  return node.reportedStatus === 'Online' ? node : unreachable(node)
}

function* publish(cluster: Cluster, volume: Volume, by: Actor, named: string | undefined): Steps {
  const { uuid } = volume
  if (volume.target !== undefined) {
    const sentence = `Volume '${uuid}' is already published on node '${volume.target.node}'`
    return failure('AlreadyPublished', 'VolumeAlreadyPublished', sentence)
  }
  const node = chooseTarget(cluster, volume, named)
  if ('kind' in node) return node
  const refused = startUpdate(cluster, volume, 'Publish', by)
  if (refused !== undefined) return refused
  return yield* createTarget(cluster, volume, node, by)
}

function* createTarget(cluster: Cluster, volume: Volume, node: Node, by: Actor): Steps {
  yield { step: 'create target' }
  const nexus = cluster.random.uuid()
  const failed = createNexus(cluster, volume, node, by, nexus)
  if (failed !== undefined) return completeUpdate(cluster, volume, by, failed)
  yield { step: 'share target' }
  return completeUpdate(cluster, volume, by, undefined, () => recordTarget(cluster, volume, node, nexus, by))
}

/** A target where it is wanted, whatever the rules say; for a volume that is to be as if it had always had one. */
export function putTarget(cluster: Cluster, volume: Volume, node: Node): void {
  const nexus = cluster.random.uuid()
  const failed = createNexus(cluster, volume, node, 'person', nexus)
  if (failed !== undefined) throw new Error(failed.message)
  recordTarget(cluster, volume, node, nexus, 'person')
}

/** The core's record of the target that was made: its children are those it was made of. */
function recordTarget(cluster: Cluster, volume: Volume, node: Node, nexus: string, by: Actor): void {
  const made = volume.nexus?.uuid === nexus ? volume.nexus.children.map((child) => child.replica) : []
  const children = new Set(made.filter((replica) => volume.replicas.has(replica)))
  volume.target = { node: node.id, nexus, children, down: false }
  cluster.emit('volume-published', { volume: volume.uuid, node: node.id, by })
  cluster.onTrigger()
}

function* unpublish(cluster: Cluster, volume: Volume, by: Actor): Steps {
  const { uuid, target } = volume
  if (target === undefined) return notPublished(uuid)
  const refused = startUpdate(cluster, volume, 'Unpublish', by)
  if (refused !== undefined) return refused
  yield { step: 'destroy target' }
  const node = cluster.nodes.get(target.node)
  if (node?.online === false) return completeUpdate(cluster, volume, by, unreachable(node))
  endTarget(cluster, volume, target, by)
  return completeUpdate(cluster, volume, by, undefined, () => {
    volume.target = undefined
    cluster.emit('volume-unpublished', { volume: uuid, by })
  })
}

/** Whether or not its nexus is still there. */
function endTarget(cluster: Cluster, volume: Volume, { nexus }: Target, by: Actor): void {
  destroyNexus(cluster, volume, by)
  disownFromNexus(cluster, nexus)
}

function notPublished(uuid: string): Failure {
  return failure('NotPublished', 'VolumeNotPublished', `Volume '${uuid}' not published`)
}

/** The old target is shut down if it can be told to, else left behind where it is; then a new one is made. */
export function* republish(cluster: Cluster, volume: Volume, by: Actor, named: string | undefined): Steps {
  const { uuid, target } = volume
  if (target === undefined) return notPublished(uuid)
  const node = chooseTarget(cluster, volume, named)
  if ('kind' in node) return node
  const refused = startUpdate(cluster, volume, 'Republish', by)
  if (refused !== undefined) return refused
  yield { step: 'shut target down' }
  target.down = true
  if (cluster.nodes.get(target.node)?.online) endTarget(cluster, volume, target, by)
  else if (!volume.abandoned.includes(target)) volume.abandoned.push(target)
  return yield* createTarget(cluster, volume, node, by)
}

/** A snapshot is taken on every replica at once, or not at all. What was written until then belongs to it. */
function* createSnapshot(cluster: Cluster, volume: Volume, by: Actor, name: string | undefined): Steps {
  const { uuid } = volume
  if (volume.numReplicas > 1 && !canRebuildSnapshots(volume)) return upgradeRequired
  const id = name ?? `${uuid}-snapshot-${volume.snapshotsTaken}`
  const refused = startUpdate(cluster, volume, 'CreateSnapshot', by)
  if (refused !== undefined) return refused
  yield { step: 'take snapshot' }
  const replicas = [...volume.replicas].filter((r) => r.healthyRecorded && isReportedOnline(r))
  if (replicas.length !== volume.numReplicas) {
    const sentence = `Volume '${uuid}' does not have enough healthy replicas for a snapshot`
    return completeUpdate(cluster, volume, by, precondition('InsufficientHealthyReplicas', sentence))
  }
  const lost = replicas.find((replica) => !replica.reachable)
  if (lost !== undefined) {
    const cause = `replica '${lost.uuid}' does not answer`
    return completeUpdate(cluster, volume, by, engineFailure('Unavailable', 'create_snapshot', cause))
  }
  const parts = replicas.map((replica) => snapshotOf(replica))
  return completeUpdate(cluster, volume, by, undefined, () => {
    volume.snapshotList.push({ id, parts })
    volume.snapshotsTaken++
    cluster.emit('snapshot-taken', { volume: uuid, by, reason: id })
  })
}

function snapshotOf(replica: Replica): SnapshotPart {
  const bytes = replica.writtenBytes
  replica.snapshotBytes += bytes
  replica.writtenBytes = 0
  reportReplica(replica)
  reportPool(replica.pool)
  return { pool: replica.pool, replica, bytes }
}

function* destroySnapshot(cluster: Cluster, volume: Volume, by: Actor, name: string | undefined): Steps {
  const { uuid } = volume
  const snapshot = findSnapshot(volume, name)
  if (snapshot === undefined) return notFound('VolumeSnapshot', name ?? '')
  const refused = startUpdate(cluster, volume, 'DestroySnapshot', by)
  if (refused !== undefined) return refused
  yield { step: 'destroy snapshot' }
  const away = snapshot.parts.find(({ pool }) => !pool.reachable)
  if (away !== undefined) return completeUpdate(cluster, volume, by, unreachable(away.pool.node))
  return completeUpdate(cluster, volume, by, undefined, () => {
    dropSnapshot(volume, snapshot)
    cluster.emit('snapshot-destroyed', { volume: uuid, by, reason: snapshot.id })
  })
}

function findSnapshot({ snapshotList }: Volume, name: string | undefined): Snapshot | undefined {
  return name === undefined ? snapshotList[0] : snapshotList.find(({ id }) => id === name)
}

/** Replica by replica, then the target; all of them have to be there and have room. */
function* resize(cluster: Cluster, volume: Volume, by: Actor, sizeBytes: number): Steps {
  const { uuid } = volume
  if (sizeBytes <= volume.sizeBytes) {
    const sentence = `Requested resize size ${sizeBytes} is not larger than that of volume '${uuid}'`
    return failure('NotAcceptable', 'VolumeResizeSize', sentence)
  }
  const replicas = [...volume.replicas].filter((replica) => mayGrow(volume, replica, sizeBytes - volume.sizeBytes))
  if (replicas.length !== volume.numReplicas) {
    return failure('ResourceExhausted', 'ResizeReplError', `Replicas of volume '${uuid}' cannot be resized`)
  }
  const refused = startUpdate(cluster, volume, 'Resize', by)
  if (refused !== undefined) return refused
  for (const replica of replicas) {
    yield { step: 'resize replica' }
    if (!replica.reachable) return completeUpdate(cluster, volume, by, unreachable(replica.node))
    replica.sizeBytes = sizeBytes
    reportReplica(replica)
    reportPool(replica.pool)
  }
  if (volume.target !== undefined) yield { step: 'resize target' }
  return completeUpdate(cluster, volume, by, undefined, () => {
    volume.sizeBytes = sizeBytes
    cluster.emit('volume-resized', { volume: uuid, by })
  })
}

function* setSelfHeal(cluster: Cluster, volume: Volume, by: Actor, selfHeal: boolean): Steps {
  const refused = startUpdate(cluster, volume, 'SetVolumeProperty', by)
  if (refused !== undefined) return refused
  yield { step: 'commit' }
  return completeUpdate(cluster, volume, by, undefined, () => {
    volume.selfHeal = selfHeal
    cluster.emit('self-heal', { volume: volume.uuid, by, reason: selfHeal ? 'on' : 'off' })
  })
}
