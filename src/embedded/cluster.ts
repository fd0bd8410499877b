import { readFileSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { type Logger, pino } from 'pino'
import { parse } from 'yaml'
import { API_VERSION, DEFAULT_DISKPOOL_API_VERSION, HOLD_LABEL, MAYASTOR_CSI_DRIVER } from '../api/names.js'
import type { StoragePolicySpec } from '../api/storage-policy.js'
import { formatTime } from '../api/time.js'
import {
  type Discovery,
  type DiskPoolVersion,
  discoverDiskPools,
  diskPoolVersion,
} from '../clients/diskpool-version.js'
import { type EventWriter, eventObject } from '../clients/events.js'
import { type LeaseStore, memoryLeases } from '../clients/leases.js'
import type { PolicyOptions } from '../decide/policy.js'
import { createMetrics, type Metrics } from '../metrics.js'
import { type Network, SimulatedClock } from './clock.js'
import { type Edge, HookProcess } from './hook-process.js'
import { CREATED_BY, DISKPOOL_OPERATOR, type MayastorOptions, SimulatedMayastor } from './mayastor/index.js'
import {
  ApiError,
  type CompositeController,
  Metacontroller,
  type MetacontrollerOptions,
  ObjectStore,
  type Post,
} from './metacontroller/index.js'
import { EmbeddedPrometheus } from './prometheus/server.js'

/**
 * The whole loop in one process: the real hook server between a simulated Mayastor, a Metacontroller stand-in and a
 * Prometheus stand-in, on simulated time, over real HTTP on loopback ports or, where thousands of runs have to be the
 * same each time, without sockets.
 */

const SCRAPE_MS = 30_000
/** How often the DiskPool resources are brought up to date, as Mayastor's own operator does. */
const POOL_STATUS_MS = 30_000
/** Time that passes between two looks at a server that is being stopped. */
const STOP_MS = 100
/** Who writes Events. */
const OPERATOR = 'smart-storage-operator'
const ROOT = new URL('../../../', import.meta.url)
export const GIB = 1024 ** 3

/** Operations per second of a volume at a time (milliseconds since the epoch); undefined: it exports no series. */
export type Load = (atMs: number) => { readonly read: number; readonly write: number } | undefined

export interface PoolOptions {
  readonly name: string
  readonly node: string
  readonly capacityBytes: number
  /** On the DiskPool, as `spec.topology.labelled`, and on the pool in Mayastor. */
  readonly labels: Readonly<Record<string, string>>
}

export interface VolumeOptions {
  readonly uuid: string
  readonly sizeBytes: number
  /** Pools of its replicas. */
  readonly pools: readonly string[]
  readonly storageClass: string
  readonly load: Load
  /** Default true. */
  readonly published?: boolean
  /** Default true, with half of the size allocated. */
  readonly thin?: boolean
  readonly allocatedBytes?: number
  readonly snapshots?: number
  readonly affinityGroup?: string
  /** Labels its pools must have, beside the one that all volumes ask for. */
  readonly pinnedTo?: Readonly<Record<string, string>>
  /** Node label in which its replicas must differ. */
  readonly spreadOver?: string
  /** The label that keeps a volume where it is. */
  readonly heldByOwner?: boolean
  /** Age of the persistent volume when it is added. Default one day. */
  readonly ageMs?: number
}

export interface ClusterOptions {
  /** Default 2026-01-01T00:00:00Z. */
  readonly startMs?: number
  readonly seed?: number
  readonly options?: Partial<PolicyOptions>
  readonly mayastor?: Partial<Omit<MayastorOptions, 'clock'>>
  readonly staleness?: MetacontrollerOptions['staleness']
  /** Version of the DiskPool resources that `addPool` makes. Default: that of current Mayastor. */
  readonly diskPoolApiVersion?: string
  /** Where they are. Default `openebs`. */
  readonly diskPoolNamespace?: string
  /** Default: silent. */
  readonly log?: Logger
  /** Default: loopback. */
  readonly network?: Network
  /** Comes between the operator's processes and everybody they talk to; in memory only. */
  readonly edge?: Edge
  /** Default: kept in memory. */
  readonly leases?: LeaseStore
}

export class EmbeddedCluster {
  readonly clock: SimulatedClock
  readonly store: ObjectStore
  readonly mayastor: SimulatedMayastor
  readonly prometheus: EmbeddedPrometheus
  readonly leases: LeaseStore
  readonly metrics: Metrics = createMetrics({ version: 'embedded', runtime: false })
  readonly #log: Logger
  readonly #staleness: MetacontrollerOptions['staleness']
  readonly #loads = new Map<string, Load>()
  readonly #counters = new Map<string, { node: string; read: number; write: number }>()
  readonly #network: Network
  readonly #edge: Edge | undefined
  readonly #diskPools: { apiVersion: string; namespace: string }
  readonly #diskPoolVersion: DiskPoolVersion
  #options: PolicyOptions
  #metacontroller: Metacontroller | undefined
  #process: HookProcess | undefined
  #started = 0
  #mayastorUrl = 'http://mayastor'
  #prometheusUrl = 'http://prometheus'
  #hookUrl = ''
  /** Picks the process that takes a hook call, in memory; undefined: nobody listens. Default: the one started last. */
  route: () => HookProcess | undefined = () => this.#process
  /** Whether the API server answers Metacontroller. */
  apiServerUp = true

  constructor(cluster: ClusterOptions = {}) {
    const { startMs = Date.UTC(2026, 0, 1), seed = 1, options = {}, mayastor = {}, network = 'loopback' } = cluster
    this.#network = network
    this.#edge = cluster.edge
    this.leases = cluster.leases ?? memoryLeases()
    this.clock = new SimulatedClock(startMs, network)
    this.#options = {
      dryRun: false,
      preservationMode: false,
      maxConcurrentMigrations: 2,
      migrationTimeoutMinutes: 30,
      ...options,
    }
    this.store = new ObjectStore({ clock: this.clock, seed, schemas: crds() })
    this.mayastor = new SimulatedMayastor({ seed, ...mayastor, clock: this.clock })
    this.prometheus = new EmbeddedPrometheus({ clock: this.clock })
    this.#log = cluster.log ?? pino({ level: 'silent' })
    this.#staleness = cluster.staleness
    this.#diskPools = {
      apiVersion: cluster.diskPoolApiVersion ?? DEFAULT_DISKPOOL_API_VERSION,
      namespace: cluster.diskPoolNamespace ?? 'openebs',
    }
    this.#diskPoolVersion = diskPoolVersion({
      fixed: undefined,
      discover: () => discoverDiskPools(this.#discovery()),
      clock: this.clock,
    })
  }

  get hookUrl(): string {
    return this.#hookUrl
  }

  get metacontroller(): Metacontroller {
    if (this.#metacontroller === undefined) throw new Error('the cluster has not been started')
    return this.#metacontroller
  }

  addNode(id: string, labels: Readonly<Record<string, string>> = {}): void {
    this.mayastor.addNode({ id, labels })
  }

  addPool({ name, node, capacityBytes, labels }: PoolOptions): void {
    this.mayastor.addPool({ id: name, node, capacityBytes, labels })
    this.#seedDiskPool(name, node, labels)
  }

  /** Deletes the CRD of the DiskPools, and so the DiskPools, as uninstalling Mayastor does; its data stays. */
  removeDiskPools(): void {
    this.store.uninstall(this.#diskPools.apiVersion, 'diskpools')
  }

  /** Serves the DiskPools that Mayastor has as `apiVersion`, and no other. */
  serveDiskPools(apiVersion: string): void {
    this.removeDiskPools()
    this.#diskPools.apiVersion = apiVersion
    for (const { id, node, labels } of this.mayastor.truth.pools.values()) {
      this.#seedDiskPool(id, node.id, Object.fromEntries(labels))
    }
  }

  #seedDiskPool(name: string, node: string, labels: Readonly<Record<string, string>>): void {
    const { apiVersion, namespace } = this.#diskPools
    this.store.seed({
      apiVersion,
      kind: 'DiskPool',
      metadata: { name, namespace },
      spec: { node, disks: [`/dev/${name}`], topology: { labelled: labels } },
    })
  }

  addVolume(volume: VolumeOptions): void {
    const { uuid, sizeBytes, pools, storageClass, thin = true, published = true, ageMs = 86_400_000 } = volume
    this.mayastor.createVolume({
      uuid,
      sizeBytes,
      replicas: pools.map((pool) => ({ pool })),
      thin,
      allocatedBytes: volume.allocatedBytes ?? (thin ? sizeBytes / 2 : sizeBytes),
      published,
      snapshots: volume.snapshots ?? 0,
      ...(volume.affinityGroup === undefined ? {} : { affinityGroup: volume.affinityGroup }),
      topology: {
        pool_topology: {
          labelled: { inclusion: { [CREATED_BY]: DISKPOOL_OPERATOR, ...volume.pinnedTo }, exclusion: {} },
        },
        ...(volume.spreadOver === undefined
          ? {}
          : { node_topology: { labelled: { inclusion: {}, exclusion: { [volume.spreadOver]: '' } } } }),
      },
    })
    const name = `pvc-${uuid}`
    const claim = { namespace: 'default', name: `data-${uuid}` }
    const { metadata } = this.store.seed({
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { ...claim, ...(volume.heldByOwner ? { labels: { [HOLD_LABEL]: 'true' } } : {}) },
      spec: { storageClassName: storageClass, volumeName: name },
    })
    this.store.seed({
      apiVersion: 'v1',
      kind: 'PersistentVolume',
      metadata: { name, creationTimestamp: formatTime(this.clock.now() - ageMs) },
      spec: {
        storageClassName: storageClass,
        capacity: { storage: String(sizeBytes) },
        csi: { driver: MAYASTOR_CSI_DRIVER, volumeHandle: uuid },
        claimRef: { kind: 'PersistentVolumeClaim', ...claim, uid: metadata.uid },
      },
    })
    this.#loads.set(uuid, volume.load)
  }

  addPolicy(name: string, spec: Partial<StoragePolicySpec>): void {
    this.store.create({
      apiVersion: API_VERSION,
      kind: 'StoragePolicy',
      metadata: { name },
      spec: {
        nvmePoolSelector: { matchLabels: { tier: 'nvme' } },
        sataPoolSelector: { matchLabels: { tier: 'sata' } },
        ...spec,
      },
    })
  }

  /** Starts everything but Metacontroller, and lets `historyMs` of samples gather. */
  async start(historyMs: number): Promise<void> {
    if (this.#network === 'loopback') {
      this.#mayastorUrl = await this.mayastor.start()
      this.#prometheusUrl = await this.prometheus.start()
    }
    this.#scrape()
    this.#reportPools()
    this.#diskPoolVersion.start()
    await this.startServer()
    await this.run(historyMs)
  }

  /** Starts the controllers of manifests/, pointed at this cluster's hook server. */
  startMetacontroller(): void {
    this.#metacontroller = new Metacontroller({
      clock: this.clock,
      store: this.store,
      controllers: ['storage-policy', 'replica-topology'].map((name) => manifest(`controllers/${name}.yaml`)),
      baseUrl: this.#hookUrl,
      ...(this.#staleness === undefined ? {} : { staleness: this.#staleness }),
      ...(this.#network === 'memory' ? { post: (request) => this.post(request) } : {}),
      reachable: () => this.apiServerUp,
    })
    this.#metacontroller.start()
  }

  /** One hook call, without a socket. */
  readonly post: Post = async (request) => {
    const process = this.route()
    if (process === undefined) throw new Error('connect ECONNREFUSED')
    return process.handle(request)
  }

  /** Lets simulated time pass. */
  async run(ms: number, stop?: () => boolean, pace?: (jumpMs: number) => Promise<void>): Promise<void> {
    await this.clock.run(this.clock.now() + ms, stop, pace)
  }

  async stop(): Promise<void> {
    await this.#metacontroller?.stop()
    await this.stopServer()
    await Promise.all([this.mayastor.stop(), this.prometheus.stop()])
  }

  /** Stops the hook server as SIGTERM does: calls under way finish, which takes simulated time. */
  async stopServer(): Promise<void> {
    let stopped = false
    const closing = this.#process?.stop().finally(() => {
      stopped = true
    })
    while (!stopped && closing !== undefined) {
      await this.run(STOP_MS, () => stopped)
      await setImmediate()
    }
    await closing
    this.#process = undefined
  }

  /** Starts the hook server, at its old address where it had one; `options` replace those given before. */
  async startServer(options: Partial<PolicyOptions> = {}): Promise<void> {
    this.#options = { ...this.#options, ...options }
    this.#process = await this.startProcess()
  }

  /** Starts a process of the operator. `skewMs`: how far its wall clock is ahead. */
  async startProcess({ skewMs = 0 } = {}): Promise<HookProcess> {
    const process = new HookProcess({
      name: `operator-${++this.#started}`,
      clock: this.clock,
      skewMs,
      network: this.#network,
      mayastor: this.mayastor,
      mayastorUrl: this.#mayastorUrl,
      prometheus: this.prometheus,
      prometheusUrl: this.#prometheusUrl,
      leases: this.leases,
      events: this.#eventWriter(),
      diskPools: this.#diskPoolVersion,
      metrics: this.metrics,
      log: this.#log,
      options: this.#options,
      ...(this.#edge === undefined ? {} : { edge: this.#edge }),
    })
    this.#hookUrl = await process.start(this.#hookUrl === '' ? 0 : Number(new URL(this.#hookUrl).port))
    return process
  }

  #discovery(): Discovery {
    const serves = (version: string) => this.store.resource(`openebs.io/${version}`, 'diskpools') !== undefined
    return {
      versions: async () => ['v1beta3', 'v1beta2'].filter(serves),
      resources: async (_group, version) => (serves(version) ? ['diskpools'] : []),
    }
  }

  #eventWriter(): EventWriter {
    return {
      write: async (event) => {
        try {
          this.store.create(eventObject(event, this.clock.now()), OPERATOR)
          return { outcome: 'created' }
        } catch (error) {
          if (error instanceof ApiError && error.reason === 'AlreadyExists') return { outcome: 'exists' }
          throw error
        }
      },
    }
  }

  /** One scrape of every io-engine: counters grow by the load since the last one, and restart where a target moved. */
  #scrape(): void {
    const now = this.clock.now()
    const series: { name: string; labels: Record<string, string>; value: number }[] = []
    for (const [uuid, load] of this.#loads) {
      const node = this.mayastor.truth.volumes.get(uuid)?.nexus?.node.id
      const rate = load(now)
      if (node === undefined || rate === undefined) continue
      const before = this.#counters.get(uuid)
      const counter = before?.node === node ? before : { node, read: 0, write: 0 }
      counter.read += Math.round((rate.read * SCRAPE_MS) / 1000)
      counter.write += Math.round((rate.write * SCRAPE_MS) / 1000)
      this.#counters.set(uuid, counter)
      const labels = { node, pv_name: `pvc-${uuid}` }
      series.push({ name: 'volume_num_read_ops', labels, value: counter.read })
      series.push({ name: 'volume_num_write_ops', labels, value: counter.write })
    }
    this.prometheus.scrape(now, series)
    this.clock.after(SCRAPE_MS, () => this.#scrape())
  }

  #reportPools(): void {
    for (const pool of this.mayastor.truth.pools.values()) {
      const found = this.store.get({ kind: 'DiskPool', name: pool.id, ...this.#diskPools })
      if (found === undefined) continue
      const status = {
        cr_state: 'Created',
        pool_status: pool.node.online ? 'Online' : 'Unknown',
        capacity: pool.capacityBytes,
        used: pool.allocatedBytes,
        available: pool.freeBytes,
      }
      this.store.replaceStatus({ ...found, status })
    }
    this.clock.after(POOL_STATUS_MS, () => this.#reportPools())
  }
}

function crds(): never[] {
  return ['storagepolicies', 'replicatopologies'].map((name) => manifest(`crds/${name}.storage.billyronks.io.yaml`))
}

const manifests = new Map<string, unknown>()

/** A copy of its own of a manifest, which is read and parsed once. */
function manifest<T extends CompositeController>(path: string): T {
  const known = manifests.get(path) ?? parse(readFileSync(new URL(`manifests/${path}`, ROOT), 'utf8'))
  manifests.set(path, known)
  return structuredClone(known) as T
}
