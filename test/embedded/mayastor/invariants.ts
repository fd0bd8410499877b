import type { MayastorEvent, Replica, SimulatedMayastor, Volume } from '../../../src/embedded/mayastor/index.js'

/** What has to show in an operation's name only: nobody else does that to a volume while it runs. */
const GUARDED = new Set<MayastorEvent['kind']>([
  'replica-created',
  'removal-chosen',
  'child-added',
  'replica-count',
  'volume-published',
  'volume-unpublished',
  'volume-resized',
  'snapshot-taken',
  'snapshot-destroyed',
])

interface Shown {
  readonly spec: { readonly uuid: string; readonly num_replicas: number }
  readonly state: {
    readonly replica_topology: Readonly<Record<string, { 'child-status'?: string; 'rebuild-progress'?: number }>>
  }
}

/**
 * Looks at a simulated Mayastor after every event and whenever it is told to, and remembers what it could not know
 * otherwise: which replicas came to hold a volume's data, and how. A rule of the simulator that is broken is thrown.
 */
export class Invariants {
  readonly #mayastor: SimulatedMayastor
  /** Volumes somebody could have written to. */
  readonly #withData = new Set<string>()
  /** Volumes whose last good replica somebody took out of the target by hand, which nothing keeps them from. */
  readonly #spoiled = new Set<string>()
  /** Replicas that hold all data of their volume, and came by it honestly. */
  readonly #synced = new Set<string>()
  readonly #everSynced = new Set<string>()
  readonly #progress = new Map<string, number>()
  /** Replicas the out-of-space mover made: the only ones that may share a node. */
  readonly #moved = new Set<string>()
  /** By volume, who runs an operation on it. */
  readonly #operations = new Map<string, MayastorEvent['by']>()

  constructor(mayastor: SimulatedMayastor) {
    this.#mayastor = mayastor
    for (const volume of mayastor.truth.volumes.values()) {
      if (volume.nexusInfo !== undefined) this.#withData.add(volume.uuid)
      for (const replica of volume.replicas) if (replica.synced) this.#learn(replica.uuid)
    }
    mayastor.onEvent((event) => this.#see(event))
  }

  #learn(replica: string): void {
    this.#synced.add(replica)
    this.#everSynced.add(replica)
  }

  #see(event: MayastorEvent): void {
    const { kind, volume, replica, by } = event
    if (volume !== undefined) this.#seeOperation(event, volume)
    if (kind === 'nexus-created' && volume !== undefined) this.#withData.add(volume)
    if (kind === 'child-removed' && by === 'person' && volume !== undefined && !this.#hasData(volume)) {
      this.#spoiled.add(volume)
    }
    if (kind === 'replica-created' && replica !== undefined && volume !== undefined) {
      if (by === 'out-of-space') this.#moved.add(replica)
      const isSynced = this.#mayastor.truth.replicas.get(replica)?.synced ?? false
      if (isSynced) {
        check(!this.#withData.has(volume), `replica ${replica} was created with data from nowhere`)
        this.#learn(replica)
      }
    }
    if (replica !== undefined && (kind === 'rebuild-completed' || kind === 'rebuild-failed')) {
      const record = this.#mayastor.truth.volumes.get(volume ?? '')?.nexus?.history.at(-1)
      if (record !== undefined) this.#progressed(replica, record.rebuiltBytes, record.totalBytes)
      // It is Online a moment later.
      if (kind === 'rebuild-completed') this.#learn(replica)
    } else {
      this.#lookAtAll()
    }
  }

  #seeOperation({ kind, by, reason }: MayastorEvent, volume: string): void {
    const running = this.#operations.get(volume)
    if (kind === 'operation-started') {
      check(!this.#operations.has(volume), `${reason} of ${by} began while an operation of ${running} ran`)
      this.#operations.set(volume, by)
    } else if (kind === 'operation-ended' || kind === 'volume-destroyed') {
      this.#operations.delete(volume)
    } else if (kind === 'operation-dropped' || kind === 'persist-failed') {
      // It is still on record, but nobody is at it any more.
      if (this.#operations.has(volume)) this.#operations.set(volume, undefined)
    } else if (running !== undefined && GUARDED.has(kind)) {
      check(by === running, `${kind} by ${by} during an operation of ${running}`)
    }
  }

  #hasData(volume: string): boolean {
    return [...(this.#mayastor.truth.volumes.get(volume)?.replicas ?? [])].some((replica) => replica.synced)
  }

  #progressed(replica: string, bytes: number, total: number): void {
    const percent = total === 0 ? 100 : Math.floor((bytes / total) * 100)
    this.#progress.set(replica, Math.max(percent, this.#progress.get(replica) ?? 0))
  }

  /** The truth between two things that happen. */
  look(): void {
    this.#lookAtAll()
    for (const { uuid, nexus } of this.#mayastor.truth.volumes.values()) {
      if (nexus === undefined) continue
      check(nexus.node.online, `the nexus of ${uuid} is on a node that is not there`)
      for (const { replica, state } of nexus.children) {
        check(state !== 'Online' || replica.reachable, `${replica.uuid} is Online but not there`)
      }
    }
  }

  #lookAtAll(): void {
    const { truth } = this.#mayastor
    for (const pool of truth.pools.values()) {
      for (const replica of pool.replicas) {
        check(truth.replicas.get(replica.uuid) === replica, `${replica.uuid} on ${pool.id} is not known`)
        check(replica.pool === pool, `${replica.uuid} is on ${pool.id} but says ${replica.pool.id}`)
      }
    }
    for (const replica of truth.replicas.values()) this.#lookAtReplica(replica)
    for (const volume of truth.volumes.values()) this.#lookAtVolume(volume)
  }

  #lookAtReplica(replica: Readonly<Replica>): void {
    const { uuid, owner, synced, rebuild } = replica
    if (owner !== undefined) check(owner.replicas.has(replica as Replica), `${uuid} is not among its owner’s`)
    if (synced) check(this.#synced.has(uuid), `${uuid} is synced without having been rebuilt`)
    else this.#synced.delete(uuid)
    if (rebuild !== undefined) this.#progressed(uuid, rebuild.rebuiltBytes(), rebuild.totalBytes)
    if (replica.life === 'Created') check(replica.onDisk, `${uuid} is recorded as created but is not there`)
  }

  #lookAtVolume(volume: Readonly<Volume>): void {
    const { uuid, nexus, nexusInfo } = volume
    const nodes = new Set<string>()
    for (const replica of volume.replicas) {
      check(replica.owner === volume, `${replica.uuid} is listed by ${uuid} but not owned`)
      if (replica.life !== 'Created' || this.#moved.has(replica.uuid)) continue
      check(!nodes.has(replica.node.id), `two replicas of ${uuid} on node ${replica.node.id}`)
      nodes.add(replica.node.id)
      if (nexusInfo !== undefined && replica.healthyRecorded) {
        check(replica.synced, `${replica.uuid} is recorded as healthy but is not synced`)
      }
    }
    if (this.#withData.has(uuid) && volume.life === 'Created' && !this.#spoiled.has(uuid)) {
      check(this.#hasData(uuid), `the data of ${uuid} is lost`)
    }
    if (nexus === undefined) return
    check(nexus.node.nexuses.has(nexus), `the nexus of ${uuid} is not on its node`)
    check(new Set(nexus.children.map((child) => child.replica)).size === nexus.children.length, `children of ${uuid}`)
    for (const { replica, state } of nexus.children) {
      check(state !== 'Online' || replica.synced, `${replica.uuid} is Online but not synced`)
    }
  }

  /** What REST shows at this moment: what is recorded is as it is, what is heard of has been so. */
  compare(volumes: readonly Shown[]): void {
    const { truth } = this.#mayastor
    check(volumes.length === truth.volumes.size, 'the listing has other volumes than there are')
    for (const { spec, state } of volumes) {
      const volume = truth.volumes.get(spec.uuid)
      check(volume?.numReplicas === spec.num_replicas, `num_replicas of ${spec.uuid}`)
      const uuids = [...(volume?.replicas ?? [])].map((replica) => replica.uuid)
      check(uuids.join() === Object.keys(state.replica_topology).join(), `replica_topology of ${spec.uuid}`)
      for (const [replica, seen] of Object.entries(state.replica_topology)) {
        if (seen['child-status'] === 'Online') {
          check(this.#everSynced.has(replica), `${replica} is shown as Online but never was`)
        }
        const progress = seen['rebuild-progress'] ?? 0
        check(progress <= (this.#progress.get(replica) ?? 0), `${replica} is shown to be at ${progress} %`)
      }
    }
  }
}

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(what)
}
