import type { Actor } from './event.js'
import { type Failure, failure } from './failure.js'
import type { Cluster, Volume } from './model.js'

const LOCK_TRIES = 5
const LOCK_RETRY_MS = 200

/** What an operation waits for between two of its steps: its usual step time, or a time of its own. */
export interface Pause {
  readonly step: string
  readonly ms?: number
}

/** The steps of an operation. Whatever is between two `yield`s happens at one instant, others interleave in between. */
export type Steps = Generator<Pause, Failure | undefined>
export type Body = (operation: Operation) => Steps

/** Something the core is in the middle of. It goes on whether or not the caller is still there. */
export class Operation {
  readonly kind: string
  readonly volume: string | undefined
  readonly by: Actor
  readonly startedAt: number
  step = ''
  done = false
  failure: Failure | undefined
  readonly #watchers = new Set<() => void>()

  constructor(kind: string, volume: string | undefined, by: Actor, startedAt: number) {
    this.kind = kind
    this.volume = volume
    this.by = by
    this.startedAt = startedAt
  }

  /** Calls `fn` at every step and at the end; the returned function stops that. */
  watch(fn: () => void): () => void {
    this.#watchers.add(fn)
    return () => this.#watchers.delete(fn)
  }

  notify(): void {
    for (const fn of [...this.#watchers]) fn()
  }
}

interface Running {
  readonly steps: Steps
  cancelTimer: () => void
}

export function volumeLock(volume: Volume): string {
  return `volume ${volume.uuid}`
}

/** What changes the places of a group's replicas and targets holds this one too. */
export function groupLock(volume: Volume): string | undefined {
  return volume.affinityGroup === undefined ? undefined : `group ${volume.affinityGroup}`
}

/** Runs operations in simulated time and keeps the locks: one operation at a time per volume, and per affinity group. */
export class Operations {
  readonly running = new Map<Operation, Running>()
  readonly #locks = new Map<string, Operation>()
  readonly #cluster: Cluster

  constructor(cluster: Cluster) {
    this.#cluster = cluster
  }

  start(kind: string, volume: string | undefined, by: Actor, body: Body): Operation {
    const operation = new Operation(kind, volume, by, this.#cluster.clock.now())
    const entry: Running = { steps: body(operation), cancelTimer: () => {} }
    this.running.set(operation, entry)
    this.#advance(operation, entry)
    return operation
  }

  /** The same at one instant, for those who do not care how long things take: all its steps, and none of the waiting. */
  run(kind: string, volume: string | undefined, by: Actor, body: Body): Failure | undefined {
    const steps = body(new Operation(kind, volume, by, this.#cluster.clock.now()))
    for (;;) {
      const { done, value } = steps.next()
      if (done) return value
    }
  }

  #advance(operation: Operation, entry: Running): void {
    const { done, value } = entry.steps.next()
    if (done) {
      this.running.delete(operation)
      operation.done = true
      operation.failure = value
    } else {
      operation.step = value.step
      const { faults, settings } = this.#cluster
      const about = { operation: operation.kind, step: value.step, volume: operation.volume }
      const ms = value.ms ?? faults.stepMs(about) ?? settings.stepMs
      entry.cancelTimer = this.#cluster.after(ms, () => this.#advance(operation, entry))
    }
    operation.notify()
  }

  isLocked(key: string): boolean {
    return this.#locks.has(key)
  }

  tryLock(operation: Operation, key: string): boolean {
    if (this.#locks.has(key)) return false
    this.#locks.set(key, operation)
    return true
  }

  unlock(operation: Operation, key: string): void {
    if (this.#locks.get(key) === operation) this.#locks.delete(key)
  }

  /** Runs `steps` holding a lock. It is tried for a second, as the core does for a caller, then refused as a conflict. */
  *holding(operation: Operation, key: string | undefined, steps: () => Steps): Steps {
    if (key === undefined) return yield* steps()
    for (let tries = 1; !this.tryLock(operation, key); tries++) {
      if (tries === LOCK_TRIES) return conflict
      yield { step: 'lock', ms: LOCK_RETRY_MS }
    }
    try {
      return yield* steps()
    } finally {
      this.unlock(operation, key)
    }
  }

  /** The core dies: what it was in the middle of stays exactly where it is. */
  drop(reason: Failure): void {
    for (const [operation, entry] of [...this.running]) {
      entry.cancelTimer()
      this.running.delete(operation)
      operation.done = true
      operation.failure = reason
      this.#cluster.emit('operation-dropped', {
        ...(operation.volume === undefined ? {} : { volume: operation.volume }),
        by: operation.by,
        reason: `${operation.kind} at ${operation.step}`,
      })
      operation.notify()
    }
    this.#locks.clear()
  }
}

export const conflict: Failure = failure('Conflict', 'Conflict', 'Another operation is in progress')
