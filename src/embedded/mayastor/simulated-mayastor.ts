import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { SimulatedClock } from '../clock.js'
import { cordonNode, drainNode, labelPool, setPoolCordon, uncordonNode, unlabelPool } from './cordon.js'
import type { MayastorEvent } from './event.js'
import { type Failure, failure, notFound } from './failure.js'
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
import { faultChild, loseNode, loseReplica, returnNode } from './nexus.js'
import { type Operation, Operations, volumeLock } from './operations.js'
import { candidates } from './placement.js'
import { drainPool, releaseDrain } from './pool-drain.js'
import { type Choose, Random } from './random.js'
import { Reconciler, restart } from './reconcile.js'
import { putReplica } from './replicas.js'
import { buildRest, type Write } from './rest.js'
import { completeUpdate, startUpdate } from './store.js'
import type { Truth } from './truth.js'
import { reportNode, reportPool } from './view.js'
import { operationFor, putTarget, type Request } from './workload.js'

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
  maxPoolDrains: 1,
} as const satisfies Settings

/** A node is polled at one of this many points of its period. */
const POLL_PHASES = 30

/** As CSI makes volumes: on pools that came from a DiskPool. */
const csiTopology: Topology = {
  pool_topology: { labelled: { inclusion: { [CREATED_BY]: DISKPOOL_OPERATOR }, exclusion: {} } },
}

export interface MayastorOptions extends Partial<Settings> {
  readonly clock: SimulatedClock
  /** The same seed gives the same uuids, phases and ties. */
  readonly seed?: number
  /** Decides in place of the seed whatever the real thing leaves open. */
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
  readonly truth: Truth
  #app: FastifyInstance | undefined
  #up = true

  constructor({ clock, seed = 1, choose, ...settings }: MayastorOptions) {
    this.clock = clock
    const ties = new Random(~seed)
    const { faults } = this
    const decide = choose ?? ties.choose
    this.#cluster = new Cluster(clock, { ...defaults, ...settings }, new Random(seed), decide, faults)
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
      isUp: () => this.#up,
    })
    return this.#app
  }

  async stop(): Promise<void> {
    this.#reconciler.stop()
    this.#cluster.stopTimers()
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
    const { settings, nodes } = this.#cluster
    const node = new Node(id, nodes.size, version, labels)
    nodes.set(id, node)
    reportNode(node)
    this.#cluster.emit('node-added', { node: id })
    // Each node is polled on a phase of its own.
    const phases = Array.from({ length: POLL_PHASES }, (_, i) => ((i + 1) * settings.cachePeriodMs) / POLL_PHASES)
    const poll = () => {
      if (this.#up) reportNode(node)
      this.#cluster.after(settings.cachePeriodMs, poll)
    }
    this.#cluster.after(this.#cluster.choose('poll-phase', phases), poll)
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

  /** A volume as if it had always been there, with its data, wherever its replicas are. */
  createVolume(v: VolumeOptions): void {
    const thin = v.thin ?? true
    const numReplicas = typeof v.replicas === 'number' ? v.replicas : v.replicas.length
    const volume = new Volume({
      uuid: v.uuid,
      sizeBytes: v.sizeBytes,
      numReplicas,
      thin,
      topology: v.topology ?? csiTopology,
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
    this.#cluster.addVolume(volume)
    this.#cluster.emit('volume-created', { volume: v.uuid, by: 'person' })
    for (let i = 0; i < (v.snapshots ?? 0); i++) this.snapshot(v.uuid)
    const [first] = volume.replicas
    const node = v.targetNode ?? first?.node.id
    if (v.published !== false && node !== undefined) {
      putTarget(this.#cluster, volume, this.#node(node))
    } else if (writtenBytes > 0) {
      // Who has data had a target once.
      const healthy = new Map([...volume.replicas].map((replica) => [replica.uuid, true]))
      volume.nexusInfo = { cleanShutdown: true, healthy }
    }
  }

  /** Something people or Kubernetes ask for. It takes its time, collides with others, and shows as the operation it is. */
  request(request: Request): Operation {
    const { kind, uuid, body } = operationFor(this.#cluster, this.#operations, request)
    return this.#operations.start(kind, uuid, 'person', body)
  }

  /** The same at one instant, for whoever does not care how long it takes. */
  #now(request: Request): Failure | undefined {
    const { kind, uuid, body } = operationFor(this.#cluster, this.#operations, request)
    return this.#operations.run(kind, uuid, 'person', body)
  }

  publish(uuid: string, node?: string): Failure | undefined {
    return this.#now({ kind: 'publish', uuid, node })
  }

  unpublish(uuid: string): Failure | undefined {
    return this.#now({ kind: 'unpublish', uuid })
  }

  /** Failover or republish: cleanly if the old target's node is there, else from one healthy replica. */
  moveTarget(uuid: string, node?: string): Failure | undefined {
    return this.#now({ kind: 'republish', uuid, node })
  }

  destroyVolume(uuid: string): Failure | undefined {
    return this.#now({ kind: 'destroy', uuid })
  }

  /** Takes a snapshot on every replica; what is written until now belongs to it. */
  snapshot(uuid: string, snapshot?: string): Failure | undefined {
    return this.#now({ kind: 'create-snapshot', uuid, snapshot })
  }

  destroySnapshot(uuid: string, snapshot?: string): Failure | undefined {
    return this.#now({ kind: 'destroy-snapshot', uuid, snapshot })
  }

  resize(uuid: string, sizeBytes: number): Failure | undefined {
    return this.#now({ kind: 'resize', uuid, sizeBytes })
  }

  setSelfHeal(uuid: string, selfHeal: boolean): Failure | undefined {
    return this.#now({ kind: 'set-property', uuid, selfHeal })
  }

  /** Another person's replica_count call; it takes its time as if it had come over REST. */
  setReplicaCount(uuid: string, count: number): Operation {
    return this.request({ kind: 'set-replicas', uuid, count })
  }

  /** An operation of some kind that does nothing but hold the volume for a while. */
  occupy(uuid: string, kind: string, durationMs: number): Operation {
    const cluster = this.#cluster
    const operations = this.#operations
    return operations.start(kind, uuid, 'person', function* (operation) {
      const volume = cluster.volumes.get(uuid)
      if (volume === undefined) return notFound('Volume', uuid)
      return yield* operations.holding(operation, volumeLock(volume), function* () {
        const refused = startUpdate(cluster, volume, kind, 'person')
        if (refused !== undefined) return refused
        yield { step: kind, ms: durationMs }
        return completeUpdate(cluster, volume, 'person', undefined)
      })
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
    this.#cluster.emit('node-version', { node: id, reason: version })
  }

  /** Heard of at the next poll of its node. */
  setPoolStatus(id: string, status: PoolStatus): void {
    const pool = this.#pool(id)
    pool.status = status
    this.#cluster.emit('pool-status', { pool: id, node: pool.node.id, reason: status })
  }

  /** Whether the io-engine has the pool at all; without it what is on it is gone for the nexuses, too. */
  setPoolImported(id: string, imported: boolean): void {
    const pool = this.#pool(id)
    if (imported === pool.imported) return
    pool.imported = imported
    this.#cluster.emit(imported ? 'pool-imported' : 'pool-exported', { pool: id, node: pool.node.id })
    if (!imported) for (const replica of pool.replicas) loseReplica(this.#cluster, replica)
  }

  /** Space taken on the pool by something that is not one of our volumes. */
  setOtherBytes(id: string, bytes: number): void {
    this.#pool(id).otherBytes = bytes
  }

  /** The nexus cannot write to this replica any more (with `OutOfSpace`: its pool is full), nor to a log without `log`. */
  faultReplica(uuid: string, reason?: 'OutOfSpace', log?: boolean): void {
    const replica = this.#cluster.replicas.get(uuid)
    const nexus = replica?.owner?.nexus
    const child = replica && nexus?.childOf(replica)
    if (nexus && child) faultChild(this.#cluster, nexus, child, reason, log)
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

  /** Mayastor's own drain, which no release has yet: from 2.13 on here. */
  drainPool(id: string, acceptSnapshotLoss = false): Failure | undefined {
    return drainPool(this.#cluster, this.#pool(id), acceptSnapshotLoss)
  }

  releasePoolDrain(id: string): Failure | undefined {
    return releaseDrain(this.#cluster, this.#pool(id))
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
    this.#cluster.emit('core-stopped', {})
    this.#cluster.after(downMs, () => {
      this.#up = true
      restart(this.#cluster)
      for (const node of this.#cluster.nodes.values()) reportNode(node)
      this.#reconciler.start()
      this.#reconciler.trigger()
    })
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
