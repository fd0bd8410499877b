import type { Clock } from '../clock.js'

/** Real time given to an aborted call to reach its far end, before simulated time goes on. */
const ABORT_GRACE_MS = 10
/** Turns of the event loop after which nobody without sockets has anything left to do but to wait. */
const QUIET_TURNS = 4

/** How parties talk: over sockets, or by calling each other, so that the same seed gives the same run to the letter. */
export type Network = 'loopback' | 'memory'

interface Timer {
  readonly at: number
  readonly order: number
  readonly fn: () => void
  /** It may make a caller give up on a call whose far end sleeps. */
  readonly deadline: boolean
}

/**
 * Simulated time for parties that live in one process.
 *
 * Time stands still while work is under way and jumps to the next timer when nothing else can happen. Over sockets
 * that is when every task (a hook call, a turn of the server's loop) is itself waiting for a simulated delay; in memory
 * it is when the event loop has nothing to do. A two-hour run then takes as long as its calls do, and no pause of the
 * machine can make a simulated deadline pass.
 */
export class SimulatedClock implements Clock {
  #now: number
  readonly #start: number
  readonly #network: Network
  #timers: Timer[] = []
  #order = 0
  #tasks = 0
  #sleeping = 0
  #wake: (() => void) | undefined

  constructor(startMs: number, network: Network = 'loopback') {
    this.#now = startMs
    this.#start = startMs
    this.#network = network
  }

  now(): number {
    return this.#now
  }

  monotonic(): number {
    return this.#now - this.#start
  }

  after(delayMs: number, fn: () => void): () => void {
    return this.#add(delayMs, fn, false)
  }

  /** The same clock for those who call others: their timers are deadlines of calls. */
  forCallers(): Clock {
    return {
      now: () => this.now(),
      monotonic: () => this.monotonic(),
      after: (delayMs, fn) => this.#add(delayMs, fn, true),
    }
  }

  #add(delayMs: number, fn: () => void, deadline: boolean): () => void {
    const timer = { at: this.#now + Math.max(0, delayMs), order: this.#order++, fn, deadline }
    let low = 0
    let high = this.#timers.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const other = this.#timers[middle] as Timer
      if (other.at < timer.at || (other.at === timer.at && other.order < timer.order)) low = middle + 1
      else high = middle
    }
    this.#timers.splice(low, 0, timer)
    this.#poke()
    return () => {
      const index = this.#timers.indexOf(timer)
      if (index >= 0) this.#timers.splice(index, 1)
    }
  }

  /** Runs `work` as a task: time stands still until it settles, except while it waits in `sleep`. */
  async task<T>(work: () => Promise<T>): Promise<T> {
    this.#tasks++
    try {
      return await work()
    } finally {
      this.#tasks--
      this.#poke()
    }
  }

  /**
   * Waits `delayMs` of simulated time on behalf of one running task: while it lasts that task does not hold time
   * still. Call it from the far end of a call a task is waiting for, at most once per task at a time. Aborting ends
   * the wait at once (the caller has given up and goes on by itself).
   */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.resolve()
    this.#sleeping++
    return new Promise((resolve) => {
      const done = () => {
        cancel()
        signal?.removeEventListener('abort', done)
        this.#sleeping--
        this.#poke()
        resolve()
      }
      const cancel = this.after(delayMs, done)
      signal?.addEventListener('abort', done)
    })
  }

  /**
   * Lets time pass until `untilMs` (the value of `now()` at the end), or until `stop()` says so.
   * `pace`, called before each jump with its length in ms, may wait: that is how a demo is slowed to human speed.
   */
  async run(
    untilMs: number,
    stop: () => boolean = () => false,
    pace?: (jumpMs: number) => Promise<void>,
  ): Promise<void> {
    while (!stop()) {
      await this.#quiet()
      if (stop()) return
      const next = this.#timers[0]
      const at = Math.min(next?.at ?? untilMs, untilMs)
      if (pace !== undefined && at > this.#now) {
        await pace(at - this.#now)
        if (this.#network === 'loopback' && this.#tasks > this.#sleeping) continue
      }
      if (next === undefined || next.at > untilMs) {
        this.#now = Math.max(this.#now, untilMs)
        return
      }
      this.#timers.shift()
      this.#now = Math.max(this.#now, next.at)
      const sleeping = this.#sleeping
      next.fn()
      if (this.#network === 'memory') continue
      // What the timer set going (a resumed handler, a new task) starts in microtasks: let it, before looking again.
      await new Promise<void>((resolve) => setImmediate(resolve))
      // A deadline that fired in the middle of a call ends the far end's sleep only once the closed connection is seen.
      if (next.deadline && this.#sleeping === sleeping) await this.#poked(ABORT_GRACE_MS)
    }
  }

  /** Settles when everybody waits for simulated time to pass. */
  async #quiet(): Promise<void> {
    if (this.#network === 'memory') {
      for (let turn = 0; turn < QUIET_TURNS; turn++) await new Promise<void>((resolve) => setImmediate(resolve))
      return
    }
    while (this.#tasks > this.#sleeping) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  #poked(withinMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, withinMs)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  #poke(): void {
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
  }
}
