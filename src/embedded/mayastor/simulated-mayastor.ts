import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { SimulatedClock } from '../clock.js'
import type { MayastorEvent } from './event.js'
import { type Failure, failure } from './failure.js'
import { Faults } from './faults.js'
import {
  Cluster,
  type CordonBits,
  CREATED_BY,
  cordonBits,
  DEFAULT_CLUSTER_SIZE,
  DISKPOOL_OPERATOR,
  MiB,
  Node,
  Pool,
  type PoolStatus,
  type Settings,
  type Topology,
  Volume,
} from './model.js'
import { createNexus, faultChild, loseNode, returnNode, shutdownNexus } from './nexus.js'
import { conflict, type Operation, Operations } from './operations.js'
import { candidates } from './placement.js'
import { type Choose, Random } from './random.js'
import { Reconciler, restart } from './reconcile.js'
import { destroyReplica, disownReplica, putReplica } from './replicas.js'
import {
  buildRest,
  cordonNode,
  drainNode,
  labelPool,
  setPoolCordon,
  uncordonNode,
  unlabelPool,
  type Write,
} from './rest.js'
import { endUpdate, notFound, setReplicaCount, startUpdate } from './set-replica.js'
import type { Truth } from './truth.js'
import { reportNode, reportPool } from './view.js'

const defaults = {
  version: '2.10.0',
  rebuildBytesPerSecond: 200 * MiB,
  cachePeriodMs: 30_000,
  reconcileBusyMs: 10_000,
  reconcileIdleMs: 30_000,
  restTimeoutMs: 5_000,
  stepMs: 200,
  healthyPersistDelayMs: 2_000,
  faultedChildWaitMs: 600_000,
} as const satisfies Settings

export interface MayastorOptions extends Partial<Settings> {
  readonly clock: SimulatedClock
  /** The same seed gives the same uuids, phases and ties. */
  readonly seed?: number
  /** Decides ties in place of the seed: placement, removal, rebuild-source, nexus-source, target-node. */
  readonly choose?: Choose
}

export interface NodeOptions {
  readonly id: string
  readonly labels?: Record<string, string>
  /** Of its io-engine; by default the control plane's. */
  readonly version?: string
}

export interface PoolOptions {
  readonly id: string
  readonly node: string
  readonly capacityBytes: number
  /** Besides `openebs.io/created-by: operator-diskpool`, unless `createdByOperator` is false. */
  readonly labels?: Record<string, string>
  readonly createdByOperator?: boolean
  readonly disks?: readonly string[]
  readonly encrypted?: boolean
  readonly clusterSizeBytes?: number
  readonly otherBytes?: number
}

export interface VolumeOptions {
  readonly uuid: string
  readonly sizeBytes: number
  /** Where the replicas are, or how many to place by the rules. */
  readonly replicas: readonly { readonly uuid?: string; readonly pool: string }[] | number
  /** Default true. */
  readonly thin?: boolean
  /** Written data; default the whole size if thick, nothing if thin. */
  readonly allocatedBytes?: number
  /** Default true. */
  readonly published?: boolean
  /** Default: the first replica's node. */
  readonly targetNode?: string
  /** Default true. */
  readonly selfHeal?: boolean
  readonly affinityGroup?: string
  readonly snapshots?: number
  /** Default: as CSI makes it, pools with the created-by label. */
  readonly topology?: Topology
  readonly encrypted?: boolean
  readonly clusterSizeBytes?: number
}

/**
 * Mayastor's control plane and io-engines in one process: a model of what they do, in simulated time, behind their REST
 * API on a loopback port. Placement, removal, rebuild and healing follow the real thing's rules, including the ones a
 * client wishes were different. The methods below are what people and failures do; an answer of undefined means done.
 */
export class SimulatedMayastor {
  readonly clock: SimulatedClock
  readonly faults = new Faults()
  readonly #writes: Write[] = []
  readonly #cluster: Cluster
  readonly #operations: Operations
  readonly #reconciler: Reconciler
  readonly #listing: string[] = []
  readonly #timers = new Set<() => void>()
  readonly truth: Truth
  #app: FastifyInstance | undefined
  #up = true

  constructor({ clock, seed = 1, choose, ...settings }: MayastorOptions) {
    this.clock = clock
    const random = new Random(seed)
    this.#cluster = new Cluster(clock, { ...defaults, ...settings }, random, choose ?? random.choose, this.faults)
    this.#operations = new Operations(this.#cluster)
    this.#reconciler = new Reconciler(this.#cluster, this.#operations)
    this.#cluster.onTrigger = () => this.#reconciler.trigger()
    this.#reconciler.start()
    const { running } = this.#operations
    this.truth = {
      volumes: this.#cluster.volumes,
      pools: this.#cluster.pools,
      nodes: this.#cluster.nodes,
      replicas: this.#cluster.replicas,
      get operations() {
        return [...running.keys()]
      },
    }
  }

  /** Serves the REST API; the answer is its base URL (routes are under /v0). */
  async start(): Promise<string> {
    const app = this.#rest()
    await app.listen({ host: '127.0.0.1', port: 0 })
    const { port } = app.server.address() as AddressInfo
    return `http://127.0.0.1:${port}`
  }

  /** One request of the REST API without a socket, for a caller who may give up without anybody noticing. */
  async inject(request: {
    readonly method: 'GET' | 'PUT' | 'DELETE' | (string & {})
    /** With `/v0` and the query. */
    readonly path: string
    readonly body: string | undefined
  }): Promise<{ readonly status: number; readonly text: string }> {
    const { method, path, body } = request
    const response = await this.#rest().inject({
      method: method as 'GET',
      url: path,
      ...(body === undefined ? {} : { payload: body, headers: { 'content-type': 'application/json' } }),
    })
    return { status: response.statusCode, text: response.payload }
  }

  #rest(): FastifyInstance {
    this.#app ??= buildRest({
      cluster: this.#cluster,
      operations: this.#operations,
      writes: this.#writes,
      listing: this.#listing,
      isUp: () => this.#up,
    })
    return this.#app
  }

  async stop(): Promise<void> {
    this.#reconciler.stop()
    for (const cancel of this.#timers) cancel()
    this.#timers.clear()
    await this.#app?.close()
    this.#app = undefined
  }

  /** Every mutating REST request received, in order. */
  get writes(): readonly Write[] {
    return this.#writes
  }

  onEvent(listener: (event: MayastorEvent) => void): void {
    this.#cluster.listeners.push(listener)
  }

  addNode({ id, labels = {}, version = this.#cluster.settings.version }: NodeOptions): void {
    const { clock, settings, random, nodes } = this.#cluster
    const node = new Node(id, nodes.size, version, labels)
    nodes.set(id, node)
    reportNode(node)
    this.#cluster.emit('node-added', { node: id })
    // Each node is polled on a phase of its own.
    let cancel = () => {}
    const stop = () => cancel()
    const poll = () => {
      if (this.#up) reportNode(node)
      cancel = clock.after(settings.cachePeriodMs, poll)
    }
    cancel = clock.after(1 + random.below(settings.cachePeriodMs), poll)
    this.#timers.add(stop)
  }

  addPool(p: PoolOptions): void {
    const node = this.#node(p.node)
    const labels = { ...(p.createdByOperator === false ? {} : { [CREATED_BY]: DISKPOOL_OPERATOR }), ...p.labels }
    const uuid = this.#cluster.random.uuid()
    const disks = p.disks ?? [`/dev/disk/by-id/${p.id}`]
    const pool = new Pool({ ...p, uuid, node, disks, otherBytes: p.otherBytes ?? 0 }, labels, {
      encrypted: p.encrypted ?? false,
      clusterSizeBytes: p.clusterSizeBytes ?? DEFAULT_CLUSTER_SIZE,
    })
    node.pools.push(pool)
    this.#cluster.pools.set(p.id, pool)
    reportPool(pool)
    this.#cluster.emit('pool-added', { pool: p.id, node: p.node })
  }

  createVolume(v: VolumeOptions): void {
    const thin = v.thin ?? true
    const numReplicas = typeof v.replicas === 'number' ? v.replicas : v.replicas.length
    const volume = new Volume({
      uuid: v.uuid,
      sizeBytes: v.sizeBytes,
      numReplicas,
      thin,
      topology: v.topology ?? {
        pool_topology: { labelled: { inclusion: { [CREATED_BY]: DISKPOOL_OPERATOR }, exclusion: {} } },
      },
      affinityGroup: v.affinityGroup,
      selfHeal: v.selfHeal ?? true,
      encrypted: v.encrypted ?? false,
      clusterSizeBytes: v.clusterSizeBytes ?? DEFAULT_CLUSTER_SIZE,
    })
    const writtenBytes = v.allocatedBytes ?? (thin ? 0 : v.sizeBytes)
    for (let i = 0; i < numReplicas; i++) {
      const given = typeof v.replicas === 'number' ? undefined : v.replicas[i]
      const pool = given === undefined ? candidates(this.#cluster, volume)[0] : this.#pool(given.pool)
      if (pool === undefined) throw new Error(`no pool for replica ${i} of volume ${v.uuid}`)
      const uuid = given?.uuid ?? this.#cluster.random.uuid()
      putReplica(this.#cluster, volume, pool, { uuid, synced: true, writtenBytes })
    }
    this.#cluster.volumes.set(v.uuid, volume)
    this.#listing.push(v.uuid)
    this.#cluster.emit('volume-created', { volume: v.uuid })
    for (let i = 0; i < (v.snapshots ?? 0); i++) this.snapshot(v.uuid)
    const [first] = volume.replicas
    if (v.published ?? true) this.publish(v.uuid, v.targetNode ?? first?.node.id)
  }

  publish(uuid: string, node?: string): Failure | undefined {
    return this.#change(uuid, (volume) => {
      if (volume.target !== undefined) return failure('AlreadyPublished', 'AlreadyPublished', `Volume '${uuid}'`)
      return createNexus(this.#cluster, volume, node === undefined ? undefined : this.#node(node), 'person')
    })
  }

  unpublish(uuid: string): Failure | undefined {
    return this.#change(uuid, (volume) => {
      if (volume.target === undefined) return failure('NotPublished', 'NotPublished', `Volume '${uuid}'`)
      shutdownNexus(this.#cluster, volume, 'person')
      volume.target = undefined
      return undefined
    })
  }

  /** Failover, drain or republish: cleanly if the old target's node is there, else from one healthy replica. */
  moveTarget(uuid: string, node: string): Failure | undefined {
    return this.#change(uuid, (volume) => {
      if (volume.target === undefined) return failure('NotPublished', 'NotPublished', `Volume '${uuid}'`)
      shutdownNexus(this.#cluster, volume, 'person')
      return createNexus(this.#cluster, volume, this.#node(node), 'person')
    })
  }

  destroyVolume(uuid: string): Failure | undefined {
    return this.#change(uuid, (volume) => {
      shutdownNexus(this.#cluster, volume, 'person')
      for (const replica of [...volume.replicas]) {
        disownReplica(this.#cluster, replica, 'person')
        destroyReplica(this.#cluster, replica, 'person')
      }
      this.#cluster.volumes.delete(uuid)
      // A delete moves the last entry into the gap, so a client that pages meanwhile may miss or repeat one.
      const index = this.#listing.indexOf(uuid)
      const last = this.#listing.pop()
      if (last !== undefined && last !== uuid) this.#listing[index] = last
      this.#cluster.emit('volume-destroyed', { volume: uuid, by: 'person' })
      return undefined
    })
  }

  /** Takes a snapshot on every replica that is in use; what is written until now belongs to it. */
  snapshot(uuid: string): Failure | undefined {
    return this.#change(uuid, (volume) => {
      volume.snapshots++
      for (const replica of volume.replicas) {
        if (!replica.synced) continue
        replica.snapshotBytes += replica.writtenBytes
        replica.writtenBytes = 0
      }
      this.#cluster.emit('snapshot-taken', { volume: uuid, by: 'person' })
      return undefined
    })
  }

  resize(uuid: string, sizeBytes: number): Failure | undefined {
    return this.#change(uuid, (volume) => {
      volume.sizeBytes = sizeBytes
      for (const replica of volume.replicas) replica.sizeBytes = sizeBytes
      this.#cluster.emit('volume-resized', { volume: uuid, by: 'person' })
      return undefined
    })
  }

  /** Another person's replica_count call; it takes its time as if it had come over REST. */
  setReplicaCount(uuid: string, count: number): Operation {
    return this.#operations.start('replica_count', uuid, 'person', (operation) =>
      setReplicaCount(this.#cluster, this.#operations, operation, uuid, count),
    )
  }

  /** Another operation (Resize, CreateSnapshot, Publish, ...) that holds the volume for a while. */
  occupy(uuid: string, kind: string, durationMs: number): Operation {
    const cluster = this.#cluster
    const operations = this.#operations
    return operations.start(kind, uuid, 'person', function* (operation) {
      const volume = cluster.volumes.get(uuid)
      if (volume === undefined) return notFound(uuid)
      if (!operations.tryLock(operation, volume)) return conflict(volume)
      startUpdate(cluster, volume, kind, 'person')
      yield { step: kind, ms: durationMs }
      endUpdate(cluster, volume, 'person', undefined)
      operations.unlock(operation)
      return undefined
    })
  }

  /** The application writes: every replica in use grows to this much. A pool that is full faults its child. */
  write(uuid: string, allocatedBytes: number): void {
    const volume = this.#volume(uuid)
    const { nexus } = volume
    for (const child of [...(nexus?.children ?? [])]) {
      const { replica } = child
      if (nexus === undefined || child.state !== 'Online') continue
      replica.writtenBytes = Math.max(replica.writtenBytes, Math.min(allocatedBytes, replica.sizeBytes))
      if (replica.thin && replica.pool.freeBytes < 0) faultChild(this.#cluster, nexus, child, 'OutOfSpace')
    }
  }

  setNodeOnline(id: string, online: boolean): void {
    const node = this.#node(id)
    if (online === node.online) return
    if (online) returnNode(this.#cluster, node)
    else loseNode(this.#cluster, node)
  }

  setNodeVersion(id: string, version: string): void {
    this.#node(id).version = version
  }

  setPoolStatus(id: string, status: PoolStatus): void {
    this.#pool(id).status = status
  }

  /** Space taken on the pool by something that is not one of our volumes. */
  setOtherBytes(id: string, bytes: number): void {
    this.#pool(id).otherBytes = bytes
  }

  /** The nexus cannot write to this replica any more (with `OutOfSpace`: its pool is full). */
  faultReplica(uuid: string, reason?: 'OutOfSpace'): void {
    const replica = this.#cluster.replicas.get(uuid)
    const nexus = replica?.owner?.nexus
    const child = replica && nexus?.childOf(replica)
    if (nexus && child) faultChild(this.#cluster, nexus, child, reason)
  }

  cordonNode(id: string, label: string): Failure | undefined {
    return cordonNode(this.#cluster, id, label)
  }

  uncordonNode(id: string, label: string): Failure | undefined {
    return uncordonNode(this.#cluster, id, label)
  }

  drainNode(id: string, label: string): Failure | undefined {
    return drainNode(this.#cluster, id, label)
  }

  cordonPool(id: string, bits: Partial<CordonBits>): Failure | undefined {
    return setPoolCordon(
      this.#cluster,
      this.#pool(id),
      cordonBits.filter((bit) => bits[bit]),
      true,
    )
  }

  uncordonPool(id: string, bits: Partial<CordonBits>): Failure | undefined {
    return setPoolCordon(
      this.#cluster,
      this.#pool(id),
      cordonBits.filter((bit) => bits[bit]),
      false,
    )
  }

  labelPool(id: string, key: string, value: string): Failure | undefined {
    return labelPool(this.#cluster, this.#pool(id), key, value, true)
  }

  unlabelPool(id: string, key: string): Failure | undefined {
    return unlabelPool(this.#cluster, this.#pool(id), key)
  }

  /** The core agent dies in the middle of whatever it does and is back `downMs` later. The io-engines go on. */
  restartCore(downMs = 2_000): void {
    if (!this.#up) return
    this.#up = false
    this.#reconciler.stop()
    this.#operations.drop(failure('Unavailable', 'Unavailable', 'The core agent is not available'))
    const cancel = this.#cluster.clock.after(downMs, () => {
      this.#timers.delete(cancel)
      this.#up = true
      restart(this.#cluster, this.#operations)
      for (const node of this.#cluster.nodes.values()) reportNode(node)
      this.#reconciler.start()
      this.#reconciler.trigger()
    })
    this.#timers.add(cancel)
  }

  /** An instant change of one volume, refused while another operation holds it. */
  #change(uuid: string, apply: (volume: Volume) => Failure | undefined): Failure | undefined {
    const volume = this.#cluster.volumes.get(uuid)
    if (volume === undefined) return notFound(uuid)
    return this.#operations.isLocked(volume) ? conflict(volume) : apply(volume)
  }

  #volume(uuid: string): Volume {
    return found(this.#cluster.volumes.get(uuid), `volume ${uuid}`)
  }

  #node(id: string): Node {
    return found(this.#cluster.nodes.get(id), `node ${id}`)
  }

  #pool(id: string): Pool {
    return found(this.#cluster.pools.get(id), `pool ${id}`)
  }
}

function found<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`there is no ${what}`)
  return value
}
