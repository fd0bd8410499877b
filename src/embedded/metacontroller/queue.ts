import type { Clock } from '../../clock.js'
import { Timers } from './timers.js'

const FIRST_RETRY_MS = 5
const LONGEST_RETRY_MS = 1_000_000
/** Retries of all keys of one controller together: bucket of 100, 10 a second. */
const BURST = 100
const RETRIES_PER_SECOND = 10
/** A key that is wanted again in the very moment it was worked on comes back after what a round trip takes. */
const ROUND_TRIP_MS = 1

/**
 * A client-go work queue: a key is queued once, never worked on twice at a time, and wanted again while it is worked
 * on comes back afterwards. Delayed additions: the earliest pending one wins. Failures back off.
 */
export class WorkQueue {
  readonly #clock: Clock
  readonly #onReady: () => void
  #ready: string[] = []
  readonly #wanted = new Set<string>()
  readonly #processing = new Set<string>()
  readonly #delayed = new Map<string, { at: number; cancel: () => void }>()
  readonly #failures = new Map<string, number>()
  readonly #retrying = new Set<string>()
  readonly #started = new Map<string, number>()
  readonly #timers: Timers
  #tokens = BURST
  #tokensAt: number
  #closed = false

  constructor(clock: Clock, onReady: () => void) {
    this.#clock = clock
    this.#timers = new Timers(clock)
    this.#onReady = onReady
    this.#tokensAt = clock.monotonic()
  }

  add(key: string): void {
    if (this.#closed || this.#wanted.has(key)) return
    this.#wanted.add(key)
    if (!this.#processing.has(key)) this.#makeReady(key)
  }

  addAfter(key: string, delayMs: number): void {
    if (this.#closed) return
    if (delayMs <= 0) {
      this.add(key)
      return
    }
    const at = this.#clock.now() + delayMs
    const pending = this.#delayed.get(key)
    if (pending !== undefined) {
      if (pending.at <= at) return
      pending.cancel()
    }
    const cancel = this.#timers.after(delayMs, () => {
      this.#delayed.delete(key)
      this.add(key)
    })
    this.#delayed.set(key, { at, cancel })
  }

  /** Again after `delayMs`, without counting as a failure (HTTP 429). */
  retryAfter(key: string, delayMs: number): void {
    this.#retrying.add(key)
    this.addAfter(key, delayMs)
  }

  addRateLimited(key: string): void {
    const failures = this.#failures.get(key) ?? 0
    this.#failures.set(key, failures + 1)
    this.retryAfter(key, Math.max(Math.min(FIRST_RETRY_MS * 2 ** failures, LONGEST_RETRY_MS), this.#tokenDelay()))
  }

  forget(key: string): void {
    this.#failures.delete(key)
    this.#retrying.delete(key)
  }

  get(): string | undefined {
    const key = this.#ready.shift()
    if (key === undefined) return undefined
    this.#wanted.delete(key)
    this.#processing.add(key)
    this.#started.set(key, this.#clock.now())
    return key
  }

  done(key: string): void {
    this.#processing.delete(key)
    if (this.#wanted.has(key)) this.#makeReady(key)
  }

  /** Nothing wanted now, nothing being worked on, nothing waiting to be tried again. */
  idle(): boolean {
    return this.#wanted.size === 0 && this.#processing.size === 0 && this.#retrying.size === 0
  }

  close(): void {
    this.#closed = true
    this.#ready = []
    this.#timers.clear()
  }

  #makeReady(key: string): void {
    if (this.#started.get(key) === this.#clock.now()) {
      this.#timers.after(ROUND_TRIP_MS, () => this.#push(key))
      return
    }
    this.#push(key)
  }

  #push(key: string): void {
    if (this.#closed) return
    this.#ready.push(key)
    this.#onReady()
  }

  #tokenDelay(): number {
    const now = this.#clock.monotonic()
    this.#tokens = Math.min(BURST, this.#tokens + ((now - this.#tokensAt) / 1000) * RETRIES_PER_SECOND) - 1
    this.#tokensAt = now
    return this.#tokens >= 0 ? 0 : (-this.#tokens / RETRIES_PER_SECOND) * 1000
  }
}
