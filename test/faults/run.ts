import { API_VERSION, RELEASE_ANNOTATION, RESUME_ANNOTATION } from '../../src/api/names.js'
import type { ReplicaTopologySpec, ReplicaTopologyStatus } from '../../src/api/replica-topology.js'
import type { StoragePolicySpec, StoragePolicyStatus } from '../../src/api/storage-policy.js'
import { LeaseError, type LeaseStore, memoryLeases, type StoredLease } from '../../src/clients/leases.js'
import { Checker, type Violation } from '../../src/embedded/checker.js'
import { EmbeddedCluster, GIB, type Load } from '../../src/embedded/cluster.js'
import type { EdgeCall, HookProcess } from '../../src/embedded/hook-process.js'
import {
  type Choice,
  type CordonBits,
  CREATED_BY,
  DISKPOOL_OPERATOR,
  type Failure,
  type NewVolume,
  type Pool,
  Random,
  type Replica,
  type Request,
  type Volume,
} from '../../src/embedded/mayastor/index.js'
import type { HookExchange, KubeObject, Named } from '../../src/embedded/metacontroller/index.js'
import type { Outage } from '../../src/embedded/prometheus/server.js'
import { isHeldForCause, isKeptForCause } from './causes.js'
import { type Kind, OF_REQUEST, OF_SWAP, strike } from './kinds.js'
import { type JournalRecord, type Moment, type Place, Places, type Row } from './rows.js'
import type { FaultSpec, Scenario, VolumeSpec } from './scenario.js'

/** One scenario played on the embedded cluster: the faults strike, stop, and everything has to come to rest. */

const SECOND = 1000
const MINUTE = 60 * SECOND
const HISTORY_MS = 11 * MINUTE
export const COOLDOWN_MS = 60 * MINUTE
/** A fault that found no place to strike at by then is passed over. */
const PATIENCE_MS = 15 * MINUTE
/** Longest time of faults, and until everything has to be at rest after they stop. */
const FAULTS_MS = 150 * MINUTE
const REST_MS = 180 * MINUTE
/** Nothing moves for so long: nothing wants to. */
const QUIET_MS = 10 * MINUTE
/** Until what was measured before the faults stopped starts nothing any more. */
const STILL_MS = 12 * MINUTE
const WATCH_MS = 5 * SECOND
/** How often a person looks for what waits for them. */
const LOOK_MS = MINUTE
/** As whom the run itself writes to the API server. */
const PERSON = 'kubectl'
/** People and Kubernetes ask again after so long. */
const AGAIN_MS = 10 * SECOND
const HOOK_TIMEOUT_MS = 15 * SECOND
const RECORDED = 200
/** The most a write may come after the read it rests on. */
const WINDOW_MS = 5 * SECOND

export interface Result {
  readonly violations: readonly Violation[]
  /** `row fault kind`, as often as it struck. */
  readonly hits: ReadonlyMap<string, number>
  readonly migrations: readonly Ended[]
  /** Volumes whose migration was Held at some time. */
  readonly wereHeld: readonly string[]
  /** Volumes that are not where they belong although nothing that can be seen keeps them from it. */
  readonly idle: readonly string[]
}

export interface Ended {
  readonly id: string
  readonly phase: string
  readonly reason: string
  readonly started: boolean
}

/** What a fault is told of the moment it strikes at. */
export interface Strike {
  readonly volume: string
  readonly process: HookProcess
  readonly request: Slot<RequestEffect>
  readonly swap: Slot<SwapEffect>
}

export type RequestEffect =
  | { readonly kind: 'lost' | 'answer lost' | 'reset' }
  | { readonly kind: 'late'; readonly ms: number }
  | { readonly kind: 'answer' | 'answer meanwhile'; readonly status: number; readonly error: string }
export type OnPlace = (run: FaultRun, place: Place, moment: Moment | undefined, about: Omit<Strike, 'volume'>) => void
export type SwapEffect = 'conflict' | 'answer lost' | 'lost' | 'late'

/** Takes one effect, as long as it can still have one. */
export class Slot<T> {
  value: T | undefined
  readonly #takes: (value: T) => boolean
  #isOpen = true

  constructor(takes: (value: T) => boolean) {
    this.#takes = takes
  }

  set(value: T): boolean {
    if (!this.#isOpen || this.value !== undefined || !this.#takes(value)) return false
    this.value = value
    return true
  }

  close(): void {
    this.#isOpen = false
  }
}

const POLICIES: readonly string[] = ['default', 'second']

export class FaultRun {
  readonly cluster: EmbeddedCluster
  readonly checker: Checker
  readonly places = new Places()
  readonly #scenario: Scenario
  readonly #random: Random
  readonly #leases: LeaseStore
  readonly #processes = new Set<HookProcess>()
  readonly #hits = new Map<string, number>()
  readonly #ended = new Map<string, Ended>()
  readonly #reverts = new Set<() => void>()
  readonly #recorded: Recorded[] = []
  readonly #loads = new Map<string, 'hot' | 'cold' | 'between'>()
  readonly #classes = new Map<string, string>()
  readonly #reads = new Map<string, number>()
  readonly #announced = new Map<string, { readonly at: number; readonly data: string }>()
  readonly #held = new Set<string>()
  /** Volumes that the run has taken away. */
  readonly #taken = new Set<string>()
  /** Replicas that Mayastor has made by itself, by volume. */
  readonly #replaced = new Map<string, number>()
  readonly #wereHeld = new Set<string>()
  readonly #away = { apiServer: false, mayastor: false }
  /** What is out of order now, so that it is not put out of order again. */
  readonly #lasting = new Set<string>()
  #isStale = false
  /** Events of Mayastor so far. */
  #events = 0
  #say: ((line: string) => void) | undefined
  #created = 0
  #next = 0
  #skipped = 0
  #armedAt = 0
  #struckAt = 0
  #movedAt = 0
  #calm = false
  #stopped = false

  readonly #ties: Random
  /** The pool that a replica left last. */
  #left: string | undefined

  readonly #onPlace: OnPlace | undefined

  /** `onPlace` sees every request and swap that is about a move, and may do something there. */
  constructor(scenario: Scenario, onPlace?: OnPlace) {
    this.#scenario = scenario
    this.#onPlace = onPlace
    this.#random = new Random(scenario.seed)
    this.#ties = new Random(~scenario.seed)
    this.#leases = this.#observed(memoryLeases())
    this.cluster = new EmbeddedCluster({
      network: 'memory',
      seed: scenario.seed,
      leases: this.#leases,
      edge: (call, send) => this.#edge(call, send),
      staleness: () => (this.#isStale ? this.#random.below(20_000) : 0),
      mayastor: {
        rebuildBytesPerSecond: scenario.rebuildMiBPerSecond * 1024 ** 2,
        healthyPersistDelayMs: scenario.healthyDelay * SECOND,
        version: scenario.faults.some(({ kind }) => kind === 'pool drained') ? DRAINS_POOLS : '2.10.0',
        choose: (what, options) => this.#choose(what, options),
      },
      options: { maxConcurrentMigrations: scenario.clusterLimit, preservationMode: scenario.preservation },
    })
    this.cluster.route = () => {
      const listening = [...this.#processes].filter(({ alive }) => alive)
      return listening[this.#random.below(Math.max(1, listening.length))]
    }
    this.cluster.store.watch((event) => {
      const isGoing = event.object.metadata.deletionTimestamp !== undefined
      if (event.type === 'MODIFIED' && isGoing && event.old.metadata.deletionTimestamp === undefined) {
        this.#goes(event.object)
      }
      if (event.type === 'DELETED' && !isGoing) this.#goes(event.object)
    })
    this.cluster.mayastor.onEvent(({ kind, pool, volume = '', by }) => {
      this.#events++
      if (kind === 'replica-created' && by !== 'set-replica' && by !== 'person') {
        this.#replaced.set(volume, (this.#replaced.get(volume) ?? 0) + 1)
      }
      if (kind === 'replica-disowned') this.#left = pool
    })
    this.checker = new Checker(this.cluster.mayastor, {
      maxMoving: scenario.clusterLimit,
      cooldownMs: COOLDOWN_MS,
      tierOf: (pool) => (pool.startsWith('nvme') ? 'NVMe' : pool.startsWith('sata') ? 'SATA' : undefined),
      exempt: (volume) => this.#held.has(volume),
      canClean: () => this.#canClean(),
    })
  }

  /** Deletion of an object begins: that of a ReplicaTopology only where its policy, its volume or its claim goes. */
  #goes(object: KubeObject): void {
    const { store, mayastor } = this.cluster
    if (object.kind !== 'ReplicaTopology' || store.writes.at(-1)?.by === PERSON) return
    const { volumeID } = object.spec as unknown as ReplicaTopologySpec
    const owners = (object.metadata.ownerReferences ?? []).map(({ uid }) => uid)
    const objects: readonly Named[] = [
      { apiVersion: 'v1', kind: 'PersistentVolume', name: `pvc-${volumeID}` },
      { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace: 'default', name: `data-${volumeID}` },
    ]
    const isThere = (named: Named) => {
      const found = store.get(named)
      return found !== undefined && found.metadata.deletionTimestamp === undefined
    }
    const policies = store.list(API_VERSION, 'StoragePolicy').filter(({ metadata }) => owners.includes(metadata.uid))
    const isWanted = policies.some(isThere) && objects.every(isThere)
    if (!isWanted || this.#taken.has(volumeID) || !mayastor.truth.volumes.has(volumeID)) return
    this.checker.report('no ReplicaTopology is deleted by accident', `${object.metadata.name} is deleted`)
  }

  /** As it falls, but that a replica likes to come back where one has just left: it is not to be taken for that one. */
  #choose<T>(what: Choice, options: readonly T[]): T {
    const left = what === 'placement' && options.find((pool) => (pool as Pool).id === this.#left)
    return left && this.#ties.below(4) > 0 ? left : this.#ties.choose(what, options)
  }

  /** `onLine` is told what happens, for people. */
  async play(onLine?: (line: string) => void): Promise<Result> {
    const { cluster, checker } = this
    this.#say = onLine
    if (onLine !== undefined) {
      cluster.mayastor.onEvent(({ at: _, kind, ...event }) => {
        this.#say?.(
          `  ${kind} ${Object.entries(event)
            .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
            .join(' ')}`,
        )
      })
    }
    this.#populate()
    await cluster.start(HISTORY_MS)
    await cluster.stopServer()
    for (const skew of this.#scenario.skews) await this.#startProcess(skew)
    this.#startMetacontroller()
    this.#armedAt = cluster.clock.now()
    this.#struckAt = this.#armedAt
    this.#watch()
    if (this.#scenario.echo) this.#echo()
    await cluster.run(FAULTS_MS, () => this.#over())
    const wanted = this.#scenario.faults.length === 0 && !this.#scenario.preservation
    const idle = wanted ? this.#idle() : []
    this.#settle()
    await cluster.run(STILL_MS)
    await cluster.run(REST_MS, () => this.#atRest())
    for (const problem of this.#unrest()) checker.report('everything comes to rest', problem)
    checker.atRest(cluster.clock.now())
    for (const violation of cluster.metacontroller.violations) checker.report("Metacontroller's contract", violation)
    this.#stopped = true
    await cluster.stop()
    const [migrations, wereHeld] = [[...this.#ended.values()], [...this.#wereHeld]]
    return { violations: checker.violations, hits: this.#hits, migrations, wereHeld, idle }
  }

  // --- what there is

  #populate(): void {
    const { nodes, zoned, volumes, policies } = this.#scenario
    nodes.forEach(({ nvme, sata }, index) => {
      const node = `node-${index + 1}`
      this.cluster.addNode(node, { rack: `rack-${index}`, ...(zoned ? { [ZONE]: `zone-${index % 3}` } : {}) })
      if (nvme > 0) this.#addPool(`nvme-${index + 1}`, node, nvme)
      if (sata > 0) this.#addPool(`sata-${index + 1}`, node, sata)
    })
    for (const index of policies.keys()) this.#addPolicy(index)
    for (const volume of volumes) this.#addVolume(volume)
  }

  #addPool(name: string, node: string, gib: number): void {
    this.cluster.addPool({ name, node, capacityBytes: gib * GIB, labels: { tier: name.split('-')[0] ?? '' } })
  }

  #addPolicy(index: number): void {
    const { limit, timeoutMinutes, hardTimeout } = this.#scenario.policies[index] ?? {}
    const name = POLICIES[index] ?? 'default'
    const spec: Partial<StoragePolicySpec> = {
      storageClassName: name,
      samplingWindow: '10m',
      cooldownPeriod: '1h',
      maxConcurrentMigrations: limit ?? 1,
      migrationTimeout: `${timeoutMinutes ?? 10}m`,
      ...(hardTimeout ? { migrationHardTimeout: '40m' } : {}),
    }
    this.cluster.addPolicy(name, spec)
  }

  /** Leaves the volume out where the cluster has no place for it. */
  #addVolume({ gib, thin, replicas, on, load, first, policy, oddity }: VolumeSpec): boolean {
    const { pools } = this.cluster.mayastor.truth
    const sizeBytes = gib * GIB
    const wanted = Array.from({ length: replicas }, (_, i) => (on === 'mixed' ? (i === 0 ? 'nvme' : 'sata') : on))
    const taken: string[] = []
    const names = [...pools.values()].map((pool) => pool.id).sort()
    const turned = [...names.slice(first % names.length), ...names.slice(0, first % names.length)]
    for (const tier of wanted) {
      const pool = turned.find((name) => {
        const candidate = pools.get(name)
        const free = candidate !== undefined && candidate.freeBytes > 2 * sizeBytes && candidate.node.online
        return free && name.startsWith(tier) && !taken.some((other) => pools.get(other)?.node === candidate.node)
      })
      if (pool === undefined) return false
      taken.push(pool)
    }
    const uuid = this.#newUuid()
    const storageClass = POLICIES[policy % this.#scenario.policies.length] ?? 'default'
    this.#loads.set(uuid, load)
    this.#classes.set(uuid, storageClass)
    this.cluster.addVolume({
      uuid,
      sizeBytes,
      thin,
      pools: taken,
      storageClass,
      load: this.#load(uuid),
      published: oddity !== 'unpublished',
      snapshots: oddity === 'snapshots' ? 1 : 0,
      ...(oddity === 'group' ? { affinityGroup: 'default/set' } : {}),
      ...(oddity === 'spread' ? { spreadOver: 'rack' } : {}),
      ...(oddity === 'pinned' && on !== 'mixed' ? { pinnedTo: { tier: on === 'nvme' ? 'nvme' : 'sata' } } : {}),
    })
    return true
  }

  #load(uuid: string): Load {
    const iops = { hot: 8000, between: 2000, cold: 20 }
    return () => {
      const total = iops[this.#loads.get(uuid) ?? 'between']
      return { read: 0.75 * total, write: 0.25 * total }
    }
  }

  // --- the operator and its caller

  async #startProcess(skewSeconds: number): Promise<void> {
    const process = await this.cluster.startProcess({ skewMs: skewSeconds * SECOND })
    this.#processes.add(process)
    this.#skews.set(process, skewSeconds)
  }
  readonly #skews = new Map<HookProcess, number>()

  #startMetacontroller(): void {
    if (this.#stopped) return
    this.cluster.startMetacontroller()
    this.cluster.metacontroller.onCall((exchange) => this.#record(exchange))
  }

  #record({ controller, hook, parent, request }: HookExchange): void {
    this.#recorded.push({ parent, url: `/hooks/${controller}/${hook}`, request })
    if (this.#recorded.length > RECORDED) this.#recorded.shift()
  }

  #canClean(): boolean {
    const { apiServer, mayastor } = this.#away
    const { volume = '', call } = this.places.fence
    if (call !== undefined || this.places.journal(volume)?.call !== undefined) return false
    return !apiServer && !mayastor && [...this.#processes].some(({ alive, paused }) => alive && !paused)
  }

  /** The Leases, as everybody sees them, with an eye on what is written. */
  #observed(store: LeaseStore): LeaseStore {
    const seen = (name: string, lease: StoredLease | 'conflict' | undefined) => {
      if (lease === 'conflict') return lease
      this.#say?.(`  ${lease?.holder} ${name} ${summary(lease?.data ?? '{}')}`)
      this.places.written(name, lease)
      const journal = this.places.journal(name.slice('move-'.length))
      if (journal?.end !== undefined) this.#ended.set(journal.id, { id: journal.id, ...journal.end })
      if (journal?.held !== undefined) this.#wereHeld.add(journal.volume)
      if (journal?.held !== undefined || journal?.phase === 'Preserved') this.#held.add(journal.volume)
      if (journal?.phase === 'Ended') this.#held.delete(journal.volume)
      if (journal?.call?.count !== undefined) this.checker.announces(journal.volume, journal.call.count)
      return lease
    }
    return {
      ...store,
      create: async (lease) => seen(lease.name, await store.create(lease)) ?? 'conflict',
      replace: async (lease, version) => seen(lease.name, await store.replace(lease, version)) ?? 'conflict',
      remove: async (name, version) => {
        await store.remove(name, version)
        seen(name, await store.get(name))
      },
    }
  }

  // --- requests on their way

  async #edge<T>(call: EdgeCall, send: () => Promise<T>): Promise<T> {
    const place = this.places.of(call)
    const { to, what } = call
    const request = new Slot<RequestEffect>(() => to === 'mayastor' && !this.#away.mayastor)
    // Nobody else has written what is not there yet.
    const swap = new Slot<SwapEffect>(
      (effect) => to === 'leases' && !this.#away.apiServer && (effect !== 'conflict' || what.startsWith('replace')),
    )
    const about = { process: call.process, request, swap }
    const announces = place?.kind === 'swap'
    const crosses = place?.kind === 'read' || place?.kind === 'write'
    if (place !== undefined) {
      this.#strike(place, announces ? 'unannounced' : crosses ? 'call' : undefined, about)
    }
    if (place !== undefined && !this.#calm) this.#stray(place, call, request, swap)
    request.close()
    swap.close()
    const outcome = await this.#carry(call, place, send, request.value, swap.value)
    if (place !== undefined) this.#strike(place, announces ? 'announced' : crosses ? 'answered' : undefined, about)
    if (outcome.status === 'rejected') throw outcome.reason
    return outcome.value
  }

  async #carry<T>(
    call: EdgeCall,
    place: Place | undefined,
    send: () => Promise<T>,
    effect: RequestEffect | undefined,
    swapEffect: SwapEffect | undefined,
  ): Promise<PromiseSettledResult<T>> {
    const { to, process, what } = call
    const fail = (reason: Error): PromiseSettledResult<T> => ({ status: 'rejected', reason })
    if (to === 'leases') {
      if (this.#away.apiServer) return fail(new LeaseError('no connection'))
      const outcome = await this.#swap(call, send, swapEffect)
      if (outcome.status === 'fulfilled' && outcome.value !== 'conflict' && call.data !== undefined) {
        this.#announced.set(`${process.name} ${what.split(' ')[1]}`, { at: this.cluster.clock.now(), data: call.data })
      }
      return outcome
    }
    if (to === 'prometheus') return settled(send())
    if (this.#away.mayastor) return fail(new Error('connect ECONNREFUSED'))
    const over = place?.kind === 'write' ? this.#leaves(call, place) : () => {}
    const outcome = await this.#send(send, effect, over)
    const read = what.startsWith('GET ')
    if (read && outcome.status === 'fulfilled') this.#reads.set(`${process.name} ${what}`, this.cluster.clock.now())
    return outcome
  }

  /** `over` is told when the request cannot take effect any more. */
  async #send<T>(
    send: () => Promise<T>,
    effect: RequestEffect | undefined,
    over: () => void,
  ): Promise<PromiseSettledResult<T>> {
    const { clock } = this.cluster
    const never = new Promise<PromiseSettledResult<T>>(() => {})
    const deliver = () => settled(send()).finally(over)
    switch (effect?.kind) {
      case undefined:
        return deliver()
      case 'lost':
        over()
        return never
      case 'answer lost':
        void deliver()
        return never
      case 'reset':
        await deliver()
        return { status: 'rejected', reason: new Error('socket hang up') }
      case 'late':
        clock.after(effect.ms, () => void deliver())
        return never
      case 'answer':
      case 'answer meanwhile': {
        if (effect.kind === 'answer meanwhile') void deliver()
        else over()
        const details = 'SvcError::Injected'
        const text = JSON.stringify({ kind: effect.error, details, message: details })
        return { status: 'fulfilled', value: { status: effect.status, text } as T }
      }
    }
  }

  async #swap<T>(
    { what }: EdgeCall,
    send: () => Promise<T>,
    effect: SwapEffect | undefined,
  ): Promise<PromiseSettledResult<T>> {
    const lost: PromiseSettledResult<T> = { status: 'rejected', reason: new LeaseError(`${what}: no answer`) }
    switch (effect) {
      case undefined:
        return settled(send())
      case 'conflict': {
        const found = await this.#leases.get(what.split(' ')[1] ?? '')
        if (found !== undefined) await this.#leases.replace(found, found.version)
        return settled(send())
      }
      case 'answer lost':
        await settled(send())
        return lost
      case 'lost':
        return lost
      case 'late':
        this.cluster.clock.after(10 * SECOND, () => void settled(send()))
        return lost
    }
  }

  /** A write leaves for Mayastor: what the protocol promises about it is looked at as it does. */
  #leaves({ process, what }: EdgeCall, { volume }: Place): () => void {
    const now = this.cluster.clock.now()
    const read = this.#reads.get(`${process.name} GET /v0/volumes/${volume}`)
    if (read === undefined || now - read > WINDOW_MS) {
      this.checker.report(
        'a write follows a fresh read',
        `${what} ${read === undefined ? 'without' : 'late after'} one`,
      )
    }
    const [journal, fence] = [`move-${volume}`, 'fence'].map((name) => this.#announced.get(`${process.name} ${name}`))
    const announced = [journal, fence].some((record) => record !== undefined && announces(record.data, what))
    if (!announced) this.checker.report('a write is announced', `${what} is not in the record written before it`)
    const recorded = JSON.stringify(this.places.fence)
    const [, pool] = /^PUT \/v0\/pools\/([^/]+)/.exec(what) ?? []
    const [, label] = /^PUT \/v0\/nodes\/[^/]+\/cordon\/(.+)$/.exec(what) ?? []
    for (const mark of [pool, label]) {
      if (mark !== undefined && !recorded.includes(`"${mark}"`)) {
        this.checker.report('what is set is recorded first', what)
      }
    }
    const [, count] = /\/replica_count\/(\d+)$/.exec(what) ?? []
    return count === undefined ? () => {} : this.checker.sends(volume, Number(count))
  }

  /** Now and then a request goes astray, wherever the network is bad. */
  #stray({ row }: Place, { to }: EdgeCall, request: Slot<RequestEffect>, swap: Slot<SwapEffect>): void {
    if (this.#random.below(1000) >= this.#scenario.flaky) return
    const effect = this.#random.below(3)
    if (to === 'leases') {
      const name = (['lease written, answer lost', 'lease not written', 'lease written late'] as const)[effect]
      if (swap.set((['answer lost', 'lost', 'late'] as const)[effect] ?? 'lost')) this.#hit(row, name)
      return
    }
    const [kind, name] = (
      [
        [{ kind: 'lost' }, 'request lost'],
        [{ kind: 'answer lost' }, 'answer lost'],
        [{ kind: 'late', ms: this.#random.below(45) * SECOND }, 'request late'],
      ] as const
    )[effect] ?? [{ kind: 'lost' }, 'request lost']
    if (request.set(kind)) this.#hit(row, name)
  }

  #hit(row: Row, kind: Kind | undefined): void {
    const key = `${row} ${kind}`
    this.#hits.set(key, (this.#hits.get(key) ?? 0) + 1)
  }

  /** A call that was made before comes again. */
  #echo(): void {
    if (this.#calm || this.#stopped) return
    const request = this.#recorded[this.#random.below(Math.max(1, this.#recorded.length))]
    if (request !== undefined) this.#call(request, [...this.#processes].slice(0, 1))
    this.cluster.clock.after((5 + this.#random.below(55)) * SECOND, () => this.#echo())
  }

  #strike(place: Place, moment: Moment | undefined, about: Omit<Strike, 'volume'>): void {
    if (!this.#calm) this.#onPlace?.(this, place, moment, about)
    while (!this.#calm) {
      const spec = this.#scenario.faults[this.#next]
      if (spec === undefined || this.cluster.clock.now() < this.#armedAt || !matches(spec, place, moment)) return
      if (this.#skipped++ < spec.skip) return
      // What could do nothing here waits for the next place.
      if (!strike(this, spec, { ...about, volume: place.volume })) return
      this.#passOn()
      this.#hit(place.row, spec.kind)
      this.#say?.(`*** ${spec.kind} at ${place.row}/${moment} of ${place.volume} by ${about.process.name}`)
    }
  }

  #passOn(): void {
    this.#next++
    this.#skipped = 0
    this.#struckAt = this.cluster.clock.now()
    this.#armedAt = this.#struckAt + (this.#scenario.faults[this.#next]?.afterSeconds ?? 0) * SECOND
  }

  // --- time

  #watch(): void {
    if (this.#stopped) return
    const now = this.cluster.clock.now()
    if (now - Math.max(this.#struckAt, this.#armedAt) > PATIENCE_MS && this.#next < this.#scenario.faults.length) {
      this.#passOn()
    }
    for (const _ of this.places.active()) this.#movedAt = now
    this.checker.watch()
    this.cluster.clock.after(WATCH_MS, () => this.#watch())
  }

  /** All faults have struck and ended, and nothing moves any more. */
  #over(): boolean {
    const done = this.#next >= this.#scenario.faults.length && this.#reverts.size === 0
    return done && this.cluster.clock.now() - Math.max(this.#struckAt, this.#movedAt) > QUIET_MS
  }

  /** The faults stop. */
  #settle(): void {
    this.#calm = true
    for (const revert of [...this.#reverts]) revert()
    const { mayastor } = this.cluster
    for (const node of mayastor.truth.nodes.values()) mayastor.setNodeOnline(node.id, true)
    for (const uuid of this.#loads.keys()) this.#loads.set(uuid, 'between')
    for (const [index, name] of POLICIES.entries()) {
      if (index >= this.#scenario.policies.length) continue
      const ref = { apiVersion: API_VERSION, kind: 'StoragePolicy', name }
      if (this.cluster.store.get(ref) === undefined) continue
      if (this.#scenario.ending === 'disable') this.cluster.store.patch(ref, { spec: { enabled: false } })
      if (this.#scenario.ending === 'delete') this.cluster.store.delete(ref)
    }
    this.#answer()
  }

  /** In half of the scenarios a person lets go on what is Held for one; the others leave it as it is. */
  get #releases(): boolean {
    return this.#scenario.seed % 2 === 0
  }

  /** And so, by another bit, what the breaker stopped. */
  get #resumes(): boolean {
    return Math.floor(this.#scenario.seed / 2) % 2 === 0
  }

  /** A person names what the status says is waiting for one. */
  #answer(): void {
    if (this.#stopped) return
    if (this.#releases) {
      this.#annotate<ReplicaTopologyStatus>('ReplicaTopology', RELEASE_ANNOTATION, ({ migration }) => migration?.holdId)
    }
    if (this.#resumes) {
      this.#annotate<StoragePolicyStatus>('StoragePolicy', RESUME_ANNOTATION, ({ breaker }) => breaker?.trip)
    }
    this.cluster.clock.after(LOOK_MS, () => this.#answer())
  }

  #annotate<Status>(kind: string, annotation: string, waiting: (status: Status) => string | undefined): void {
    for (const object of this.cluster.store.list(API_VERSION, kind)) {
      const value = object.status === undefined ? undefined : waiting(object.status as Status)
      if (value === undefined || object.metadata.annotations?.[annotation] === value) continue
      this.#say?.(`*** ${kind} ${object.metadata.name}: ${annotation}=${value}`)
      this.cluster.store.patchMetadata(object, { annotations: { [annotation]: value } })
    }
  }

  #atRest(): boolean {
    return this.#unrest().length === 0
  }

  #unrest(): string[] {
    const problems: string[] = []
    const { truth } = this.cluster.mayastor
    for (const { volume, phase, held, call } of this.places.journals) {
      const replaced = this.#replaced.get(volume) ?? 0
      if (held?.forPerson && this.#releases) {
        problems.push(`the migration of volume ${volume} is Held (${held.reason}), and a person lets it go on`)
      } else if (held !== undefined && !isHeldForCause(held.reason, truth.volumes.get(volume), truth, replaced)) {
        problems.push(`the migration of volume ${volume} is Held (${held.reason}), and nothing keeps it`)
      }
      const settledThere = phase === 'Ended' || phase === 'Preserved' || held !== undefined
      if (!settledThere) problems.push(`the migration of volume ${volume} is ${phase}${call ? ` in ${call.op}` : ''}`)
    }
    if (this.places.fence.volume !== undefined) problems.push('the fence is taken')
    for (const node of this.cluster.mayastor.truth.nodes.values()) {
      const label = [...node.cordonLabels].find((text) => text.startsWith('tier-move-'))
      if (label !== undefined) problems.push(`node ${node.id} has label ${label}`)
    }
    for (const { metadata, status } of this.cluster.store.list(API_VERSION, 'StoragePolicy')) {
      const { breaker } = (status ?? {}) as Partial<StoragePolicyStatus>
      if (breaker === undefined || !this.#resumes) continue
      problems.push(`policy ${metadata.name} is stopped (${breaker.reason}), and a person has resumed it`)
    }
    if (this.#scenario.ending === 'delete') {
      const left = this.cluster.store.list(API_VERSION, 'StoragePolicy').length
      if (left > 0) problems.push(`${left} policies are still there`)
    }
    return problems
  }

  /** Volumes that could be where they belong, and are not. */
  #idle(): string[] {
    const { truth } = this.cluster.mayastor
    return [...truth.volumes.values()].flatMap((volume) => {
      const load = this.#loads.get(volume.uuid)
      const tier = load === 'hot' ? 'nvme' : load === 'cold' ? 'sata' : undefined
      if (tier === undefined || [...volume.replicas].every(({ pool }) => pool.id.startsWith(tier))) return []
      const ref = { apiVersion: API_VERSION, kind: 'ReplicaTopology', name: `pvc-${volume.uuid}` }
      const reason = this.cluster.store.get<{ spec: ReplicaTopologySpec }>(ref)?.spec.decision.reason
      if (isKeptForCause(volume, tier, truth)) return []
      return [`volume ${volume.uuid} is not on ${tier} (${reason}), and nothing keeps it`]
    })
  }

  /** Runs `revert` after so many seconds, or when the faults stop. */
  #for(seconds: number, revert: () => void): void {
    const once = () => {
      if (!this.#reverts.delete(once)) return
      cancel()
      revert()
    }
    this.#reverts.add(once)
    const cancel = this.cluster.clock.after(seconds * SECOND, once)
  }

  // --- faults: each says whether it took effect

  kill(process: HookProcess, seconds: number): boolean {
    if (!process.alive) return false
    process.kill()
    this.#replace(process, seconds)
    return true
  }

  terminate(process: HookProcess, seconds: number): boolean {
    if (!process.alive || !this.#processes.has(process)) return false
    void process.stop().then(() => process.kill())
    this.#replace(process, seconds)
    return true
  }

  /** Once, also where one that is being stopped is killed. */
  #replace(process: HookProcess, seconds: number): void {
    if (!this.#processes.delete(process)) return
    const skew = this.#skews.get(process) ?? 0
    this.#for(seconds, () => void this.#startProcess(skew))
  }

  pause(process: HookProcess, seconds: number): boolean {
    if (!process.alive || process.paused) return false
    process.pause(seconds * SECOND)
    return true
  }

  replay(volume: string, pick: number, delayMs: number, to: 'one' | 'everybody' = 'one'): boolean {
    const own = this.#recorded.filter(({ parent }) => parent === `pvc-${volume}`)
    const from = own.length > 0 ? own : this.#recorded
    const request = from[pick % Math.max(1, from.length)]
    if (request === undefined) return false
    this.#for(delayMs / SECOND, () => {
      const alive = [...this.#processes].filter((process) => process.alive)
      const receivers = to === 'everybody' ? [...alive, ...alive] : alive.slice(0, 1)
      this.#call(request, receivers)
    })
    return true
  }

  #call({ url, request }: Recorded, to: readonly HookProcess[]): void {
    const body = JSON.stringify(request)
    for (const process of to) {
      const abort = new AbortController()
      const cancel = this.cluster.clock.after(HOOK_TIMEOUT_MS, () => abort.abort())
      const headers = { 'content-type': 'application/json' }
      void settled(process.handle({ url, headers, body, signal: abort.signal })).then(cancel)
    }
  }

  stale(seconds: number): boolean {
    return this.#lasts('stale caches', seconds, (on) => {
      this.#isStale = on
    })
  }

  killMetacontroller(seconds: number): boolean {
    return this.#lasts('no Metacontroller', seconds, (on) => {
      if (on) void this.cluster.metacontroller.stop()
      else this.#startMetacontroller()
    })
  }

  away(what: 'apiServer' | 'mayastor', seconds: number): boolean {
    return this.#lasts(`${what} away`, seconds, (on) => {
      this.#away[what] = on
      this.cluster.apiServerUp = !this.#away.apiServer
    })
  }

  prometheusFails(outage: Outage, seconds: number): boolean {
    return this.#lasts('Prometheus', seconds, (on) => {
      this.cluster.prometheus.outage = on ? outage : undefined
    })
  }

  restartCore(seconds: number): boolean {
    return this.#happens(() => this.cluster.mayastor.restartCore(Math.min(seconds, 60) * SECOND))
  }

  slowCore(seconds: number): boolean {
    return this.#lasts('slow core', Math.min(seconds, 200), (on) =>
      this.cluster.mayastor.faults.onStep(() => (on ? 500 + this.#random.below(9_000) : undefined)),
    )
  }

  loseStore(seconds: number): boolean {
    return this.#lasts('etcd', seconds, (on) => {
      this.cluster.mayastor.faults.storeDown = on
    })
  }

  loseNode(volume: string, pick: number, seconds: number): boolean {
    const names = [...this.cluster.mayastor.truth.nodes.keys()]
    const own = this.#replicas(volume).map(({ node }) => node.id)
    return this.#takeDown(pick % 3 === 0 ? names[pick % names.length] : own[pick % Math.max(1, own.length)], seconds)
  }

  moveTarget(volume: string, pick: number): boolean {
    const online = [...this.cluster.mayastor.truth.nodes.values()].filter((node) => node.online)
    const node = online[pick % Math.max(1, online.length)]
    if (node === undefined) return false
    return this.#ask({ kind: 'republish', uuid: volume, node: node.id }, pick) === undefined
  }

  loseTarget(volume: string, seconds: number): boolean {
    return this.#takeDown(this.cluster.mayastor.truth.volumes.get(volume)?.nexus?.node.id, seconds)
  }

  /** One at a time. */
  #takeDown(node: string | undefined, seconds: number): boolean {
    const { nodes } = this.cluster.mayastor.truth
    if (node === undefined || [...nodes.values()].some(({ online }) => !online)) return false
    this.cluster.mayastor.setNodeOnline(node, false)
    this.#for(seconds, () => this.cluster.mayastor.setNodeOnline(node, true))
    return true
  }

  faultReplica(
    volume: string,
    which: 'original' | 'source' | 'added',
    pick: number,
    how?: 'OutOfSpace' | 'for good',
  ): boolean {
    const role = this.#roles(volume)
    const replicas = this.#replicas(volume).filter(({ uuid }) => role(uuid) === which)
    const replica = replicas[pick % Math.max(1, replicas.length)]
    if (replica === undefined) return false
    const { mayastor } = this.cluster
    return this.#happens(() =>
      how === 'OutOfSpace'
        ? mayastor.faultReplica(replica.uuid, how)
        : mayastor.faultReplica(replica.uuid, undefined, how === undefined),
    )
  }

  fillPool(volume: string, pick: number, seconds: number): boolean {
    const pool = this.#poolNear(volume, pick)
    const taken = pool === undefined ? 0 : pool.freeBytes - GIB / 4
    if (pool === undefined || taken <= 0) return false
    const before = pool.otherBytes
    return this.#lasts(`pool ${pool.id} is full`, seconds, (on) =>
      this.cluster.mayastor.setOtherBytes(pool.id, on ? before + taken : before),
    )
  }

  breakPool(volume: string, pick: number, seconds: number): boolean {
    const pool = this.#poolNear(volume, pick)
    if (pool === undefined) return false
    return this.#lasts(`pool ${pool.id} is faulted`, seconds, (on) =>
      this.cluster.mayastor.setPoolStatus(pool.id, on ? 'Faulted' : 'Online'),
    )
  }

  exportPool(volume: string, pick: number, seconds: number): boolean {
    const pool = this.#poolNear(volume, pick)
    if (pool === undefined) return false
    return this.#lasts(`pool ${pool.id} is exported`, seconds, (on) =>
      this.cluster.mayastor.setPoolImported(pool.id, !on),
    )
  }

  addPool(pick: number): boolean {
    const { nodes, pools } = this.cluster.mayastor.truth
    const node = [...nodes.keys()][pick % nodes.size]
    if (node !== undefined) this.#addPool(`${pick % 2 === 0 ? 'nvme' : 'sata'}-new-${pools.size}`, node, 200)
    return node !== undefined
  }

  addNode(): boolean {
    const { nodes } = this.cluster.mayastor.truth
    const index = nodes.size + 1
    const node = `node-${index}`
    this.cluster.addNode(node, {
      rack: `rack-${index}`,
      ...(this.#scenario.zoned ? { [ZONE]: `zone-${index % 3}` } : {}),
    })
    this.#addPool(`nvme-${index}`, node, 200)
    this.#addPool(`sata-${index}`, node, 400)
    return true
  }

  /** Bites later, if at all; what can hit nothing is no fault. */
  armed(
    what: 'createFails' | 'attachFails' | 'destroyFails' | 'rebuildStartFails' | 'storeDirty' | 'persistFails',
    volume: string,
    seconds: number,
    pick: number,
  ): boolean {
    let armed = true
    const target = this.places.journal(volume)?.move.targetPool
    const anyPool = pick % 2 === 0
    if (what === 'createFails' && !anyPool && target === undefined) return false
    const hits = (id: string) => {
      if (!armed) return false
      if (what === 'createFails') return anyPool || id === target
      return what === 'destroyFails' || id === volume
    }
    this.cluster.mayastor.faults[what](hits, 1 + (pick % 4))
    this.#for(seconds, () => {
      armed = false
    })
    return true
  }

  limitRebuilds(seconds: number): boolean {
    return this.#lasts('rebuild limit', seconds, (on) => {
      this.cluster.mayastor.faults.rebuildLimit = on ? 0 : undefined
    })
  }

  mixVersions(pick: number, seconds: number): boolean {
    const { nodes } = this.cluster.mayastor.truth
    const node = [...nodes.values()][pick % nodes.size]
    if (node === undefined) return false
    const { version } = node
    return this.#lasts(`version of ${node.id}`, seconds, (on) =>
      this.cluster.mayastor.setNodeVersion(node.id, on ? '2.11.0' : version),
    )
  }

  cordonNode(volume: string, pick: number, seconds: number): boolean {
    const node = this.#nodeNear(volume, pick)
    return node !== undefined && this.cordonNodeFor(node, seconds)
  }

  cordonNodeFor(node: string, seconds: number): boolean {
    const { mayastor } = this.cluster
    if (this.#people(() => mayastor.cordonNode(node, 'maintenance')) !== undefined) return false
    this.#mark(seconds, () => mayastor.uncordonNode(node, 'maintenance'))
    return true
  }

  drainNode(volume: string, pick: number, seconds: number): boolean {
    const node = this.#nodeNear(volume, pick)
    const { mayastor } = this.cluster
    if (node === undefined || this.#people(() => mayastor.drainNode(node, 'upgrade')) !== undefined) return false
    this.#mark(seconds, () => mayastor.uncordonNode(node, 'upgrade'))
    return true
  }

  cordonPool(volume: string, pick: number, seconds: number): boolean {
    const half = Math.floor(pick / 2)
    const pool = pick % 2 === 0 ? this.#poolNear(volume, half) : this.#poolInTheWay(volume, half)
    if (pool === undefined) return false
    const choices: Partial<CordonBits>[] = [{ replicas: true, restores: true }, { replicas: true }, { snapshots: true }]
    return this.cordonPoolFor(pool.id, choices[pick % 3] ?? {}, seconds)
  }

  cordonPoolFor(pool: string, bits: Partial<CordonBits>, seconds: number): boolean {
    const { mayastor } = this.cluster
    const refused = this.checker.person(() => mayastor.cordonPool(pool, bits), bits.replicas ? [pool] : [])
    if (refused !== undefined) return false
    this.#mark(seconds, () => mayastor.uncordonPool(pool, bits))
    return true
  }

  /** By Mayastor itself, where it can; people take it back. */
  drainPool(volume: string, pick: number, seconds: number): boolean {
    const pool = this.#poolNear(volume, pick)
    const { mayastor } = this.cluster
    if (pool === undefined || this.#people(() => mayastor.drainPool(pool.id, true)) !== undefined) return false
    this.#for(seconds, () => this.#people(() => mayastor.releasePoolDrain(pool.id)))
    return true
  }

  /** No volume that was made through CSI may use it any more: the label cannot be taken away, but changed. */
  relabelPool(volume: string, pick: number, seconds: number): boolean {
    const pool = this.#poolNear(volume, pick)
    if (pool === undefined) return false
    return this.#lasts(`label of pool ${pool.id}`, seconds, (on) =>
      this.cluster.mayastor.labelPool(pool.id, CREATED_BY, on ? 'hand' : DISKPOOL_OPERATOR),
    )
  }

  uncordonPool(pick: number): boolean {
    const cordoned = [...this.cluster.mayastor.truth.pools.values()].filter((pool) => pool.cordon.replicas)
    const pool = cordoned[pick % Math.max(1, cordoned.length)]
    if (pool === undefined) return false
    return this.#people(() => this.cluster.mayastor.uncordonPool(pool.id, { replicas: true })) === undefined
  }

  scale(volume: string, by: 1 | -1): boolean {
    const count = this.cluster.mayastor.truth.volumes.get(volume)?.numReplicas
    if (count === undefined) return false
    return this.cluster.mayastor.setReplicaCount(volume, count + by).failure === undefined
  }

  snapshot(volume: string, pick = 0): boolean {
    return this.#ask({ kind: 'create-snapshot', uuid: volume }, pick) === undefined
  }

  deleteSnapshot(volume: string, pick = 0): boolean {
    return this.#ask({ kind: 'destroy-snapshot', uuid: volume }, pick) === undefined
  }

  stopHealing(volume: string, pick: number, seconds: number): boolean {
    if (this.cluster.mayastor.truth.volumes.get(volume)?.selfHeal !== true) return false
    if (this.#ask({ kind: 'set-property', uuid: volume, selfHeal: false }, pick) !== undefined) return false
    this.#for(seconds, () => this.#insist({ kind: 'set-property', uuid: volume, selfHeal: true }, pick))
    return true
  }

  /** Up to as much as it holds. */
  write(volume: string, pick: number): boolean {
    const size = this.cluster.mayastor.truth.volumes.get(volume)?.sizeBytes
    if (size === undefined) return false
    const written = () => this.#replicas(volume).reduce((bytes, { writtenBytes }) => bytes + writtenBytes, 0)
    const before = written()
    this.cluster.mayastor.write(volume, Math.floor((size * (1 + (pick % 4))) / 4))
    return written() > before
  }

  unpublish(volume: string, seconds: number, pick = 0): boolean {
    if (this.#ask({ kind: 'unpublish', uuid: volume }, pick) !== undefined) return false
    this.#for(seconds, () => this.#insist({ kind: 'publish', uuid: volume }, pick))
    return true
  }

  resize(volume: string, pick = 0): boolean {
    const size = this.cluster.mayastor.truth.volumes.get(volume)?.sizeBytes
    if (size === undefined) return false
    return this.#ask({ kind: 'resize', uuid: volume, sizeBytes: size + GIB }, pick) === undefined
  }

  occupy(volume: string, seconds: number): boolean {
    if (!this.cluster.mayastor.truth.volumes.has(volume)) return false
    return this.cluster.mayastor.occupy(volume, 'Resize', Math.min(seconds, 120) * SECOND).failure === undefined
  }

  /** Asked for until it is gone; its claim and its persistent volume go a little later. */
  deleteVolume(volume: string, pick = 0): boolean {
    if (this.#ask({ kind: 'destroy', uuid: volume }, pick) !== undefined) return false
    this.#loads.delete(volume)
    this.#taken.add(volume)
    const follow = () => {
      if (this.cluster.mayastor.truth.volumes.has(volume)) {
        this.#ask({ kind: 'destroy', uuid: volume }, pick)
        this.cluster.clock.after(AGAIN_MS, follow)
        return
      }
      const name = `pvc-${volume}`
      const claim = { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace: 'default', name: `data-${volume}` }
      this.cluster.store.delete(claim)
      this.cluster.store.delete({ apiVersion: 'v1', kind: 'PersistentVolume', name })
    }
    this.cluster.clock.after(2 * SECOND, follow)
    return true
  }

  /** By its Create operation it is nobody's that the operator knows; else it is one of a policy, and was always there. */
  createVolume(pick: number): boolean {
    if (!isAtOnce(pick)) return this.#createVolume(2 + (pick % 8), 1 + (pick % 3), pick)
    return this.#addVolume({
      gib: 2 + (pick % 8),
      thin: pick % 2 === 0,
      replicas: 1 + (pick % 3),
      on: pick % 5 < 3 ? 'sata' : 'nvme',
      load: pick % 7 < 4 ? 'hot' : 'cold',
      first: pick,
      policy: pick % 2,
      oddity: 'none',
    })
  }

  #createVolume(gib: number, replicas: number, pick: number): boolean {
    const [pool] = this.cluster.mayastor.truth.pools.values()
    const uuid = this.#newUuid()
    const volume: NewVolume = {
      uuid,
      sizeBytes: gib * GIB,
      replicas,
      thin: pick % 2 === 0,
      selfHeal: true,
      topology: {
        pool_topology: { labelled: { inclusion: { [CREATED_BY]: DISKPOOL_OPERATOR }, exclusion: {} } },
      },
      affinityGroup: undefined,
      encrypted: false,
      clusterSizeBytes: pool?.clusterSizeBytes ?? 0,
    }
    const publish = (failure: Failure | undefined) => {
      if (failure === undefined) this.#insist({ kind: 'publish', uuid }, pick)
    }
    return this.#request({ kind: 'create', volume }, publish) === undefined
  }

  #newUuid(): string {
    return `00000000-0000-4000-8000-${String(++this.#created).padStart(12, '0')}`
  }

  deletePolicy(volume: string, seconds: number): boolean {
    const index = POLICIES.indexOf(this.#classes.get(volume) ?? 'default')
    const ref = { apiVersion: API_VERSION, kind: 'StoragePolicy', name: POLICIES[index] ?? 'default' }
    if (!this.#delete(ref)) return false
    const again = () => {
      if (this.#calm || this.#stopped) return
      if (this.cluster.store.get(ref) === undefined) this.#addPolicy(index)
      else this.cluster.clock.after(10 * SECOND, again)
    }
    this.#for(seconds, again)
    return true
  }

  editPolicy(volume: string, spec: Partial<StoragePolicySpec>, seconds: number): boolean {
    const ref = { apiVersion: API_VERSION, kind: 'StoragePolicy', name: this.#classes.get(volume) ?? 'default' }
    const found = this.cluster.store.get<{ readonly spec: StoragePolicySpec }>(ref)
    if (found === undefined) return false
    const before = Object.fromEntries(Object.keys(spec).map((key) => [key, found.spec[key as keyof StoragePolicySpec]]))
    if (Object.entries(spec).every(([key, value]) => before[key] === value)) return false
    this.cluster.store.patch(ref, { spec })
    this.#for(seconds, () => {
      if (this.cluster.store.get(ref) !== undefined) this.cluster.store.patch(ref, { spec: before })
    })
    return true
  }

  editThresholds(volume: string, pick: number, seconds: number): boolean {
    const edits = [{ highWatermarkIOPS: 9000 }, { lowWatermarkIOPS: 10 }, { maxConcurrentMigrations: 1 }]
    return this.editPolicy(volume, edits[pick % edits.length] ?? {}, seconds)
  }

  deleteTopology(volume: string): boolean {
    return this.#delete({ apiVersion: API_VERSION, kind: 'ReplicaTopology', name: `pvc-${volume}` })
  }

  /** Whether it was not being deleted already. */
  #delete(ref: Named): boolean {
    const found = this.cluster.store.get(ref)
    if (found === undefined || found.metadata.deletionTimestamp !== undefined) return false
    this.cluster.store.delete(ref)
    return true
  }

  loseStatus(volume: string): boolean {
    const found = this.cluster.store.get({ apiVersion: API_VERSION, kind: 'ReplicaTopology', name: `pvc-${volume}` })
    if (found?.status === undefined) return false
    const totals = { succeeded: 0, failed: 0, aborted: 0 }
    const status = { observedGeneration: 0, tier: 'Unknown', replicas: [], refusals: [], totals, conditions: [] }
    this.cluster.store.replaceStatus({ ...found, status })
    return true
  }

  turnLoad(volume: string): boolean {
    const load = this.#loads.get(volume)
    if (load !== undefined) this.#loads.set(volume, load === 'hot' ? 'cold' : 'hot')
    return load !== undefined
  }

  /** A person takes a mark away again, unless they forget. */
  #mark(seconds: number, clear: () => unknown): void {
    this.#for(seconds, () => {
      if (!this.#calm || this.#scenario.tidyPeople) this.#people(clear)
    })
  }

  // --- what a fault could hit

  #people<T>(act: () => T): T {
    return this.checker.person(act)
  }

  /** Something happens in Mayastor while it is done. */
  #happens(act: () => void): boolean {
    const before = this.#events
    act()
    return this.#events > before
  }

  /** From now on for so many seconds; false: it is so already. */
  #lasts(what: string, seconds: number, turn: (on: boolean) => void): boolean {
    if (this.#lasting.has(what)) return false
    this.#lasting.add(what)
    turn(true)
    this.#for(seconds, () => {
      this.#lasting.delete(what)
      turn(false)
    })
    return true
  }

  /**
   * What people and Kubernetes ask of Mayastor: in half of the cases it takes its time and holds the volume, in the
   * others it is done at one instant. The answer is a refusal, where that is known at once.
   */
  #ask(act: Act, pick: number, ended: (failure: Failure | undefined) => void = () => {}): Failure | undefined {
    if (isAtOnce(pick)) {
      const failure = this.#atOnce(act)
      ended(failure)
      return failure
    }
    return this.#request(act, ended)
  }

  #request(request: Request, ended: (failure: Failure | undefined) => void): Failure | undefined {
    const operation = this.cluster.mayastor.request(request)
    const look = () => {
      if (!operation.done) return
      stop()
      ended(operation.failure)
    }
    const stop = operation.watch(look)
    look()
    return operation.failure
  }

  #atOnce(act: Act): Failure | undefined {
    const { mayastor } = this.cluster
    switch (act.kind) {
      case 'destroy':
        return mayastor.destroyVolume(act.uuid)
      case 'publish':
        return mayastor.publish(act.uuid, act.node)
      case 'unpublish':
        return mayastor.unpublish(act.uuid)
      case 'republish':
        return mayastor.moveTarget(act.uuid, act.node)
      case 'create-snapshot':
        return mayastor.snapshot(act.uuid, act.snapshot)
      case 'destroy-snapshot':
        return mayastor.destroySnapshot(act.uuid, act.snapshot)
      case 'resize':
        return mayastor.resize(act.uuid, act.sizeBytes)
      case 'set-property':
        return mayastor.setSelfHeal(act.uuid, act.selfHeal)
    }
  }

  /** Again and again, until it is so or there is no volume any more. */
  #insist(act: Act, pick: number): void {
    this.#ask(act, pick, (failure) => {
      const isSo = failure === undefined || failure.kind === 'AlreadyPublished'
      if (isSo || this.#stopped || !this.cluster.mayastor.truth.volumes.has(act.uuid)) return
      this.cluster.clock.after(AGAIN_MS, () => this.#insist(act, pick))
    })
  }

  /** What a replica is to the move of its volume, from before the raise of the count until the move has ended. */
  #roles(volume: string): (uuid: string) => 'original' | 'source' | 'added' {
    const journal = this.places.journal(volume)
    if (journal === undefined || journal.phase === 'Ended') return () => 'original'
    const { move, growSentAt, baseline } = journal
    const isNew = (uuid: string) => growSentAt !== undefined && !baseline.some(({ replica }) => replica === uuid)
    return (uuid) => {
      if (uuid === move.replica) return 'source'
      return (move.added === undefined ? isNew(uuid) : uuid === move.added) ? 'added' : 'original'
    }
  }

  #replicas(volume: string): readonly Readonly<Replica>[] {
    const found: Readonly<Volume> | undefined = this.cluster.mayastor.truth.volumes.get(volume)
    return [...(found?.replicas ?? [])].sort((a, b) => (a.uuid < b.uuid ? -1 : 1))
  }

  /** A pool of the volume, or that it is about to use, or any. */
  #poolNear(volume: string, pick: number) {
    const { pools } = this.cluster.mayastor.truth
    const { move } = this.places.journal(volume) ?? {}
    const target = move === undefined ? undefined : pools.get(move.targetPool)
    if (pick % 4 < 2 && target !== undefined) return target
    const own = this.#replicas(volume).map(({ pool }) => pool)
    const from = pick % 4 === 2 && own.length > 0 ? own : [...pools.values()]
    return from[pick % from.length]
  }

  /** One that the operator cordons too, while it adds a replica. */
  #poolInTheWay(volume: string, pick: number) {
    const { move } = this.places.journal(volume) ?? {}
    const own = new Set(this.#replicas(volume).map(({ node }) => node))
    const pools = [...this.cluster.mayastor.truth.pools.values()]
    const others = pools.filter(({ id, node }) => id !== move?.targetPool && !own.has(node))
    return others[pick % Math.max(1, others.length)]
  }

  #nodeNear(volume: string, pick: number): string | undefined {
    const { nodes } = this.cluster.mayastor.truth
    const own = this.#replicas(volume).map(({ node }) => node.id)
    const from = pick % 3 > 0 && own.length > 0 ? own : [...nodes.keys()]
    return from[pick % from.length]
  }
}

/** The first version of Mayastor that drains pools by itself, as far as the simulated one knows. */
const DRAINS_POOLS = '2.13.0'

/** What is asked of Mayastor for a volume that is there. */
type Act = Exclude<Request, { kind: 'create' | 'set-replicas' }>

function isAtOnce(pick: number): boolean {
  return Math.floor(pick / 8) % 2 === 0
}

/** A hook call that may come again. */
interface Recorded {
  readonly parent: string
  readonly url: string
  readonly request: unknown
}

const ZONE = 'topology.kubernetes.io/zone'

/** A record on one line, for people. */
function summary(data: string): string {
  const { phase, call, move, victim, reading, undo, growSentAt, removalSentAt, refused, end, ...rest } =
    JSON.parse(data)
  if (phase === undefined) return JSON.stringify(rest)
  const { adoptions, held, count, baseline, queue } = rest
  const text = { call, victim, reading, undo, growSentAt, removalSentAt, refused, adoptions, held, end }
  const own = baseline?.map(({ replica }: { replica: string }) => replica.slice(0, 8))
  return `${phase} N=${count} base=${own} move=${move?.replica.slice(0, 8)}>${move?.targetPool} added=${move?.added?.slice(0, 8)} queue=${queue?.length} ${JSON.stringify(text)}`
}

function settled<T>(promise: Promise<T>): Promise<PromiseSettledResult<T>> {
  return promise.then(
    (value) => ({ status: 'fulfilled', value }) as const,
    (reason: unknown) => ({ status: 'rejected', reason }) as const,
  )
}

function matches({ kind, row, moment }: FaultSpec, place: Place, at: Moment | undefined): boolean {
  if (row !== undefined && row !== place.row) return false
  if (OF_SWAP.has(kind)) return place.kind === 'swap' || place.kind === 'note'
  if (OF_REQUEST.has(kind)) return place.kind === 'write' || (place.kind === 'read' && at === 'call')
  return row === undefined ? at !== undefined : at === moment
}

/** Whether a record speaks of this write: a journal names the call, a fence what it may set. */
function announces(data: string, what: string): boolean {
  const record = JSON.parse(data) as Partial<JournalRecord> & { readonly intent?: object }
  const [, count] = /replica_count\/(\d+)$/.exec(what) ?? []
  const [, pool] = /\/pools\/([^/]+)\/cordon$/.exec(what) ?? []
  const [, node] = /\/nodes\/([^/]+)\/cordon/.exec(what) ?? []
  if (record.call === undefined) return JSON.stringify(record.intent ?? '').includes(`"${pool ?? node}"`)
  if (count !== undefined) return record.call.op === 'setReplicaCount' && record.call.count === Number(count)
  return pool !== undefined ? record.call.pool === pool : record.call.node === node
}

export type { Kind, Row }
