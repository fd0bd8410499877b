import type { MayastorEvent, Replica, SimulatedMayastor, Volume } from './mayastor/index.js'

/**
 * Watches the truth of the simulated Mayastor, not its REST view, and says where the operator broke a rule. It knows
 * the operator only by what arrives over REST: whoever acts through the simulator's own methods is somebody else.
 */

export interface CheckerLimits {
  /** Volumes that may have more replicas than wanted at once. */
  readonly maxMoving: number
  /** No volume moves back within this time. */
  readonly cooldownMs: number
  /** Which tier a pool is of; undefined: neither. */
  readonly tierOf: (pool: string) => string | undefined
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
const COUNT_ROUTE = /\/volumes\/([^/]+)\/replica_count\/(\d+)$/
const POOL_CORDON_ROUTE = /\/pools\/([^/]+)\/cordon$/
const NODE_CORDON_ROUTE = /\/nodes\/([^/]+)\/cordon\/([^/]+)$/

export class Checker {
  readonly #mayastor: SimulatedMayastor
  readonly #limits: CheckerLimits
  readonly #violations: Violation[] = []
  /** The count each volume was created with, or a person set since. */
  readonly #wanted = new Map<string, number>()
  /** What the operator asked to be cordoned: since when it is; undefined while the request has had no effect. */
  readonly #cordons = new Map<string, number | undefined>()
  readonly #reported = new Set<string>()
  readonly #added = new Map<string, Replica>()
  readonly #moved = new Map<string, { readonly tier: string; readonly at: number }>()
  #maxMoving = 0

  constructor(mayastor: SimulatedMayastor, limits: CheckerLimits) {
    this.#mayastor = mayastor
    this.#limits = limits
    mayastor.onEvent((event) => this.#see(event))
  }

  get violations(): readonly Violation[] {
    return this.#violations
  }

  /** Most volumes that had a replica too many at the same time. */
  get mostMoving(): number {
    return this.#maxMoving
  }

  /** What must hold once nothing moves any more: counts, cordons and labels are as other people left them. */
  atRest(at: number): void {
    for (const volume of this.#mayastor.truth.volumes.values()) {
      const wanted = this.#wantedOf(volume)
      if (volume.numReplicas !== wanted || volume.replicas.size !== wanted) {
        const found = `count ${volume.numReplicas} with ${volume.replicas.size} replicas`
        this.#report(at, 'counts are as a person last set them', `volume ${volume.uuid} has ${found}, not ${wanted}`)
      }
    }
    for (const mark of this.#cordons.keys()) {
      if (this.#isCordoned(mark)) this.#report(at, 'nothing of ours is left behind', `${mark} is cordoned`)
    }
  }

  #see(event: MayastorEvent): void {
    const volume = event.volume === undefined ? undefined : this.#mayastor.truth.volumes.get(event.volume)
    switch (event.kind) {
      case 'rest-received':
        this.#request(event)
        break
      case 'replica-count':
        if (event.by === 'person' && event.volume !== undefined && event.to !== undefined) {
          this.#wanted.set(event.volume, event.to)
        }
        break
      case 'replica-created':
        if (volume !== undefined) this.#created(event, volume)
        break
      case 'removal-chosen':
        if (volume !== undefined) this.#chosen(event, volume)
        break
      default:
        break
    }
    this.#watch(event.at)
  }

  #request({ at, method, path = '' }: MayastorEvent): void {
    if (method === 'GET' || method === undefined) return
    const [, uuid = '', count] = COUNT_ROUTE.exec(path) ?? []
    const volume = this.#mayastor.truth.volumes.get(uuid)
    if (count !== undefined && volume?.operation !== undefined) {
      this.#report(at, 'one unresolved write per volume', `${method} ${path} while ${volume.operation} runs`)
    }
    if (volume !== undefined && count !== undefined) {
      const to = Number(count)
      const wanted = this.#wantedOf(volume)
      if (to > wanted + 1) this.#report(at, 'at most one extra replica', `${method} ${path}, wanted are ${wanted}`)
      if (to < wanted) this.#report(at, 'never below the wanted count', `${method} ${path}, wanted are ${wanted}`)
    }
    const [, pool] = POOL_CORDON_ROUTE.exec(path) ?? []
    const [, node, label = ''] = NODE_CORDON_ROUTE.exec(path) ?? []
    const mark = pool !== undefined ? `pool ${pool}` : node !== undefined ? `node ${node} ${label}` : undefined
    if (mark === undefined || this.#cordons.has(mark)) return
    const isSet = this.#isCordoned(mark)
    // What is cordoned already was cordoned by somebody else, and asking again does not make it the operator's.
    if (method === 'PUT' && !isSet) this.#cordons.set(mark, undefined)
    if (method === 'PUT' && node !== undefined && !OWN_LABEL.test(label)) {
      this.#report(at, 'labels are ours by name', `node ${node} was cordoned by ${label}`)
    }
    if (method === 'DELETE' && isSet) {
      this.#report(at, "other people's marks", `the cordon of ${mark} was not ours to remove`)
    }
  }

  #isCordoned(mark: string): boolean {
    const [kind, id = '', label = ''] = mark.split(' ')
    const { pools, nodes } = this.#mayastor.truth
    return kind === 'pool' ? pools.get(id)?.cordon.replicas === true : nodes.get(id)?.cordonLabels.has(label) === true
  }

  #created({ at, replica: uuid }: MayastorEvent, volume: Volume): void {
    const replica = [...volume.replicas].find((candidate) => candidate.uuid === uuid)
    if (replica === undefined) return
    this.#added.set(volume.uuid, replica)
    const inclusion = volume.topology.pool_topology?.labelled.inclusion ?? {}
    for (const [key, value] of Object.entries(inclusion)) {
      const label = replica.pool.labels.get(key)
      if (label === undefined || (value !== '' && label !== value)) {
        this.#report(at, 'the topology of the volume holds', `replica ${uuid} is on ${replica.pool.id}, without ${key}`)
      }
    }
  }

  /** A replica is about to leave because a count was lowered: what stays must be worth as much as was wanted. */
  #chosen({ at, replica: uuid }: MayastorEvent, volume: Volume): void {
    const replicas = [...volume.replicas]
    const leaving = replicas.find((replica) => replica.uuid === uuid)
    const wanted = this.#wantedOf(volume)
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
    const added = this.#added.get(volume.uuid)
    if (leaving === undefined || added === undefined || added === leaving) return
    const to = this.#limits.tierOf(added.pool.id)
    if (to === undefined || to === this.#limits.tierOf(leaving.pool.id)) return
    const last = this.#moved.get(volume.uuid)
    if (last !== undefined && last.tier !== to && at - last.at < this.#limits.cooldownMs) {
      this.#report(at, 'no way back within the cooldown', `volume ${volume.uuid} moved to ${last.tier} and back`)
    }
    this.#moved.set(volume.uuid, { tier: to, at })
  }

  /** What is true at every moment. */
  #watch(at: number): void {
    let moving = 0
    for (const volume of this.#mayastor.truth.volumes.values()) {
      const extra = volume.numReplicas - this.#wantedOf(volume)
      if (extra > 0) moving++
      if (extra > 1) this.#report(at, 'at most one extra replica', `volume ${volume.uuid} has ${extra} too many`)
    }
    this.#maxMoving = Math.max(this.#maxMoving, moving)
    if (moving > this.#limits.maxMoving) {
      this.#report(at, 'the cap on concurrent migrations', `${moving} volumes have an extra replica`)
    }
    for (const [mark, since] of this.#cordons) {
      if (this.#isCordoned(mark)) this.#cordons.set(mark, since ?? at)
      else if (since !== undefined) this.#cordons.delete(mark)
      if (since !== undefined && at - since > CORDON_MS) {
        this.#report(at, 'cordons are gone within two minutes', `${mark} has been cordoned for more than 3 minutes`)
      }
    }
  }

  #wantedOf(volume: Volume): number {
    const known = this.#wanted.get(volume.uuid)
    if (known !== undefined) return known
    this.#wanted.set(volume.uuid, volume.numReplicas)
    return volume.numReplicas
  }

  /** Each broken promise once. */
  #report(at: number, rule: string, what: string): void {
    const key = `${rule}: ${what}`
    if (this.#reported.has(key)) return
    this.#reported.add(key)
    this.#violations.push({ at, rule, what })
  }
}
