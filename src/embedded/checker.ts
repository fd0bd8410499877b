import type { MayastorEvent, Node, Pool, Replica, SimulatedMayastor, Topology, Volume } from './mayastor/index.js'

/**
 * Watches the truth of the simulated Mayastor, not its REST view, and says where the operator broke a rule of the
 * design. It knows the operator only by what arrives over REST: whoever acts through the simulator's own methods is
 * somebody else.
 */

export interface CheckerLimits {
  /** Volumes that may have more replicas than wanted at once. */
  readonly maxMoving: number
  /** No volume moves back within this time, and none that was undone is tried again. */
  readonly cooldownMs: number
  /** Which tier a pool is of; undefined: neither. */
  readonly tierOf: (pool: string) => string | undefined
  /** Volumes whose extra replica does not count, because a person is to decide or wants it. Default: none. */
  readonly exempt?: (volume: string) => boolean
  /** Whether cordons can be removed now: somebody is there to do it, and Mayastor and the Leases answer. Default: yes. */
  readonly canClean?: () => boolean
}

export interface Violation {
  readonly at: number
  /** Which promise was broken, in a few words. */
  readonly rule: string
  readonly what: string
}

/** Label prefix by which the operator's node cordons are known. */
const OWN_LABEL = /^tier-move-/
/** Longest life of a cordon: two minutes, and the wait for a call whose outcome is not known. */
const CORDON_MS = 180_000
/** From the last read to the request at most, and a moment for the request to be served. */
const WINDOW_MS = 6_000
/** A surplus this old is nobody's fault any more: Mayastor does not remove it. */
const OLD_SURPLUS_MS = 240_000
/** Between two replicas of one migration at most. */
const ONE_MIGRATION_MS = 300_000
/** Two servers' clocks may differ by two minutes, and times are written to the second. */
const SKEW_MS = 245_000
const COUNT_ROUTE = /^\/v0\/volumes\/([^/]+)\/replica_count\/(\d+)$/
const POOL_CORDON_ROUTE = /^\/v0\/pools\/([^/]+)\/cordon$/
const NODE_CORDON_ROUTE = /^\/v0\/nodes\/([^/]+)\/cordon\/([^/]+)$/
const ZONE_LABEL = 'topology.kubernetes.io/zone'

/** The count people want; a range where nobody can tell whether they or the operator raised it. */
interface Wanted {
  readonly low: number
  readonly high: number
}

/** What the operator is doing to one volume, as far as its requests show. */
interface Move {
  /** The replica its last raise of the count brought, or what Mayastor put in its place. */
  added: Replica | undefined
  /** The pool its last raise of the count brought a replica to. */
  addedTo: Pool | undefined
  /** The added one was lost at some time. */
  isAddedLost: boolean
  /** What Mayastor has made by itself since. */
  readonly made: Set<Replica>
  /** Zones the replicas were in before it began to move them. */
  zones: number
  /** When the count was last changed by it. */
  countedAt: number
  /** Snapshots there were when it raised the count, and when that last changed. */
  snapshots: number
  snapshotsChangedAt: number
  /** The replica on the node with the operator's label when it first asked for the count to be lowered. */
  leaving: Replica | undefined
  /** When it first sent a request to lower the count. */
  loweredAt: number | undefined
  /** When it last sent a change of the count. */
  sentAt: number
  /** The count was lowered, and there is a replica too many since. */
  surplusSince: number | undefined
}

export class Checker {
  readonly #mayastor: SimulatedMayastor
  readonly #limits: Required<CheckerLimits>
  readonly #violations: Violation[] = []
  /** The count each volume was created with, or a person set since. */
  readonly #wanted = new Map<string, Wanted>()
  /** What the operator asked to be cordoned: since when it could have been removed; undefined: not seen set yet. */
  readonly #cordons = new Map<string, number | undefined>()
  /** Marks of other people. */
  readonly #foreign = new Set<string>()
  readonly #moves = new Map<string, Move>()
  readonly #openSince = new Map<string, number>()
  readonly #markedAt = new Map<string, number>()
  readonly #reported = new Set<string>()
  readonly #moved = new Map<string, { readonly tier: string; readonly at: number }>()
  readonly #undone = new Map<string, number>()
  /** Replicas that Mayastor has recorded as healthy at some time. */
  readonly #trusted = new Set<string>()
  /** When a person last cordoned a pool in any way. */
  readonly #claimedAt = new Map<string, number>()
  /** What the operator cordoned just when a person did in another way: it may be left to them, or removed. */
  readonly #shared = new Set<string>()
  /** Pools of which a person was just told that they are cordoned now. */
  readonly #told = new Set<string>()
  readonly #outstanding = new Map<string, number>()
  /** When a change of a volume's count last came to nothing. */
  readonly #failedAt = new Map<string, number>()
  /** Volumes that people, or a creation that failed, have left to be destroyed. */
  readonly #doomed = new Set<string>()
  readonly #operationBy = new Map<string, MayastorEvent['by']>()
  #person = false
  #maxMoving = 0

  constructor(mayastor: SimulatedMayastor, limits: CheckerLimits) {
    this.#mayastor = mayastor
    this.#limits = { exempt: () => false, canClean: () => true, ...limits }
    mayastor.onEvent((event) => this.#see(event))
    for (const pool of mayastor.truth.pools.keys()) this.#openSince.set(pool, 0)
  }

  get violations(): readonly Violation[] {
    return this.#violations
  }

  /** Most volumes that had a replica too many at the same time. */
  get mostMoving(): number {
    return this.#maxMoving
  }

  /**
   * What somebody else than the operator does to marks and counts, all at one instant. `meant`: pools they mean to keep
   * replicas from, whether or not the bit is set already.
   */
  person<T>(act: () => T, meant: readonly string[] = []): T {
    this.#person = true
    this.#told.clear()
    try {
      return act()
    } finally {
      this.#person = false
      // One who was told that it is so already cannot know that it is not for long.
      for (const pool of meant) if (this.#told.has(pool)) this.#foreign.add(`pool ${pool}`)
    }
  }

  /** The operator sends a change of the count now; the answer is to be called when it cannot take effect any more. */
  sends(volume: string, count: number): () => void {
    const outstanding = this.#outstanding.get(volume) ?? 0
    if (outstanding > 0) this.report('one unresolved write per volume', `another request for volume ${volume} is sent`)
    this.#outstanding.set(volume, outstanding + 1)
    const { clock, truth } = this.#mayastor
    this.announces(volume, count)
    this.#moveOf(volume).sentAt = clock.now()
    return () => {
      this.#outstanding.set(volume, (this.#outstanding.get(volume) ?? 1) - 1)
      if (truth.volumes.get(volume)?.numReplicas !== count) this.#failedAt.set(volume, clock.now())
    }
  }

  /** The operator has written down that it will change the count. From then on a removal only goes forward. */
  announces(volume: string, count: number): void {
    const move = this.#moveOf(volume)
    const { clock, truth } = this.#mayastor
    const now = truth.volumes.get(volume)?.numReplicas ?? count
    if (count < now && move.loweredAt === undefined) move.loweredAt = clock.now()
  }

  /** A rule that somebody else watches over was broken. */
  report(rule: string, what: string): void {
    this.#report(this.#mayastor.clock.now(), rule, what)
  }

  /** What must hold once nothing moves any more: counts, cordons and labels are as other people left them. */
  atRest(at: number): void {
    for (const volume of this.#mayastor.truth.volumes.values()) {
      const { low, high } = this.#wantedOf(volume)
      const { numReplicas, replicas } = volume
      if (this.#limits.exempt(volume.uuid)) continue
      if (numReplicas < low || numReplicas > high || replicas.size > numReplicas) {
        const found = `count ${numReplicas} with ${replicas.size} replicas`
        this.#report(at, 'counts are as a person last set them', `volume ${volume.uuid} has ${found}, not ${high}`)
      }
    }
    for (const mark of this.#cordons.keys()) {
      if (this.#isCordoned(mark)) this.#report(at, 'nothing of ours is left behind', `${mark} is cordoned`)
    }
  }

  /** What is true at every moment; called at every event, and by whoever wants it looked at in between. */
  watch(): void {
    const at = this.#mayastor.clock.now()
    const cleanable = this.#limits.canClean()
    let moving = 0
    for (const volume of this.#mayastor.truth.volumes.values()) {
      const extra = volume.numReplicas - this.#wantedOf(volume).high
      if (extra > 0 && !this.#limits.exempt(volume.uuid)) moving++
      if (extra > 1) this.#report(at, 'at most one extra replica', `volume ${volume.uuid} has ${extra} too many`)
      const move = this.#moves.get(volume.uuid)
      if (move !== undefined && volume.replicas.size <= volume.numReplicas) move.surplusSince = undefined
    }
    this.#maxMoving = Math.max(this.#maxMoving, moving)
    if (moving > this.#limits.maxMoving) {
      this.#report(at, 'the cap on concurrent migrations', `${moving} volumes have an extra replica`)
    }
    for (const [mark, since] of this.#cordons) {
      if (!this.#isCordoned(mark)) {
        if (since !== undefined) this.#cordons.delete(mark)
        continue
      }
      this.#cordons.set(mark, cleanable ? (since ?? at) : at)
      if (cleanable && since !== undefined && at - since > CORDON_MS) {
        this.#report(at, 'cordons are gone within two minutes', `${mark} has been cordoned for more than 3 minutes`)
      }
    }
    for (const mark of this.#foreign) {
      if (!this.#isCordoned(mark)) this.#report(at, "other people's marks", `${mark} was set by a person and is gone`)
    }
  }

  #see(event: MayastorEvent): void {
    const volume = event.volume === undefined ? undefined : this.#mayastor.truth.volumes.get(event.volume)
    switch (event.kind) {
      case 'rest-received':
        this.#request(event)
        break
      case 'replica-count':
        if (volume !== undefined) this.#counted(event, volume)
        break
      case 'replica-created':
        if (volume !== undefined) this.#created(event, volume)
        break
      case 'removal-chosen':
        if (volume !== undefined) this.#chosen(event, volume)
        break
      case 'snapshot-taken':
        if (volume !== undefined) this.#moveOf(volume.uuid).snapshotsChangedAt = event.at
        break
      case 'operation-started':
        this.#operationBy.set(event.volume ?? '', event.by)
        break
      case 'healthy-recorded':
        this.#trusted.add(event.replica ?? '')
        break
      case 'volume-deleting':
        if (event.by === 'person' || event.by === 'core') this.#doomed.add(event.volume ?? '')
        break
      case 'volume-destroyed':
        if (event.by !== 'person' && !this.#doomed.has(event.volume ?? '')) {
          this.#report(event.at, 'no volume is deleted', `volume ${event.volume}`)
        }
        break
      case 'pool-uncordon':
        if (!this.#isCordoned(`pool ${event.pool}`)) this.#shared.delete(`pool ${event.pool}`)
        this.#openSince.set(event.pool ?? '', event.at)
        break
      case 'pool-added':
      case 'pool-drain':
        this.#openSince.set(event.pool ?? '', event.at)
        break
      case 'node-cordon':
      case 'pool-cordon':
      case 'pool-label':
        this.#markedAt.set(event.node ?? event.pool ?? '', event.at)
        break
      default:
        break
    }
    if (this.#person) this.#personActs(event)
    this.watch()
  }

  #personActs({ kind, pool, node, reason = '' }: MayastorEvent): void {
    const mark = pool !== undefined ? `pool ${pool}` : `node ${node} ${reason}`
    if (kind === 'pool-cordon') {
      this.#cordons.delete(mark)
      this.#shared.delete(mark)
      this.#claimedAt.set(mark, this.#mayastor.clock.now())
      this.#told.add(pool ?? '')
    }
    if (kind === 'node-cordon' && !reason.startsWith('drain ')) this.#foreign.add(mark)
    // Of a pool they may have taken another bit away than the operator's.
    if ((kind === 'pool-uncordon' || kind === 'node-uncordon') && !this.#isCordoned(mark)) {
      this.#foreign.delete(mark)
      this.#cordons.delete(mark)
    }
  }

  #request({ at, method, path = '', body }: MayastorEvent): void {
    if (method === 'GET' || method === undefined) return
    const [, uuid = '', count] = COUNT_ROUTE.exec(path) ?? []
    const [, pool] = POOL_CORDON_ROUTE.exec(path) ?? []
    const [, node, label = ''] = NODE_CORDON_ROUTE.exec(path) ?? []
    if (count === undefined && pool === undefined && node === undefined) {
      this.#report(at, 'what the operator may ask for', `${method} ${path}`)
      return
    }
    const volume = this.#mayastor.truth.volumes.get(uuid)
    if (volume !== undefined && count !== undefined) this.#countRequest(at, volume, Number(count), `${method} ${path}`)
    if (pool !== undefined && JSON.stringify(body) !== ONLY_REPLICAS) {
      this.#report(at, "other people's marks", `${method} ${path} ${JSON.stringify(body)}`)
    }
    const mark = pool !== undefined ? `pool ${pool}` : node !== undefined ? `node ${node} ${label}` : undefined
    if (mark === undefined || this.#cordons.has(mark) || this.#shared.has(mark)) return
    const isSet = this.#isCordoned(mark)
    // What is cordoned already was cordoned by somebody else, and asking again does not make it the operator's.
    if (method === 'PUT' && !isSet) {
      const isClaimed = at - (this.#claimedAt.get(mark) ?? Number.NEGATIVE_INFINITY) <= WINDOW_MS
      if (isClaimed) this.#shared.add(mark)
      else this.#cordons.set(mark, undefined)
    }
    if (node !== undefined && !OWN_LABEL.test(label)) {
      this.#report(at, 'labels are ours by name', `${method} ${path}`)
    }
    const since = this.#markedAt.get(pool ?? node ?? '') ?? 0
    if (method === 'DELETE' && isSet && pool !== undefined && at - since > WINDOW_MS) {
      this.#report(at, "other people's marks", `the cordon of ${mark} was not ours to remove`)
    }
  }

  #countRequest(at: number, volume: Volume, to: number, what: string): void {
    const move = this.#moveOf(volume.uuid)
    if (!this.#outstanding.has(volume.uuid)) move.sentAt = at
    if (volume.operation === 'SetReplica' && this.#operationBy.get(volume.uuid) !== 'person') {
      this.#report(at, 'one unresolved write per volume', `${what} while ${volume.operation} runs`)
    }
    const wanted = this.#wantedOf(volume)
    if (to > wanted.high + 1) this.#report(at, 'at most one extra replica', `${what}, wanted are ${wanted.high}`)
    if (to === volume.numReplicas + 1) {
      const undoneAt = this.#undone.get(volume.uuid)
      if (undoneAt !== undefined && at - undoneAt < this.#limits.cooldownMs - SKEW_MS) {
        this.#report(at, 'an undone move rests for the cooldown', what)
      }
      // Replicas of one migration move one right after the other.
      const again = at - move.countedAt < ONE_MIGRATION_MS
      const before = again ? move.zones : zones([...volume.replicas])
      const { sentAt } = move
      this.#moves.set(volume.uuid, { ...newMove(), sentAt, snapshots: volume.snapshots, zones: before })
      return
    }
    if (to !== volume.numReplicas - 1) return
    const labelled = [...volume.replicas].filter(({ node }) => hasOwnLabel(node))
    const [leaving] = labelled
    if (leaving === undefined) return
    if (this.#mayStandForAdded(leaving, move)) move.added = leaving
    const { added } = move
    const isAdded = leaving === added
    if (!isAdded && added !== undefined && volume.replicas.has(added) && !this.#trusted.has(added.uuid)) {
      this.#report(at, 'the added replica is trusted before another goes', what)
    }
    if (move.leaving === undefined) {
      const changed = volume.snapshots > move.snapshots && (move.loweredAt ?? at) - move.snapshotsChangedAt > WINDOW_MS
      if (changed && !isAdded && added !== undefined) {
        this.#report(at, 'snapshots are kept', `${what}, though a snapshot was taken since the move began`)
      }
      move.leaving = leaving
    } else if (
      isAdded &&
      move.leaving !== leaving &&
      volume.replicas.has(move.leaving) &&
      !losesZone(volume, move.leaving, move)
    ) {
      this.#report(at, 'no way back once a removal was sent', what)
    }
  }

  #isCordoned(mark: string): boolean {
    const [kind, id = '', label = ''] = mark.split(' ')
    const { pools, nodes } = this.#mayastor.truth
    return kind === 'pool' ? pools.get(id)?.cordon.replicas === true : nodes.get(id)?.cordonLabels.has(label) === true
  }

  #counted({ at, by, from = 0, to = 0 }: MayastorEvent, volume: Volume): void {
    const { uuid } = volume
    const move = this.#moveOf(uuid)
    if (by === 'person') {
      // The operator has asked for the same, and its answer may be lost: nobody can tell who raised it.
      // Until the operator can know what became of its own raise, the two look the same.
      const isOpen =
        (this.#outstanding.get(uuid) ?? 0) > 0 || at - (this.#failedAt.get(uuid) ?? -RESOLVE_MS) < RESOLVE_MS
      const both = to === from + 1 && isOpen
      this.#wanted.set(uuid, { low: both ? from : to, high: to })
      return
    }
    const { low } = this.#wantedOf(volume)
    if (to < low)
      this.#report(at, 'never below the wanted count', `volume ${uuid} from ${from} to ${to}, wanted ${low}`)
    move.countedAt = at
    if (to < from && volume.replicas.size > to) move.surplusSince = at
  }

  #created({ at, by, replica: uuid }: MayastorEvent, volume: Volume): void {
    const replica = [...volume.replicas].find((candidate) => candidate.uuid === uuid)
    if (replica === undefined) return
    const others = [...volume.replicas].filter((other) => other !== replica)
    const move = this.#moveOf(volume.uuid)
    if (by === 'hot-spare' && move.added !== undefined) {
      const isLost = !volume.replicas.has(move.added)
      if (isLost || (replica.pool === move.addedTo && move.added.pool !== move.addedTo)) move.added = replica
      move.isAddedLost ||= isLost
      move.made.add(replica)
    }
    if (by !== 'set-replica') return
    move.added = replica
    move.addedTo = replica.pool
    const { node_topology, pool_topology } = volume.topology
    const fits =
      carries(replica.pool.labels, pool_topology?.labelled.inclusion ?? {}) &&
      (node_topology === undefined ||
        ('explicit' in node_topology
          ? node_topology.explicit.allowed_nodes.includes(replica.node.id)
          : carries(replica.node.labels, node_topology.labelled.inclusion)))
    if (!fits || !isApart(replica, others, node_topology)) {
      this.#report(at, 'the topology of the volume holds', `replica ${uuid} is on ${replica.pool.id}`)
    }
    // All but the target are closed; one that somebody has opened just now cannot be helped.
    const open = [...this.#mayastor.truth.pools.values()].filter(
      (pool) =>
        !pool.cordon.replicas &&
        pool.drain === undefined &&
        !others.some(({ node }) => node === pool.node) &&
        (this.#openSince.get(pool.id) ?? 0) < move.sentAt - WINDOW_MS,
    )
    if (open.length > 1) {
      const names = open.map(({ id }) => id).join(' and ')
      this.#report(at, 'placement is steered', `replica ${uuid} was added while pools ${names} were open`)
    }
  }

  /** A replica is about to leave because a count was lowered: what stays must be worth as much as was wanted. */
  #chosen({ at, by, replica: uuid }: MayastorEvent, volume: Volume): void {
    const replicas = [...volume.replicas]
    // A hot-spare that gives a replica up because it failed does so without us, as pool drains and the like do.
    if (by !== 'set-replica' && (by !== 'hot-spare' || replicas.length <= volume.numReplicas)) return
    const leaving = replicas.find((replica) => replica.uuid === uuid)
    const wanted = this.#wantedOf(volume).low
    for (const [word, holds] of [
      ['synced', (replica: Replica) => replica.synced],
      ['recorded as healthy', (replica: Replica) => replica.healthyRecorded],
    ] as const) {
      const before = replicas.filter(holds).length
      const after = replicas.filter((replica) => replica !== leaving && holds(replica)).length
      if (after < Math.min(wanted, before)) {
        const what = `removing ${uuid} leaves volume ${volume.uuid} with ${after} replicas ${word} of ${wanted} wanted`
        this.#report(at, 'never less redundant', what)
      }
    }
    const move = this.#moves.get(volume.uuid)
    if (leaving === undefined || move?.added === undefined) return
    this.#steered(at, volume, leaving, move)
    if (hasOwnLabel(leaving.node) && losesZone(volume, leaving, move)) {
      const after = zones(replicas.filter((replica) => replica !== leaving))
      this.#report(at, 'zones never fall', `removing ${uuid} leaves volume ${volume.uuid} on ${after} zones`)
    }
    const { added } = move
    if (added === leaving) {
      // Where another one may stand for it just as well, that one may be what the move goes on with.
      const isClear = !replicas.some((other) => other !== leaving && this.#mayStandForAdded(other, move))
      if (hasOwnLabel(leaving.node) && isClear) this.#undone.set(volume.uuid, at)
      return
    }
    const to = this.#limits.tierOf(added.pool.id)
    if (to === undefined || to === this.#limits.tierOf(leaving.pool.id)) return
    const last = this.#moved.get(volume.uuid)
    if (last !== undefined && last.tier !== to && at - last.at < this.#limits.cooldownMs - SKEW_MS) {
      this.#report(at, 'no way back within the cooldown', `volume ${volume.uuid} moved to ${last.tier} and back`)
    }
    this.#moved.set(volume.uuid, { tier: to, at })
  }

  /** With others lost beside the added one, any that was made since and is on its tier may stand for it. */
  #mayStandForAdded(replica: Replica, { isAddedLost, made, addedTo }: Move): boolean {
    const tierOf = (pool: Pool | undefined) => pool && this.#limits.tierOf(pool.id)
    return isAddedLost && made.has(replica) && tierOf(replica.pool) === tierOf(addedTo)
  }

  /** Among replicas that are all sound, only the operator's label may say which of them goes. */
  #steered(at: number, volume: Volume, leaving: Replica, move: Move): void {
    const replicas = [...volume.replicas]
    const sound = replicas.every((r) => r.healthyRecorded && r.synced && r.node.online)
    const isMarked = (id: string) => (this.#markedAt.get(id) ?? 0) > move.sentAt - WINDOW_MS
    const explained =
      replicas.some(({ node }) => isMarked(node.id) && !hasOwnLabel(node)) ||
      replicas.some(({ pool }) => isMarked(pool.id)) ||
      (move.surplusSince !== undefined && at - move.surplusSince > OLD_SURPLUS_MS)
    if (!sound || explained || hasOwnLabel(leaving.node)) return
    this.#report(at, 'removal is steered', `${leaving.uuid} on ${leaving.pool.id} goes by chance`)
  }

  #wantedOf(volume: Volume): Wanted {
    const known = this.#wanted.get(volume.uuid)
    if (known !== undefined) return known
    const wanted = { low: volume.numReplicas, high: volume.numReplicas }
    this.#wanted.set(volume.uuid, wanted)
    return wanted
  }

  #moveOf(volume: string): Move {
    const known = this.#moves.get(volume)
    if (known !== undefined) return known
    const move = newMove()
    this.#moves.set(volume, move)
    return move
  }

  /** Each broken promise once. */
  #report(at: number, rule: string, what: string): void {
    const key = `${rule}: ${what}`
    if (this.#reported.has(key)) return
    this.#reported.add(key)
    this.#violations.push({ at, rule, what })
  }
}

/** For so long the operator does not know what became of a call without a definite answer, and a look more. */
const RESOLVE_MS = 90_000

const ONLY_REPLICAS = JSON.stringify({ replicas: true, snapshots: false, restores: false, import: false })

/** Whether a zone is lost with the replica that is not lost with the added one, of those there were before. */
function losesZone({ replicas }: Volume, replica: Replica, { added, zones: before }: Move): boolean {
  const without = (one: Replica | undefined) => zones([...replicas].filter((other) => other !== one))
  return without(replica) < Math.min(before, without(added))
}

function newMove(): Move {
  return {
    added: undefined,
    addedTo: undefined,
    isAddedLost: false,
    made: new Set(),
    zones: 1,
    countedAt: 0,
    snapshots: 0,
    snapshotsChangedAt: 0,
    leaving: undefined,
    loweredAt: undefined,
    sentAt: 0,
    surplusSince: undefined,
  }
}

function hasOwnLabel({ cordonLabels }: Node): boolean {
  return [...cordonLabels].some((label) => OWN_LABEL.test(label))
}

/** Distinct zones of nodes or, where those have none, of pools; one at least. */
function zones(replicas: readonly Replica[]): number {
  const zoneOf = ({ node, pool }: { readonly node: Node; readonly pool: Pool }) =>
    node.labels.get(ZONE_LABEL) ?? pool.labels.get(ZONE_LABEL)
  return Math.max(1, new Set(replicas.map(zoneOf).filter((zone) => zone !== undefined)).size)
}

/** Whether no other replica's node has the same value of a label that the volume wants its replicas spread over. */
function isApart({ node }: Replica, others: readonly Replica[], topology: Topology['node_topology']): boolean {
  if (topology === undefined || 'explicit' in topology) return true
  return Object.keys(topology.labelled.exclusion).every((key) => {
    const value = node.labels.get(key)
    return value === undefined || others.every((other) => other.node.labels.get(key) !== value)
  })
}

/** An empty wanted value asks for the key alone. */
function carries(labels: ReadonlyMap<string, string>, wanted: Readonly<Record<string, string>>): boolean {
  return Object.entries(wanted).every(([key, value]) => (value === '' ? labels.has(key) : labels.get(key) === value))
}
