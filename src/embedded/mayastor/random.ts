/** What the real thing leaves open, and is decided by whoever decides ties. */
export type Choice =
  /** Which of the pools with the best score takes a new replica. */
  | 'placement'
  /** Which of the replicas that rank first leaves. */
  | 'removal'
  /** Which healthy child a rebuild copies from. */
  | 'rebuild-source'
  /** Which of the healthy replicas a nexus is built from after an unclean shutdown. */
  | 'nexus-source'
  /** Which of the nodes with the fewest targets gets one. */
  | 'target-node'
  /** Which of the volumes the reconciler has to look at is next. */
  | 'reconcile-volume'
  /** Which of the replicas that could be attached is next. */
  | 'attach-replica'
  /** Which of the largest replicas of a full pool is moved. */
  | 'move-replica'
  /** Which of the pools whose drain waits longest comes first, and which of a pool's replicas. */
  | 'drain-pool'
  | 'drain-replica'
  /** How a child fails whose pool ran full during its rebuild. */
  | 'rebuild-fault'
  /** When within its period a node is polled, in ms. */
  | 'poll-phase'

/** Takes one of several things the real thing might do equally well. */
export type Choose = <T>(what: Choice, options: readonly T[]) => T

/** A small seeded generator (mulberry32): the same seed gives the same cluster, uuids and ties. */
export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** A whole number from 0 up to but not including `bound`. */
  below(bound: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * bound)
  }

  uuid(): string {
    const word = () => this.below(0x100000000).toString(16).padStart(8, '0')
    const hex = word() + word() + word() + word()
    const variant = '89ab'[this.below(4)]
    return [
      hex.slice(0, 8),
      hex.slice(8, 12),
      `4${hex.slice(13, 16)}`,
      `${variant}${hex.slice(17, 20)}`,
      hex.slice(20),
    ].join('-')
  }

  readonly choose = <T>(_what: string, options: readonly T[]): T => {
    if (options.length === 0) throw new Error('choose needs at least one option')
    return options[this.below(options.length)] as T
  }
}
