/** A REST request that changes something, as a fault rule sees it. */
export interface Call {
  readonly method: string
  readonly path: string
  /** The volume in the path, if any. */
  readonly volume: string | undefined
  readonly body: unknown
  /** How many such requests there have been, this one included, since the cluster was made. */
  readonly count: number
}

export interface CallFault {
  /**
   * before: in the way to the core. After `delayMs` (also when the caller has given up: the request was on its way)
   * the request goes through, unless there is an `answer` or `drop`, in which case it never reaches the core.
   * during: the core starts, and `delayMs` later the caller gets `answer` or `drop` while the core goes on.
   * after: the core finishes; then comes `delayMs`, and `answer` or `drop` in place of the real answer.
   */
  readonly when: 'before' | 'during' | 'after'
  readonly delayMs?: number
  readonly answer?: { readonly status: number; readonly kind: string; readonly details: string }
  /** The connection is closed without an answer. */
  readonly drop?: boolean
}

export type CallRule = (call: Call) => CallFault | undefined

export interface Step {
  /** As in `spec.operation` (SetReplica, Publish, ...), else `reconcile`, `cordon`, `label`, `drain`, `io-engine`. */
  readonly operation: string
  readonly step: string
  readonly volume: string | undefined
}

type RuleName = 'create' | 'destroy' | 'attach' | 'rebuild-start' | 'dirty' | 'persist'

/** What goes wrong. Everything may be changed at any time and holds from then on. */
export class Faults {
  #callRule: CallRule = () => undefined
  #stepRule: (step: Step) => number | undefined = () => undefined
  readonly #rules: Readonly<Record<RuleName, Rule>> = {
    create: new Rule(),
    destroy: new Rule(),
    attach: new Rule(),
    'rebuild-start': new Rule(),
    dirty: new Rule(),
    persist: new Rule(),
  }
  /** etcd cannot be written: operations do not start, and those that run end unrecorded. */
  storeDown = false
  /** Rebuilds that may run at once in the cluster; undefined means any number. */
  rebuildLimit: number | undefined

  /** Consulted once for every mutating REST request. */
  onCall(rule: CallRule): void {
    this.#callRule = rule
  }

  /** Overrides how long inner steps of operations take, in simulated ms. */
  onStep(rule: (step: Step) => number | undefined): void {
    this.#stepRule = rule
  }

  /** Replicas cannot be created on this pool (or on those the function picks), `times` times (default: always). */
  createFails(pool: string | ((pool: string) => boolean), times?: number): void {
    this.#rules.create.add(pool, times)
  }

  /** This replica cannot be destroyed on its io-engine. */
  destroyFails(replica: string | ((replica: string) => boolean), times?: number): void {
    this.#rules.destroy.add(replica, times)
  }

  /** Replicas cannot be attached to this volume's nexus. */
  attachFails(volume: string | ((volume: string) => boolean), times?: number): void {
    this.#rules.attach.add(volume, times)
  }

  /** A child attached to this volume's nexus cannot start to rebuild and is closed as faulted. */
  rebuildStartFails(volume: string | ((volume: string) => boolean), times?: number): void {
    this.#rules['rebuild-start'].add(volume, times)
  }

  /** An earlier change of this volume is not persisted yet, so every new one is refused. */
  storeDirty(volume: string | ((volume: string) => boolean), times?: number): void {
    this.#rules.dirty.add(volume, times)
  }

  /** A write to etcd about this volume fails: at an operation's start it is refused, at its end it stays unrecorded. */
  persistFails(volume: string | ((volume: string) => boolean), times?: number): void {
    this.#rules.persist.add(volume, times)
  }

  /** Takes back everything set so far. */
  clear(): void {
    this.#callRule = () => undefined
    this.#stepRule = () => undefined
    for (const rule of Object.values(this.#rules)) rule.clear()
    this.rebuildLimit = undefined
    this.storeDown = false
  }

  ofCall(call: Call): CallFault | undefined {
    return this.#callRule(call)
  }

  stepMs(step: Step): number | undefined {
    return this.#stepRule(step)
  }

  hits(what: RuleName, id: string): boolean {
    return this.#rules[what].hits(id)
  }
}

class Rule {
  #entries: { readonly matches: (id: string) => boolean; left: number }[] = []

  add(which: string | ((id: string) => boolean), times = Number.POSITIVE_INFINITY): void {
    this.#entries.push({ matches: typeof which === 'string' ? (id) => id === which : which, left: times })
  }

  hits(id: string): boolean {
    const entry = this.#entries.find((e) => e.left > 0 && e.matches(id))
    if (entry === undefined) return false
    entry.left--
    return true
  }

  clear(): void {
    this.#entries = []
  }
}
