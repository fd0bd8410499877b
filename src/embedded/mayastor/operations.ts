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

/** Runs operations in simulated time and keeps the locks: one operation at a time per volume or affinity group. */
export class Operations {
  readonly running = new Map<Operation, Running>()
  readonly #locks = new Map<string, Operation>()
  readonly #cluster: Cluster

  constructor(cluster: Cluster) {
    this.#cluster = cluster
  }

  start(kind: string, volume: string | undefined, by: Actor, body: (operation: Operation) => Steps): Operation {
    const operation = new Operation(kind, volume, by, this.#cluster.clock.now())
    const entry: Running = { steps: body(operation), cancelTimer: () => {} }
    this.running.set(operation, entry)
    this.#advance(operation, entry)
    return operation
  }

  #advance(operation: Operation, entry: Running): void {
    const { done, value } = entry.steps.next()
    if (done) {
      this.running.delete(operation)
      operation.done = true
      operation.failure = value
    } else {
      operation.step = value.step
      const { clock, faults, settings } = this.#cluster
      const about = { operation: operation.kind, step: value.step, volume: operation.volume }
      const ms = value.ms ?? faults.stepMs(about) ?? settings.stepMs
      entry.cancelTimer = clock.after(ms, () => this.#advance(operation, entry))
    }
    operation.notify()
  }

  isLocked(volume: Volume): boolean {
    return this.#locks.has(lockOf(volume))
  }

  tryLock(operation: Operation, volume: Volume): boolean {
    const key = lockOf(volume)
    if (this.#locks.has(key)) return false
    this.#locks.set(key, operation)
    return true
  }

  /** Tries for a second, as the core does for a caller, then gives up with a conflict. */
  *lock(operation: Operation, volume: Volume): Steps {
    for (let tries = 1; !this.tryLock(operation, volume); tries++) {
      if (tries === LOCK_TRIES) return conflict(volume)
      yield { step: 'lock', ms: LOCK_RETRY_MS }
    }
    return undefined
  }

  unlock(operation: Operation): void {
    for (const [key, holder] of this.#locks) if (holder === operation) this.#locks.delete(key)
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

function lockOf(volume: Volume): string {
  return volume.affinityGroup === undefined ? `volume ${volume.uuid}` : `group ${volume.affinityGroup}`
}

export function conflict(volume: Volume): Failure {
  return failure('Conflict', 'Conflict', `Volume '${volume.uuid}' is locked by another operation`)
}
